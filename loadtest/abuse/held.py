"""Which clients' connections a server has open, by what the kernel says of its side.

The client's side does not show it: what was said last, and the end behind it, may wait for ever in front of a window of
zero. A socket that no process has open any more has no inode.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from loadtest.control.owners import inodes_by_peer_port

LOOK_S = 0.2


def held(port: int) -> set[int]:
    """The remote ports of the connections of a local port that some process has open."""
    return set(inodes_by_peer_port(Path("/proc/net/tcp").read_text(), port)) - {0}  # The listening socket itself.


class Lives:
    """How long each connection of a local port has been there, to within `LOOK_S`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.first: dict[int, float] = {}
        self.last: dict[int, float] = {}
        self.open: set[int] = set()

    def look(self) -> None:
        """Look once."""
        now = time.monotonic()
        self.open = held(self._port)
        for client in self.open:
            self.first.setdefault(client, now)
            self.last[client] = now

    def watch(self, seconds: float) -> None:
        """Look for this long, or until nobody is left."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.look()
            if not self.open:
                return
            time.sleep(LOOK_S)

    def longest_s(self, since: Mapping[int, float] | None = None) -> float:
        """The longest of all lives, until it was last seen; from `since` on (by port) where it says so."""
        began = {**self.first, **(since or {})}
        return max((self.last[client] - began[client] for client in self.first), default=0.0)
