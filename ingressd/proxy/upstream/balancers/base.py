"""What every balancer promises, and the bookkeeping of usable endpoints they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import ClassVar, Protocol

from ingressd.proxy.upstream import outlier
from ingressd.proxy.upstream.endpoint import EndpointState


class Balancer(Protocol):
    """Chooses among the endpoints of one upstream. All times are monotonic seconds, the same clock in every worker."""

    observes_latency: ClassVar[bool]
    """True when `observe` wants every answer; the exchange skips the call otherwise."""
    usable: list[EndpointState]
    """Those that may be picked, as of the last pick."""

    def update(self, endpoints: Sequence[EndpointState]) -> None:
        """Take a new list. States of addresses that stay must be the same objects."""

    def pick(self, key: bytes | None, now: float) -> EndpointState | None:
        """The first of `candidates`, without an allocation; None when there is no endpoint at all."""

    def candidates(self, key: bytes | None, now: float) -> Iterator[EndpointState]:
        """Endpoints in order of preference, each at most once; no ejected one unless all are ejected (panic).

        Counts as one pick. After a failed `pick`, walk these and pass over what was tried.
        """

    def observe(self, endpoint: EndpointState, duration_s: float, now: float) -> None:
        """An answer's head came `duration_s` after the request was sent."""

    def failed(self, endpoint: EndpointState, now: float, *, at_once: bool = False, asked: bool = False) -> bool:
        """This endpoint failed, `at_once` in a way that ejects without others; true when it is ejected.

        `asked`: it had been sent a request, so that the request may have been what it failed of.
        """

    def succeeded(self, endpoint: EndpointState, now: float) -> None:
        """It answered: its failures are forgotten. Cheap to skip while `endpoint.failures` is 0."""


class EndpointSet:
    """The endpoints of one upstream and which of them may be picked now.

    `usable` is what a balancer chooses from: not draining unless all are, not ejected unless all are. It is worked out
    again only when the list changes, when the bell says that somebody ejected one or let one back, and every `SYNC_S`,
    when ejections end and what the other workers have counted is read; so a pick does not look at any endpoint that it
    does not choose.
    """

    SYNC_S = 0.1
    observes_latency: ClassVar[bool] = False

    __slots__ = ("_bell", "_due", "_eligible", "_health", "_only", "_random", "_rung", "_trials", "usable")

    def __init__(self, rng: Random, *, health: outlier.PodHealth | None = None) -> None:
        """`health` is what the pod knows of endpoints; None keeps ejections to this worker."""
        self._random = rng.random
        self._health = health
        self._bell: outlier.Cells = health.bell if health is not None else [0]
        self._rung = 0
        self._trials: list[EndpointState] = []  # Each is picked once, whoever's turn it is.
        self._eligible: list[EndpointState] = []
        self._only: EndpointState | None = None
        self._due = 0.0
        self.usable: list[EndpointState] = []  # Replaced whole, never changed: mostly it is the eligible ones.

    def update(self, endpoints: Sequence[EndpointState]) -> None:
        """Take a new list. States of addresses that stay must be the same objects."""
        weighted = [endpoint for endpoint in endpoints if endpoint.weight > 0]
        self._eligible = [endpoint for endpoint in weighted if not endpoint.draining] or weighted
        self._only = self._eligible[0] if len(self._eligible) == 1 else None
        self._due = 0.0
        self._trials = []
        self.usable = self._eligible
        self._usable_changed()

    def observe(self, endpoint: EndpointState, duration_s: float, now: float) -> None:
        """Most balancers do not care how long an answer took."""

    def failed(self, endpoint: EndpointState, now: float, *, at_once: bool = False, asked: bool = False) -> bool:
        """Count a failure; eject the endpoint when that is one too many and there are others to take its place.

        What clients can bring about ejects half of the endpoints at most: a request that all of them fail of, sent
        often, must not leave one to do the work of all.
        """
        if self._only is not None:
            return False
        if asked and endpoint in self.usable and 2 * (len(self.usable) - 1) < len(self._eligible):
            return False
        ejected = outlier.failed(endpoint, now, at_once=at_once, health=self._health)
        if ejected:
            self._refresh(now)
        return ejected

    def succeeded(self, endpoint: EndpointState, now: float) -> None:
        """Forget the endpoint's failures."""
        outlier.succeeded(endpoint, now, self._health)

    def _refresh(self, now: float) -> None:
        """Work out `usable` again: one ejected by anybody leaves, one whose time has passed is tried by one request."""
        self._due = now + self.SYNC_S
        self._rung = self._bell[0]  # Before what it speaks of is read: who rings meanwhile is heard at the next pick.
        health = self._health
        usable = []
        for endpoint in self._eligible:
            if outlier.is_ejected(endpoint, now, health):
                continue
            if outlier.begins_trial(endpoint, now, health):
                if endpoint not in self._trials:
                    self._trials.append(endpoint)
            else:
                usable.append(endpoint)
        if not usable:
            usable = self._eligible
        if usable != self.usable:
            self.usable = usable
            self._usable_changed()

    def _usable_changed(self) -> None:
        """A balancer that derives something from `usable` derives it again here."""
