"""Give memory back after a burst of connections.

A handshake borrows some 30 KiB for a few milliseconds. When thousands are under way at once, what they borrowed lies
between what the connections keep, and malloc returns none of it: 4,000 connections begun together stayed at 38 KiB
each, and at 40 after they were closed; trimming brought that to 21 and 1 (10 ms for a heap of 150 MiB).
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from typing import Final

EVENTS: Final = 1024
"""Handshakes and closed connections after which it is worth a look."""

QUIET_S: Final = 5.0
"""How long to wait after that, so that one burst is trimmed once, when it is over."""


def libc_trim() -> Callable[[], None] | None:
    """glibc's `malloc_trim`, None with another C library."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return None
    trim.argtypes, trim.restype = (ctypes.c_size_t,), ctypes.c_int
    return lambda: trim(0)


class HeapTrim:
    """Counts what leaves holes in the heap and trims it when there are many."""

    __slots__ = ("_events", "_loop", "_trim")

    def __init__(self, loop: asyncio.AbstractEventLoop, trim: Callable[[], None] | None) -> None:
        self._loop = loop
        self._trim = trim
        self._events = 0

    def count(self) -> None:
        """One handshake, or one closed connection."""
        self._events += 1
        if self._events == EVENTS and self._trim is not None:
            self._loop.call_later(QUIET_S, self._now)

    def _now(self) -> None:
        self._events = 0
        if self._trim is not None:
            self._trim()
