"""The listening sockets: each is opened once, handed to every worker, and kept while the configuration names it.

One socket shared by all workers: decision record 0010 has the numbers. As the supervisor holds it too, a worker that
dies or stops takes no waiting connection with it.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Final, NamedTuple

from ingressd.ipc.orders import BACKLOG

UNSENT_BYTES: Final = 131072
"""What the kernel takes of an answer before it can send it (TCP_NOTSENT_LOWAT, which connections inherit). Without it a
connection that is not read grows to 4 MiB of the kernel's memory."""

Wanted = tuple[tuple[str, str, int], ...]
"""(name, host, port) of each listener."""


def open_listener(host: str, port: int) -> socket.socket:
    """A listening, non-blocking socket on an IP address; "::" takes IPv4 too, and IPv4 alone where the kernel has no
    IPv6. Raises OSError, OverflowError."""
    try:
        socket.inet_pton(socket.AF_INET6, host)
        family = socket.AF_INET6
    except OSError:
        family = socket.AF_INET
    try:
        listening = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        # Nodes booted with ipv6.disable=1: one configuration has to serve every cluster.
        if host != "::" or error.errno != errno.EAFNOSUPPORT:
            raise
        return open_listener("0.0.0.0", port)  # noqa: S104 - what "::" means there
    try:
        # Restarting must not wait for connections of the last run in TIME_WAIT.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        listening.bind((host, port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except (OSError, OverflowError):
        listening.close()
        raise
    return listening


class Bound(NamedTuple):
    """A listener and its socket."""

    host: str
    port: int
    socket: socket.socket


class Changes(NamedTuple):
    """What a new list of listeners came to: names to close, names newly bound, names that failed and why."""

    closed: tuple[str, ...]
    opened: tuple[str, ...]
    failed: dict[str, str]


class Listeners:
    """The listeners by name. Sockets that were `inherited`, by host and port, are taken by the first who want them."""

    def __init__(self, inherited: dict[tuple[str, int], socket.socket] | None = None) -> None:
        self._inherited = inherited or {}
        self.bound: dict[str, Bound] = {}
        self.failed: dict[str, str] = {}
        self._wanted: Wanted = ()

    def want(self, wanted: Wanted) -> Changes:
        """Make these and no others. A listener whose address did not change keeps its socket."""
        self._wanted = wanted
        addresses = {name: (host, port) for name, host, port in wanted}
        closed = []
        kept, self._inherited = self._inherited, {}
        for name, bound in list(self.bound.items()):
            if addresses.get(name) != (bound.host, bound.port):
                closed.append(name)
                # An address that only changes its name goes over with its socket, and what waits in it.
                kept[bound.host, bound.port] = self.bound.pop(name).socket
        for name in set(self.failed) - set(addresses):
            del self.failed[name]
        changes = self._open(kept)
        for unused in kept.values():
            unused.close()
        return Changes(tuple(closed), changes.opened, changes.failed)

    def retry(self) -> Changes:
        """Try again what could not be bound; only news count as failed."""
        return self._open({})

    def _open(self, kept: dict[tuple[str, int], socket.socket]) -> Changes:
        opened = []
        failed = {}
        for name, host, port in self._wanted:
            if name in self.bound:
                continue
            try:
                listening = kept.pop((host, port), None) or open_listener(host, port)
            except (OSError, OverflowError) as error:
                reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
                message = f"cannot listen on {address(host, port)}: {reason}"
                if self.failed.get(name) != message:
                    failed[name] = self.failed[name] = message
                continue
            self.failed.pop(name, None)
            self.bound[name] = Bound(host, port, listening)
            opened.append(name)
        return Changes((), tuple(opened), failed)

    def close(self) -> None:
        """Close the supervisor's own copy of every socket."""
        for unused in self._inherited.values():
            unused.close()
        self._inherited = {}
        for bound in self.bound.values():
            bound.socket.close()
        self.bound.clear()
        self._wanted = ()


def address(host: str, port: int) -> str:
    """Host and port as people write them, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
