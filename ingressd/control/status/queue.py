"""Which object is written next, and when: each once at a time, at a bounded rate, later and later after failures.

Without I/O; moments are monotonic seconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

from ingressd.control.objects.event import ObjectKey
from ingressd.control.status.pace import Bucket

IN_FLIGHT: Final = 10
PER_S: Final = 30.0
BURST: Final = 50.0
FIRST_RETRY_S: Final = 0.5
LAST_RETRY_S: Final = 60.0
LAST_HOLD_S: Final = 15.0
"""The longest rest of all writes while the API server cannot be reached."""


class WriteQueue:
    """Keys to write. State is keyed by object and goes when its write succeeded, or with `clear`."""

    def __init__(self, *, chance: Callable[[], float]) -> None:
        self.bucket = Bucket(burst=BURST, per_s=PER_S)
        self._chance = chance
        self._ready: dict[ObjectKey, None] = {}
        self._later: list[tuple[float, ObjectKey]] = []
        self._due: dict[ObjectKey, float] = {}
        """When each key of `_later` is due: what says otherwise there is outdated."""
        self._busy: dict[ObjectKey, bool] = {}
        """Keys that are being written, and whether each was added again meanwhile."""
        self._failures: dict[ObjectKey, int] = {}
        self._hold_s = 0.0
        self._held_until_s = 0.0

    def add(self, key: ObjectKey) -> None:
        """Write this one as soon as may be. One that waits after a failure goes on waiting."""
        if key in self._busy:
            self._busy[key] = True
        elif key not in self._due:
            self._ready[key] = None

    def take(self, now_s: float) -> ObjectKey | float | None:
        """The key to write now, which must be told to `done`; or how long to wait; None: until something is added."""
        while self._later and self._later[0][0] <= now_s:
            due_s, key = heapq.heappop(self._later)
            if self._due.get(key) == due_s:
                del self._due[key]
                self._ready[key] = None
        if len(self._busy) >= IN_FLIGHT:
            return None
        if not self._ready:
            return self._later[0][0] - now_s if self._later else None
        wait_s = max(self.bucket.wait_s(now_s), self._held_until_s - now_s)
        if wait_s > 0:
            return wait_s
        self.bucket.spend(now_s)
        key = next(iter(self._ready))
        del self._ready[key]
        self._busy[key] = False
        return key

    def done(self, key: ObjectKey) -> None:
        """It was written, or there was nothing to write."""
        self._failures.pop(key, None)
        self._hold_s = 0.0
        if self._busy.pop(key, False):
            self._ready[key] = None

    def failed(self, key: ObjectKey, now_s: float) -> None:
        """It was not written: it goes again after a while."""
        if self._busy.pop(key, None) is None:
            return
        times = self._failures[key] = self._failures.get(key, 0) + 1
        pause_s = min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(times - 1, 16))
        due_s = now_s + pause_s * (1 + self._chance() / 2)
        self._due[key] = due_s
        heapq.heappush(self._later, (due_s, key))

    def hold(self, now_s: float, *, at_least_s: float = 0.0) -> None:
        """The API server cannot answer: nothing goes for a while, longer every time until something succeeds."""
        if now_s >= self._held_until_s:
            self._hold_s = min(LAST_HOLD_S, max(2 * self._hold_s, FIRST_RETRY_S))
            self._held_until_s = now_s + self._hold_s * (1 + self._chance() / 2)
        self._held_until_s = max(self._held_until_s, now_s + at_least_s)

    def clear(self) -> None:
        """Forget everything but what is being written now."""
        self._ready.clear()
        self._later.clear()
        self._due.clear()
        self._failures.clear()
        for key in self._busy:
            self._busy[key] = False

    def __len__(self) -> int:
        """How many keys wait or are being written."""
        return len(self._ready) + len(self._due) + len(self._busy)
