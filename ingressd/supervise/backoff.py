"""When to start again what died."""

from __future__ import annotations

from typing import Final

SETTLED_S: Final = 10.0
"""A child that lived this long was well: its next start does not wait."""
FIRST_S: Final = 0.1
GREATEST_S: Final = 5.0


class Backoff:
    """The pauses between the starts of one child: none after a long life, then doubling."""

    __slots__ = ("quick_deaths",)

    def __init__(self) -> None:
        self.quick_deaths = 0

    def pause_s(self, lived_s: float) -> float:
        """Seconds to wait before the next start of a child that lived so long. The first quick death costs no wait."""
        if lived_s >= SETTLED_S:
            self.quick_deaths = 0
            return 0.0
        self.quick_deaths += 1
        if self.quick_deaths == 1:
            return 0.0
        return min(GREATEST_S, FIRST_S * 2.0 ** min(self.quick_deaths - 2, 16))
