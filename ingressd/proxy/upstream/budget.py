"""The retry budget: how much a failing upstream may be asked again before retries make things worse (as in Finagle)."""

from __future__ import annotations

from typing import Any, Final

WINDOW_S: Final = 10
_NO_BUCKETS: Final[list[int]] = []

# What a worker says in its cell, from the highest bit: the second, then what its window holds at that second.
_SECOND_AT: Final = 40
_RETRIES_AT: Final = 24
_MOST_RETRIES: Final = 0xFFFF
_MOST_REQUESTS: Final = 0xFFFFFF
_SECONDS: Final = 0x3FFFFF
"""Seconds count modulo 48 days."""


class RetryBudget:
    """Retries allowed in a sliding window: a share of the requests, and at least so many a second.

    The window is ten buckets of one second. One budget an upstream, because one failing upstream must not spend what
    another may need. Connect failures cost nothing (the retry law), so only retries after a request was sent ask here.

    The budget is the pod's, not a worker's: each worker counts its own and says in the shared table what its window
    holds, at every retry and every second (`publish`); whoever wants a retry adds up what all say. Without a cell (no
    endpoint of the upstream has a slot) a worker knows of itself only.
    """

    __slots__ = (
        "_cell",
        "_columns",
        "_current",
        "_next",
        "_own",
        "_published",
        "_requests",
        "_retries",
        "_share",
        "_window_minimum",
        "_window_requests",
    )

    def __init__(self, *, percent: float = 20.0, min_per_s: float = 3.0) -> None:
        self._requests: list[int] = _NO_BUCKETS  # Until the first request, and the first retry.
        self._retries: list[int] = _NO_BUCKETS
        self._window_requests = 0
        self._current = 0
        self._next = 0.0
        self._cell = 0
        self._columns: Any = ()
        self._own: Any = None
        self._published = 0
        self.set_limits(percent=percent, min_per_s=min_per_s)

    def set_limits(self, *, percent: float, min_per_s: float) -> None:
        """Take new limits; what was spent stays spent."""
        self._share = percent / 100.0
        self._window_minimum = min_per_s * WINDOW_S

    def share(self, cell: int, columns: Any, own: Any) -> None:
        """Count with the other workers in this cell of their `columns`, of which `own` is ours; 0 is no cell."""
        if self._published and self._cell != cell:
            self._own[self._cell] = 0
            self._published = 0
        self._cell, self._columns, self._own = cell, columns, own

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
        requests, retries = self._window_requests, sum(self._retries)
        if self._cell:
            others_requests, others_retries = self._others(int(now))
            requests += others_requests
            retries += others_retries
        if retries + 1 > max(requests * self._share, self._window_minimum):
            return False
        if not self._retries:
            self._retries = [0] * WINDOW_S
        self._retries[self._current] += 1
        self.publish(now)
        return True

    def publish(self, now: float) -> None:
        """Say what the window holds, for the other workers. To be called every second."""
        if not self._cell or not (self._requests or self._published):
            return
        if now >= self._next:
            self._roll(now)
        retries = sum(self._retries)
        said = 0
        if retries or self._window_requests:
            said = min(self._window_requests, _MOST_REQUESTS)
            said |= min(retries, _MOST_RETRIES) << _RETRIES_AT | (int(now) & _SECONDS) << _SECOND_AT
        if said or self._published:
            self._own[self._cell] = said
            self._published = said

    def _others(self, second: int) -> tuple[int, int]:
        """What the windows of the other workers hold. What was not renewed for a whole window is over."""
        requests = retries = 0
        for column in self._columns:
            said = column[self._cell]
            if said and (second - (said >> _SECOND_AT)) & _SECONDS < WINDOW_S:
                requests += said & _MOST_REQUESTS
                retries += said >> _RETRIES_AT & _MOST_RETRIES
        said = self._published
        if said and (second - (said >> _SECOND_AT)) & _SECONDS < WINDOW_S:
            requests -= said & _MOST_REQUESTS
            retries -= said >> _RETRIES_AT & _MOST_RETRIES
        return requests, retries

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
