"""Write docs/settings.md from the tables that the parser itself uses: python docs/write_settings.py"""

from __future__ import annotations

from pathlib import Path

from ingressd.settings.configmap import settings_reference
from ingressd.settings.flags import flags_reference

PAGE = Path(__file__).with_name("settings.md")
HEAD = """# Settings and flags

Written by `python docs/write_settings.py` from the tables that the parser uses; do not edit. Values are strings, as
in a ConfigMap and on a command line. Unset keys have the defaults of ingress-nginx 1.15; where ours differs, the table
says so.

## `settings`, and a ConfigMap named by `settingsConfigMap`

"""


def page() -> str:
    """The whole page."""
    return HEAD + settings_reference() + "\n## `flags`\n\n" + flags_reference()


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
