"""A network namespace whose loopback owns the cluster's ranges, and a command inside it.

The API server refuses loopback addresses in EndpointSlices, so pods need others, and those must reach nothing real.
Root makes the namespace directly; anybody else through a user namespace, where the system allows them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from kube import addresses

NEW = "INGRESSD_KUBE_NEW"
"""Set in the environment of a process whose namespace is new and not yet arranged."""
INSIDE = "INGRESSD_KUBE_INSIDE"
"""Set in the environment of everything that runs in an arranged namespace."""


class NoNamespaceError(Exception):
    """This machine does not let us; the message says what is missing."""


def is_inside() -> bool:
    """Does this process run in a namespace made by `enter`?"""
    return os.environ.get(INSIDE) == "1"


def may_change_user() -> bool:
    """Are there users besides ours? In a user namespace of an unprivileged user there are none."""
    return int(Path("/proc/self/uid_map").read_text().split()[2]) > 1


def enter(command: list[str]) -> NoReturn:
    """Replace this process by `command` in a new namespace. Raises NoNamespaceError."""
    for tool in ("unshare", "ip", "setpriv", "mount"):
        if shutil.which(tool) is None:
            raise NoNamespaceError(f"needs `{tool}` (Debian: util-linux, mount, iproute2)")
    # A mount namespace too, so that a user namespace may mount in it, and nothing that is mounted stays.
    flags = ["--net", "--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--net", "--mount"]
    probe = subprocess.run(["unshare", *flags, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        raise NoNamespaceError(f"needs root, or user namespaces: {probe.stderr.strip()}")
    os.environ[NEW] = "1"
    os.execvp("unshare", ["unshare", *flags, sys.executable, "-m", "kube", "inside", "--", *command])


def arrange() -> None:
    """Give this (new) namespace its loopback and routes."""
    _ip("link", "set", "lo", "up")
    if not Path("/proc/net/if_inet6").exists():
        raise NoNamespaceError("needs a kernel with IPv6: the cluster is dual stack")
    # IPv6 lets nobody bind to an address that a route alone makes local.
    Path("/proc/sys/net/ipv6/ip_nonlocal_bind").write_text("1")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
    # Duplicate address detection would keep every new address back for a second.
    Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
    for address, family in zip(addresses.NODE, ("-4", "-6"), strict=True):
        _ip(family, "addr", "add", address, "dev", "lo")
    for v4, v6 in addresses.LOOPBACK_OWNS:
        _ip("route", "add", "local", v4, "dev", "lo")
        _ip("-6", "route", "add", "local", v6, "dev", "lo")
    del os.environ[NEW]
    os.environ[INSIDE] = "1"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
