"""How late an event loop is: what a client waits for in front of everything else.

A timer comes due every `LOOK_S` and sees how late it is called. A loop that is held for `STALL_S` and `LOOK_S` is
caught, whenever that begins; how long it was held is known to within `LOOK_S`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

LOOK_S: Final = 0.025
STALL_S: Final = 0.05
"""From here on a loop counts as stalled."""


class Stalls(NamedTuple):
    """How often a loop was stalled, and how late it was at worst."""

    times: int = 0
    worst_s: float = 0.0


class LoopWatch:
    """Watches the loop it runs on. `call_later` is the loop's, or a fake; `late` hears every delay."""

    def __init__(
        self,
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], Any],
        *,
        late: Callable[[float], None] = lambda lag_s: None,
    ) -> None:
        self._clock = clock
        self._call_later = call_later
        self._late = late
        self.stalls = Stalls()
        self._due = clock() + LOOK_S
        self._timer: Any = call_later(LOOK_S, self._look)

    def forget(self) -> None:
        """Begin anew: whoever starts is late at first, and nobody waits for him yet."""
        self.stalls = Stalls()

    def close(self) -> None:
        """Watch no more."""
        self._timer.cancel()

    def _look(self) -> None:
        now = self._clock()
        lag_s = max(0.0, now - self._due)
        times, worst_s = self.stalls
        if lag_s > worst_s or lag_s >= STALL_S:
            self.stalls = Stalls(times + (lag_s >= STALL_S), max(worst_s, lag_s))
        self._due = now + LOOK_S
        self._timer = self._call_later(LOOK_S, self._look)
        self._late(lag_s)
