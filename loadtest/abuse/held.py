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


def held(port: int) -> dict[int, int]:
    """The connections of a local port that some process has open: remote port to inode."""
    found = inodes_by_peer_port(Path("/proc/net/tcp").read_text(), port)
    found.pop(0, None)  # The listening socket itself.
    return found


class Lives:
    """How long each connection of a local port has been there, to within `LOOK_S`.

    Keyed by inode: a client that was reset gives its port back, and the next may have it.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._client: dict[int, int] = {}
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}
        self.open: frozenset[int] = frozenset()

    @property
    def count(self) -> int:
        """How many there were."""
        return len(self._first)

    def look(self) -> None:
        """Look once."""
        now = time.monotonic()
        found = held(self._port)
        self.open = frozenset(found.values())
        for client, inode in found.items():
            self._client[inode] = client
            self._first.setdefault(inode, now)
            self._last[inode] = now

    def watch(self, seconds: float) -> None:
        """Look for this long, or until nobody is left."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.look()
            if not self.open:
                return
            time.sleep(LOOK_S)

    def longest_s(self) -> float:
        """The longest of all lives, until it was last seen."""
        return max((self._last[inode] - first for inode, first in self._first.items()), default=0.0)

    def longest_since_s(self, began: Mapping[int, float]) -> float:
        """The same of these clients (by port), from the moment on that is given for each."""
        ends: dict[int, float] = {}
        for inode in sorted(self._first, key=lambda inode: self._first[inode]):
            client, last = self._client[inode], self._last[inode]
            if client in began and last >= began[client]:
                ends.setdefault(client, last)
        return max((end - began[client] for client, end in ends.items()), default=0.0)
