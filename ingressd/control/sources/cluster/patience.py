"""How long to wait before asking again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ingressd.control.sources.cluster.api import ApiError

FIRST_S: Final = 0.1
LONGEST_S: Final = 3.0
"""client-go waits up to 30 s. We do not: 5 s after an API server is back, what it says has to be live."""
REFUSED_S: Final = 10.0
"""After a refusal that somebody has to do something about: no permission, no such kind."""
PASSING: Final = 6
"""So many refusals in a row may be those of a server that has just started: until it has read its roles it forbids
everything. Whoever knows that waits as after failures, three seconds in all."""
MOST_ASKED_S: Final = 4.0
"""Most of what an API server may ask for with Retry-After; its own word is 1 s, and up to 8 when it drops requests."""


class Patience:
    """Exponential with full jitter: many controllers must not come back in step. `random` is from 0 to 1."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._failures = 0
        self._refusals = 0

    @property
    def failures(self) -> int:
        """How often in a row it failed."""
        return self._failures

    def succeeded(self) -> None:
        """Begin anew."""
        self._failures = self._refusals = 0

    def failed(self, error: ApiError, *, passing: bool = False) -> float:
        """How many seconds to wait after this failure. `passing`: a refusal may be over soon."""
        self._failures += 1
        refused = error.status in (403, 404)
        self._refusals = self._refusals + 1 if refused else 0
        if refused and not (passing and self._refusals <= PASSING):
            return REFUSED_S * (0.5 + 0.5 * self._random())
        failures = self._refusals or self._failures
        most = min(LONGEST_S, FIRST_S * 2.0 ** min(failures - 1, 16))
        wait = most * (0.5 + 0.5 * self._random())
        if error.retry_after_s is None:
            return wait
        return max(wait, min(MOST_ASKED_S, error.retry_after_s))
