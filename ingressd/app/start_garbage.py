"""The garbage collector while a process reads its world for the first time."""

from __future__ import annotations

import asyncio
import gc
from typing import Final

from ingressd.proxy.tls.heap import libc_trim

REST_S: Final = 1.0
"""So long after the start is over memory is given back, which takes some milliseconds."""
LONGEST_S: Final = 30.0
"""A start that takes longer is waiting for something, and must not pile up garbage meanwhile."""


class StartGarbage:
    """No collection during the start: nearly everything that is made stays, and looking through it again and again
    took 0.6 of 2 seconds with 10,000 Ingresses. What is there at the end is frozen: never looked at again."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        gc.disable()
        self._end: asyncio.TimerHandle | None = loop.call_later(LONGEST_S, gc.enable)

    def settled(self) -> None:
        """The world has been read. Counts once: what comes later is looked through as usual."""
        if self._end is None:
            return
        self._end.cancel()
        self._end = None
        gc.freeze()
        gc.enable()
        trim = libc_trim()
        if trim is not None:
            # Lists and what was decoded of them have left holes in the heap.
            self._loop.call_later(REST_S, trim)
