"""When to start again what died."""

from __future__ import annotations

from typing import Final

SETTLED_S: Final = 10.0
"""A child that lived this long was well: its next start does not wait."""
WORKER_SETTLED_S: Final = 1.0
"""The same of a worker. One that dies as it starts never lives so long, and one that is killed while it serves is
needed back: were all of them made to wait, whoever connects would."""
FIRST_S: Final = 0.1
GREATEST_S: Final = 5.0


class Backoff:
    """The pauses between the starts of one child: none after a long life, then doubling."""

    __slots__ = ("_settled_s", "quick_deaths")

    def __init__(self, settled_s: float = SETTLED_S) -> None:
        self._settled_s = settled_s
        self.quick_deaths = 0

    def pause_s(self, lived_s: float) -> float:
        """Seconds to wait before the next start of a child that lived so long. The first quick death costs no wait."""
        if lived_s >= self._settled_s:
            self.quick_deaths = 0
            return 0.0
        self.quick_deaths += 1
        if self.quick_deaths == 1:
            return 0.0
        return min(GREATEST_S, FIRST_S * 2.0 ** min(self.quick_deaths - 2, 16))
