"""The retry budget: how much a failing upstream may be asked again before retries make things worse (as in Finagle)."""

from __future__ import annotations

from typing import Final

WINDOW_S: Final = 10
_NO_BUCKETS: Final[list[int]] = []


class RetryBudget:
    """Retries allowed in a sliding window: a share of its requests, and at least so many a second.

    The window is ten buckets of one second. One budget an upstream, because one failing upstream must not spend what
    another may need. Connect failures cost nothing (the retry law), so only retries after a request was sent ask here.
    """

    __slots__ = ("_current", "_next", "_requests", "_retries", "_share", "_window_minimum", "_window_requests")

    def __init__(self, *, percent: float = 20.0, min_per_s: float = 3.0) -> None:
        self._share = percent / 100.0
        self._window_minimum = min_per_s * WINDOW_S
        self._requests: list[int] = _NO_BUCKETS  # Until the first request, and the first retry.
        self._retries: list[int] = _NO_BUCKETS
        self._window_requests = 0
        self._current = 0
        self._next = 0.0

    def count_request(self, now: float) -> None:
        """A request (not a retry) goes to the upstream. `now` is monotonic seconds."""
        if now >= self._next:
            self._roll(now)
        self._requests[self._current] += 1
        self._window_requests += 1

    def take(self, now: float) -> bool:
        """Spend one retry; false when none is left and the answer in hand must do."""
        if now >= self._next:
            self._roll(now)
        allowed = max(self._window_requests * self._share, self._window_minimum)
        if sum(self._retries) + 1 > allowed:
            return False
        if not self._retries:
            self._retries = [0] * WINDOW_S
        self._retries[self._current] += 1
        return True

    def _roll(self, now: float) -> None:
        """Empty the buckets of the seconds that passed."""
        if not self._requests:
            self._requests = [0] * WINDOW_S
        second = int(now)
        for passed in range(min(second - int(self._next) + 1, WINDOW_S)):
            bucket = (second - passed) % WINDOW_S
            self._window_requests -= self._requests[bucket]
            self._requests[bucket] = 0
            if self._retries:
                self._retries[bucket] = 0
        self._current = second % WINDOW_S
        self._next = float(second + 1)
