"""What goes wrong again and again is logged once, and again after a while."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

AGAIN_S: Final = 300.0
_REMEMBERED: Final = 100


class Complaints:
    """Keyed by a word for what is wrong."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._said_s: dict[str, float] = {}

    def say(self, what: str, message: str) -> None:
        """Log the message unless one for the same word was logged lately."""
        now_s = self._clock()
        if now_s - self._said_s.get(what, -AGAIN_S) < AGAIN_S:
            return
        if len(self._said_s) >= _REMEMBERED:
            self._said_s.clear()
        self._said_s[what] = now_s
        self._log.warning("%s", message)
