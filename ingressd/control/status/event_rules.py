"""What is said in an Event and when: once, again while it lasts, and never too much. No I/O; moments are monotonic.

As client-go's recorder an object may have 25 Events and then one in five minutes, and all objects together have a limit
too. What lasts waits for its turn; what is said once is dropped when there is no room for it.
"""

from __future__ import annotations

import heapq
from typing import Final, Literal, NamedTuple

from ingressd.control.objects.event import ObjectKey
from ingressd.control.status.pace import Bucket

OBJECT_BURST: Final = 25.0
OBJECT_PER_S: Final = 1 / 300
ALL_BURST: Final = 50.0
ALL_PER_S: Final = 5.0
SETTLE_S: Final = 2.0
"""How long something has to last before it is said: who applies an Ingress and its Service makes them one by one."""
REPEAT_S: Final = 1800.0
"""How often something is said again while it lasts: twice in the hour after which Kubernetes forgets an Event."""
RETRY_S: Final = 60.0
TOGETHER_S: Final = 10.0
"""The same thing said once within so long is said once."""
QUEUED: Final = 1000
"""How many that are said once may wait."""
_REMEMBERED: Final = 4096


class Saying(NamedTuple):
    """One thing said about one object. `field` is the path or annotation key in it that this is about."""

    subject: ObjectKey
    type: Literal["Normal", "Warning"]
    reason: str
    field: str
    message: str


class EventRules:
    """Keyed by saying: what lasts stays until `end`; buckets are keyed by object and go when they are full again."""

    def __init__(self) -> None:
        self.dropped = 0
        """How many were never said, because there was no room."""
        self._lasting: dict[Saying, float] = {}
        self._due: list[tuple[float, Saying]] = []
        self._once: dict[Saying, None] = {}
        self._recent: dict[Saying, float] = {}
        self._all = Bucket(burst=ALL_BURST, per_s=ALL_PER_S)
        self._buckets: dict[ObjectKey, Bucket] = {}

    # ------------------------------------------------------------------ what there is to say
    def begin(self, saying: Saying, now_s: float) -> None:
        """It is so from now on."""
        if saying not in self._lasting:
            self._schedule(saying, now_s + SETTLE_S)

    def end(self, saying: Saying) -> None:
        """It is so no more."""
        self._lasting.pop(saying, None)

    def once(self, saying: Saying, now_s: float) -> None:
        """It happened."""
        if saying in self._once or now_s - self._recent.get(saying, -TOGETHER_S) < TOGETHER_S:
            return
        if len(self._once) >= QUEUED:
            self.dropped += 1
        else:
            self._once[saying] = None

    def lasts(self, saying: Saying) -> bool:
        """Whether it is so still."""
        return saying in self._lasting

    def drop_queued(self) -> None:
        """What happened is old by the time that somebody can be told."""
        self.dropped += len(self._once)
        self._once.clear()

    # ------------------------------------------------------------------ what to say now
    def take(self, now_s: float) -> Saying | float | None:
        """What to say now; or how long to wait; or None until something comes. What was taken is told to `said`."""
        wait_s = self._all.wait_s(now_s)
        if wait_s > 0:
            return wait_s if self._due or self._once else None
        saying = self._take_lasting(now_s) or self._take_once(now_s)
        if saying is None:
            return max(0.0, self._due[0][0] - now_s) if self._due else None
        self._all.spend(now_s)
        self._bucket(saying.subject, now_s).spend(now_s)
        return saying

    def said(self, saying: Saying, now_s: float) -> None:
        """It was said, or need not be."""
        if saying in self._lasting:
            self._schedule(saying, now_s + REPEAT_S)
        else:
            self._recent[saying] = now_s
            if len(self._recent) > _REMEMBERED:
                self._recent = {one: at_s for one, at_s in self._recent.items() if now_s - at_s < TOGETHER_S}

    def failed(self, saying: Saying, now_s: float) -> None:
        """It could not be said. What lasts is tried again later; what happened is dropped."""
        if saying in self._lasting:
            self._schedule(saying, now_s + RETRY_S)
        else:
            self.dropped += 1

    # ------------------------------------------------------------------ the parts
    def _schedule(self, saying: Saying, due_s: float) -> None:
        self._lasting[saying] = due_s
        heapq.heappush(self._due, (due_s, saying))
        if len(self._due) > 2 * len(self._lasting) + _REMEMBERED:
            # What comes and goes leaves an entry each time.
            self._due = [(at_s, one) for one, at_s in self._lasting.items()]
            heapq.heapify(self._due)

    def _take_lasting(self, now_s: float) -> Saying | None:
        while self._due and self._due[0][0] <= now_s:
            due_s, saying = heapq.heappop(self._due)
            if self._lasting.get(saying) != due_s:
                continue  # It ended, or was put off.
            wait_s = self._bucket(saying.subject, now_s).wait_s(now_s)
            if wait_s <= 0:
                return saying
            self._schedule(saying, now_s + wait_s)
        return None

    def _take_once(self, now_s: float) -> Saying | None:
        while self._once:
            saying = next(iter(self._once))
            del self._once[saying]
            if self._bucket(saying.subject, now_s).wait_s(now_s) <= 0:
                return saying
            self.dropped += 1
        return None

    def _bucket(self, subject: ObjectKey, now_s: float) -> Bucket:
        found = self._buckets.get(subject)
        if found is None:
            if len(self._buckets) >= _REMEMBERED:
                self._buckets = {key: one for key, one in self._buckets.items() if not one.is_full(now_s)}
            found = self._buckets[subject] = Bucket(burst=OBJECT_BURST, per_s=OBJECT_PER_S)
        return found
