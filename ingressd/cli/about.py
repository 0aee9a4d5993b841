"""`ingressd version`."""

from __future__ import annotations

import platform
import ssl
import sys

import ingressd.protocol.h1 as h1
from ingressd.version import __version__


def run() -> int:
    """Print versions; compiled means that the hot modules run as extensions."""
    built = "pure" if (h1.__file__ or "").endswith(".py") else "compiled"
    sys.stdout.write(
        f"ingressd {__version__}\nPython {platform.python_version()}\n{ssl.OPENSSL_VERSION}\nbuild {built}\n"
    )
    return 0
