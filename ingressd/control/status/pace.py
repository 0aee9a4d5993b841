"""How fast requests may go: a token bucket."""

from __future__ import annotations


class Bucket:
    """`burst` at once, and `per_s` in the long run. Moments are monotonic seconds."""

    __slots__ = ("_at_s", "_tokens", "burst", "per_s")

    def __init__(self, *, burst: float, per_s: float) -> None:
        self.burst = burst
        self.per_s = per_s
        self._tokens = burst
        self._at_s = 0.0

    def wait_s(self, now_s: float) -> float:
        """How long until one may go, 0 for now."""
        self._fill(now_s)
        # A sum of many small parts may miss the whole by less than a wait could make up for.
        return 0.0 if self._tokens > 1 - 1e-9 else (1 - self._tokens) / self.per_s

    def spend(self, now_s: float) -> None:
        """One goes."""
        self._fill(now_s)
        self._tokens -= 1

    def is_full(self, now_s: float) -> bool:
        """Nothing went for so long that it may be forgotten."""
        self._fill(now_s)
        return self._tokens >= self.burst

    def _fill(self, now_s: float) -> None:
        self._tokens = min(self.burst, self._tokens + max(0.0, now_s - self._at_s) * self.per_s)
        self._at_s = now_s
