"""The rules of the election, without I/O: what to ask next, and whether we lead at a moment.

As client-go's leaderelection: no clock is compared with another's. A candidate notes by its own monotonic clock when it
last saw the Lease change, and takes it after the Lease's whole duration without a change. A leader counts from the
moment it *sent* its last successful renewal and gives up after two thirds of the duration. Whoever might take over saw
that renewal later than it was sent and waits for the whole duration, so one has given up before the other begins, and
a third of the duration is left for what the former leader sent last. Writes name the resourceVersion that they were
made from: of several candidates one succeeds.

What no rule can mend is somebody else who deletes the Lease: that makes a new election at once.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, NamedTuple

DEADLINE_PART: Final = 2 / 3
"""The part of the duration after which a leader that could not renew gives up."""
RENEW_PART: Final = 1 / 6
"""The part of the duration between two renewals, and the longest that a request may take."""
RETRY_PART: Final = 1 / 15
"""The part of the duration between two looks of a candidate, and after a failure. Up to a fifth more, by chance."""

Lease = dict[str, Any]
"""A Lease as JSON, all of it: what we do not know is written back as it was."""


class Read(NamedTuple):
    """Ask for the Lease."""


class Create(NamedTuple):
    """Create it."""

    lease: Lease


class Update(NamedTuple):
    """Replace it; it names the version that it replaces."""

    lease: Lease


class Wait(NamedTuple):
    """Nothing to ask for so long."""

    seconds: float


Request = Read | Create | Update


class Found(NamedTuple):
    """The Lease as read or as written; None: there is none."""

    lease: Lease | None


class Refused(NamedTuple):
    """Somebody else was faster (HTTP 409, or 404 for an update)."""


class Failed(NamedTuple):
    """No answer that says anything. The request may have been carried out nevertheless."""

    retry_after_s: float = 0.0


Answer = Found | Refused | Failed


class _Knowledge(Enum):
    """How far `Election._seen` can be built upon."""

    STALE = 1
    """It may be anything by now: read it."""
    READ = 2
    """Just read, nothing was tried on it yet."""
    WRITTEN = 3
    """What we wrote last, and nobody else since as far as we know."""


class Election:
    """One candidate. Moments are monotonic seconds; `wall` is seconds since 1970, for people to read only.

    `identity` should be unique among processes that live at the same time: one that was started again takes its former
    self's Lease at once, and one that finds the Lease taken by another process of its identity stands back.
    """

    def __init__(
        self, name: str, identity: str, *, duration_s: float, wall: Callable[[], float], chance: Callable[[], float]
    ) -> None:
        self.name = name
        self.identity = identity
        self.duration_s = duration_s
        self._wall = wall
        self._chance = chance
        self._seen: Lease | None = None
        self._seen_s = 0.0
        self._knowledge = _Knowledge.STALE
        self._renewed_s: float | None = None
        self._acquired = ""
        self._namesake = ""
        """When the process of our identity that we lost to acquired the Lease."""
        self._due_s = -math.inf

    # ------------------------------------------------------------------ what we are
    def leads(self, now_s: float) -> bool:
        """Whether we lead, and nobody else may, at this moment. True ends by itself, at `lapses_s`."""
        return now_s < self.lapses_s()

    def lapses_s(self) -> float:
        """When we stop leading unless we renew; -inf when we do not lead."""
        return -math.inf if self._renewed_s is None else self._renewed_s + self.duration_s * DEADLINE_PART

    def holder(self) -> str:
        """Who held the Lease when it was last seen, "" for nobody."""
        return _spec(self._seen).get("holderIdentity") or ""

    # ------------------------------------------------------------------ what to do
    def step(self, now_s: float) -> Request | Wait:
        """What to do now. What became of a request must be told to `heard` before the next step."""
        if now_s < self._due_s:
            return Wait(self._due_s - now_s)
        if self._knowledge is _Knowledge.STALE:
            return Read()
        if self._seen is None:
            return Create(self._lease(None, acquired=self._moment()))
        if self._is_held(now_s):
            self._knowledge = _Knowledge.STALE
            return self._again(now_s)
        return Update(self._lease(self._seen, acquired=self._acquired if self.leads(now_s) else self._moment()))

    def heard(self, request: Request, answer: Answer, *, sent_s: float, now_s: float) -> None:
        """What became of a request that was sent at `sent_s`."""
        if isinstance(answer, Failed):
            self._knowledge = _Knowledge.STALE
            self._again(now_s, at_least_s=answer.retry_after_s)
        elif isinstance(answer, Refused):
            self._knowledge = _Knowledge.STALE
            if not self.leads(now_s):
                self._again(now_s)  # A leader looks at once: it may be a mere annotation, and its time runs.
        elif isinstance(request, Read):
            self._read(answer.lease, now_s)
        else:
            self._seen, self._seen_s = answer.lease, now_s
            self._knowledge = _Knowledge.WRITTEN
            self._acquired = _spec(request.lease)["acquireTime"]
            self._renewed_s = sent_s
            self._due_s = now_s + self.duration_s * RENEW_PART

    def _read(self, lease: Lease | None, now_s: float) -> None:
        if _version(lease) != _version(self._seen):
            self._seen_s = now_s
        self._seen = lease
        self._knowledge = _Knowledge.READ
        if self.leads(now_s) and not self._is_mine(lease):
            self._renewed_s = None
            self._namesake = _spec(lease).get("acquireTime", "") if self.holder() == self.identity else ""

    def released(self, lease: Lease) -> Update | None:
        """Stop leading, from this moment on, and never ask again; what gives a Lease that was just read to whoever is
        next, None when it is not ours."""
        self._renewed_s = None
        self._due_s = math.inf
        spec = _spec(lease)
        if spec.get("holderIdentity") != self.identity or spec.get("acquireTime") == self._namesake:
            return None
        given = self._lease(lease, acquired=self._moment())
        # As client-go does; a second is the least that a Lease may last.
        given["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
        return Update(given)

    # ------------------------------------------------------------------ Leases
    def _is_mine(self, lease: Lease | None) -> bool:
        """Whether this is the Lease that we acquired."""
        spec = _spec(lease)
        return bool(spec.get("holderIdentity") == self.identity and spec.get("acquireTime") == self._acquired)

    def _is_held(self, now_s: float) -> bool:
        """Whether somebody else holds the Lease that was just read, and is not silent for too long."""
        spec = _spec(self._seen)
        if self._knowledge is not _Knowledge.READ or not self.holder():
            return False
        if now_s >= self._seen_s + (spec.get("leaseDurationSeconds") or self.duration_s):
            return False
        return self.holder() != self.identity or spec.get("acquireTime") == self._namesake

    def _lease(self, before: Lease | None, *, acquired: str) -> Lease:
        """The Lease as ours, renewed now."""
        spec = _spec(before)
        changes_hands = before is not None and self.holder() != self.identity
        return {
            **(before or {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self.name}}),
            "spec": {
                **spec,
                "holderIdentity": self.identity,
                "leaseDurationSeconds": math.ceil(self.duration_s),
                "acquireTime": acquired,
                "renewTime": self._moment(),
                "leaseTransitions": (spec.get("leaseTransitions") or 0) + changes_hands,
            },
        }

    def _again(self, now_s: float, *, at_least_s: float = 0.0) -> Wait:
        pause_s = max(self.duration_s * RETRY_PART * (1 + self._chance() / 5), at_least_s)
        self._due_s = now_s + pause_s
        return Wait(pause_s)

    def _moment(self) -> str:
        """Now as metav1.MicroTime."""
        now = datetime.datetime.fromtimestamp(self._wall(), datetime.UTC)
        return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _spec(lease: Lease | None) -> dict[str, Any]:
    return (lease or {}).get("spec") or {}


def _version(lease: Lease | None) -> str:
    """The uid too: after a deletion versions begin where they like."""
    metadata = (lease or {}).get("metadata") or {}
    return f"{metadata.get('uid', '')}/{metadata.get('resourceVersion', '')}"
