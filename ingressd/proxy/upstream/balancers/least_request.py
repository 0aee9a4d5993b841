"""Least request by power of two choices: of two endpoints taken at random, the one with less work in flight."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from random import Random

from ingressd.proxy.upstream import outlier
from ingressd.proxy.upstream.balancers.base import EndpointSet
from ingressd.proxy.upstream.endpoint import EndpointState


class LeastRequest(EndpointSet):
    """Work in flight is counted over all workers and divided by weight.

    Two choices come within a hair of the true minimum without looking at every endpoint, and without all workers
    running to the same idle one (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing"). The two are
    drawn in proportion to weight and a tie goes to the first, so an idle upstream is shared by weight too.
    """

    __slots__ = ("_shares",)

    def __init__(self, rng: Random, *, health: outlier.PodHealth | None = None) -> None:
        super().__init__(rng, health=health)
        self._shares: list[int] = []
        """Running sums of weights; empty when all weights are equal."""

    def pick(self, key: bytes | None, now: float) -> EndpointState | None:
        """The less loaded of two."""
        only = self._only
        if only is not None:
            return only
        if now >= self._due or self._bell[0] != self._rung:
            self._refresh(now)
            if self._trials:
                return self._trials.pop()
        usable = self.usable
        count = len(usable)
        if count < 2:
            return usable[0] if usable else None
        one = usable[self._draw()]
        other = usable[self._draw()] if count > 2 else usable[1] if one is usable[0] else usable[0]
        if other is one:
            other = usable[(usable.index(one) + 1 + int(self._random() * (count - 1))) % count]
        return one if self._cost(one, now) <= self._cost(other, now) else other

    def candidates(self, key: bytes | None, now: float) -> Iterator[EndpointState]:
        """The less loaded of two, then all others from idle to busy."""
        first = self.pick(key, now)
        if first is None:
            return
        yield first
        for endpoint in sorted(self.usable, key=lambda endpoint: self._cost(endpoint, now)):
            if endpoint is not first:
                yield endpoint

    def _cost(self, endpoint: EndpointState, now: float) -> float:
        return endpoint.in_flight() / endpoint.weight

    def _draw(self) -> int:
        shares = self._shares
        if shares:
            return bisect_right(shares, self._random() * shares[-1])
        return int(self._random() * len(self.usable))

    def _usable_changed(self) -> None:
        self._shares = []
        if any(endpoint.weight != self.usable[0].weight for endpoint in self.usable):
            total = 0
            for endpoint in self.usable:
                total += endpoint.weight
                self._shares.append(total)
