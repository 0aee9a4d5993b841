"""Outlier detection: an endpoint that fails several times in a row is passed over for a while. Passive, light, shared.

ingress-nginx sets `max_fails=0` and never ejects; but there every request finds a bad endpoint anew, and waits for the
connect timeout if the endpoint is a black hole. So: one connect timeout ejects, and so do `CONSECUTIVE` failures in a
row: connections refused or broken, answers that are no HTTP, that end early or never come, and statuses of 500 and up.
Back-off is 1 s, doubled with each further failure up to 30 s; when it ends, one request of the pod tries the endpoint,
and one more failure ejects it again. An answer below 500 that came whole forgets everything.

The row is that of the pod: every worker counts in its own column of the shared table, keyed by the slot of upstream and
address, and what it counted before anybody's success is void. Whoever ejects rings the bell, which every balancer
hears at its next pick, so an ejection costs nobody another request. Health checks speak in the same cells of the
controller's column: a verdict that ends by itself unless it is renewed, and the moment of the last success, which voids
the ejections before it (decision 19).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from ingressd.observe.shared_table import (
    CONSECUTIVE_FAILURES,
    EJECTED_AT_US,
    EJECTED_UNTIL_MS,
    FAILED_AT_US,
    GOOD_AT_US,
    SharedTable,
    ring,
)
from ingressd.proxy.upstream.endpoint import EndpointState

CONSECUTIVE: Final = 5
"""Failures in a row that eject."""

BACKOFF_S: Final = 1.0
BACKOFF_MAX_S: Final = 30.0
TRIAL_S: Final = 1.0
"""How long the request that tries an endpoint keeps others from trying it, too."""


_NO_SLOT: Final = SharedTable.base(0)
"""Base of slot 0, which all endpoints without a slot share: an ejection written there would eject them all."""


class Cells(Protocol):
    """A column of the shared table, or its bell."""

    def __getitem__(self, cell: int, /) -> int: ...
    def __setitem__(self, cell: int, value: int, /) -> None: ...


class PodHealth:
    """What the processes of the pod tell each other of endpoints, as one worker sees it."""

    __slots__ = ("_columns", "_controller", "_number", "_own", "bell")

    def __init__(self, columns: Sequence[Cells], controller: Cells, bell: Cells, *, worker: int) -> None:
        """`columns` are those of all workers; only `columns[worker]` is written, and the bell."""
        self._columns = columns
        self._own = columns[worker]
        self._controller = controller
        self._number = worker
        self.bell = bell

    @classmethod
    def of(cls, table: SharedTable, worker: int) -> PodHealth:
        """That of a worker."""
        return cls(table.columns(), table.controller_column(), table.bell, worker=worker)

    def failed(self, base: int, now: float, *, at_once: bool) -> int:
        """Count a failure; how many there are in a row now."""
        own = self._own
        good = self._last_success(base)
        streak = own[base + CONSECUTIVE_FAILURES] if own[base + FAILED_AT_US] > good else 0
        others = self.streak(base) - streak
        streak += 1
        if at_once:
            streak = max(streak, CONSECUTIVE - others)
        own[base + CONSECUTIVE_FAILURES] = streak
        own[base + FAILED_AT_US] = max(int(now * 1e6), good + 1)
        return self.streak(base)

    def succeeded(self, base: int, now: float) -> None:
        """Whatever was counted until now is void."""
        self._own[base + CONSECUTIVE_FAILURES] = 0
        self._own[base + GOOD_AT_US] = int(now * 1e6)

    def streak(self, base: int) -> int:
        """Failures in a row, over all workers."""
        good = -1
        total = 0
        for column in self._columns:
            failures = column[base + CONSECUTIVE_FAILURES]
            if failures:
                if good < 0:
                    good = self._last_success(base)
                if column[base + FAILED_AT_US] > good:
                    total += failures
        return total

    def _last_success(self, base: int) -> int:
        cell = base + GOOD_AT_US
        return max([column[cell] for column in self._columns])

    def eject(self, base: int, now: float, until: float) -> None:
        """Tell everybody."""
        own = self._own
        own[base + EJECTED_AT_US] = int(now * 1e6)
        own[base + EJECTED_UNTIL_MS] = int(until * 1000)
        ring(self.bell, now, process=self._number)

    def lift(self, base: int, now: float) -> None:
        """The ejection that this worker began does not count any more."""
        self._own[base + EJECTED_UNTIL_MS] = 0
        ring(self.bell, now, process=self._number)

    def ejected_until(self, base: int) -> float:
        """Until when the endpoint is passed over, in monotonic seconds; it may be in the past."""
        until_cell, began_cell = base + EJECTED_UNTIL_MS, base + EJECTED_AT_US
        until = self._controller[until_cell]
        lifted = self._controller[base + GOOD_AT_US]
        for column in self._columns:
            of_worker = column[until_cell]
            if of_worker > until and column[began_cell] > lifted:
                until = of_worker
        return until / 1000


def failed(endpoint: EndpointState, now: float, *, at_once: bool, health: PodHealth | None) -> bool:
    """Count a failure at `now` (monotonic seconds), one that ejects `at_once` or one of several; whether it ejects."""
    if is_ejected(endpoint, now, health) and not endpoint.on_trial:
        return False  # Tries that were under way when it was ejected must not double the back-off.
    endpoint.on_trial = False
    shared = health if endpoint.base > _NO_SLOT else None
    if shared is not None:
        endpoint.failures = shared.failed(endpoint.base, now, at_once=at_once)
    else:
        endpoint.failures = max(endpoint.failures + 1, CONSECUTIVE if at_once else 0)
    excess = endpoint.failures - CONSECUTIVE
    if excess < 0:
        return False
    endpoint.ejected_until = now + min(BACKOFF_S * 2.0 ** min(excess, 10), BACKOFF_MAX_S)
    if shared is not None:
        shared.eject(endpoint.base, now, endpoint.ejected_until)
    return True


def succeeded(endpoint: EndpointState, now: float, health: PodHealth | None) -> None:
    """It did its work. An ejection that runs is left to run out, but for a trial: the other workers' tries may fail."""
    endpoint.failures = 0
    shared = health if endpoint.base > _NO_SLOT else None
    if shared is not None:
        shared.succeeded(endpoint.base, now)
    if endpoint.on_trial:
        endpoint.on_trial = False
        endpoint.ejected_until = 0.0
        if shared is not None:
            shared.lift(endpoint.base, now)


def is_ejected(endpoint: EndpointState, now: float, health: PodHealth | None) -> bool:
    """Whether anybody's ejection of this endpoint runs at `now`; keeps what the endpoint knows of it up to date."""
    if health is not None and endpoint.base > _NO_SLOT:
        endpoint.ejected_until = health.ejected_until(endpoint.base)
        endpoint.failures = health.streak(endpoint.base)
    return endpoint.ejected_until > now


def begins_trial(endpoint: EndpointState, now: float, health: PodHealth | None) -> bool:
    """Of an endpoint that `is_ejected` no more: whether nobody has had an answer since, and one request is to try it.

    Whoever is told so tries it; for `TRIAL_S` it stays ejected for all others. What a probe has lifted needs no trial.
    """
    if not endpoint.ejected_until or endpoint.failures < CONSECUTIVE:
        endpoint.on_trial = False
        return False
    endpoint.on_trial = True
    endpoint.ejected_until = now + TRIAL_S
    if health is not None and endpoint.base > _NO_SLOT:
        health.eject(endpoint.base, now, endpoint.ejected_until)
    return True
