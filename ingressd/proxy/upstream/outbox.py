"""Writes of one turn of the loop, sent together at its end.

A write to a peer that sleeps wakes it, which costs the sender several microseconds; the next write to the same process
finds it awake. One after the other, the writes of a turn wake each peer once; between two exchanges' work they wake it
every time. Nothing waits longer than the turn, or than `BATCH` writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

BATCH: Final = 64

MANY: Final = 1024
OPENING: Final = 4

BULK_BYTES: Final = 32768
"""Whoever has read so much at once flushes: libuv goes on reading one connection up to 32 times in a turn, and only a
write shows that the other side is full."""


class Outbox:
    """What a worker is about to write. Who ends a connection flushes first, so order on a connection is kept."""

    __slots__ = ("_loop", "_pending", "_scheduled", "_written", "crowded")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pending: list[Any] = []
        self._scheduled = False
        self._written = 0
        self.crowded: Callable[[], None] = _ignore
        """Called when there is more to do in one turn than is good for those who wait for its end."""

    def write(self, transport: Any, data: bytes) -> None:
        """Write `data` at the end of this turn."""
        pending = self._pending
        pending.append(transport)
        pending.append(data)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_at_end)
        if len(pending) >= 2 * BATCH:
            self._count(BATCH)
            self.flush()

    def note_opening(self) -> None:
        """A connection is opened, which is as much work as `OPENING` writes."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_at_end)
        self._count(OPENING)

    def _count(self, writes: int) -> None:
        before = self._written
        self._written = before + writes
        if before < MANY <= self._written:
            self.crowded()

    def flush(self) -> None:
        """Write everything now. What goes wrong with one is raised when all others are written."""
        failure: Exception | None = None
        pending = self._pending
        if pending:
            self._pending = []
            for index in range(0, len(pending), 2):
                try:
                    pending[index].write(pending[index + 1])
                except RuntimeError:  # uvloop: reset by its peer in this turn. The others' writes must not be lost.
                    continue
                except Exception as error:  # noqa: BLE001 - nor may they be, whatever it is
                    failure = error
        if failure is not None:
            raise failure

    def _flush_at_end(self) -> None:
        self._scheduled = False
        self._written = 0
        self.flush()


def _ignore() -> None:
    """Nobody wants to hear it."""
