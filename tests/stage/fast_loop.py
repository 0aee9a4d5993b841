"""A loop whose clock jumps to the next timer instead of waiting for it: hours of waiting take no time."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class FastLoop(asyncio.SelectorEventLoop):
    """For coroutines that wait for timers alone, never for sockets."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead_s = 0.0

    def time(self) -> float:
        """The real time, and all that was jumped over."""
        return super().time() + self._ahead_s

    def _run_once(self) -> None:
        while self._scheduled and self._scheduled[0].cancelled():
            heapq.heappop(self._scheduled)._scheduled = False
            self._timer_cancelled_count -= 1
        if not self._ready and self._scheduled:
            self._ahead_s += max(0.0, self._scheduled[0].when() - self.time())
        super()._run_once()


def run_fast(coroutine: Coroutine[Any, Any, T], *, within_s: float = 3600.0) -> T:
    """What a coroutine returns; at most `within_s` of the loop's own time may pass."""
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        return runner.run(asyncio.wait_for(coroutine, within_s))
