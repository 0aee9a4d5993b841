"""Smooth weighted round robin, as nginx's `ngx_http_upstream_get_peer`: a heavy endpoint's turns are spread out."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from ingressd.proxy.upstream import outlier
from ingressd.proxy.upstream.balancers.base import EndpointSet
from ingressd.proxy.upstream.endpoint import EndpointState


class RoundRobin(EndpointSet):
    """`load-balance: round_robin`.

    With equal weights the smooth order is the order of the list, so an index is enough. With different weights each
    pick adds every endpoint's weight to what it is owed and takes the whole sum back from the one owed most; what is
    owed lives in the endpoint and survives changes of the list.

    Every worker starts at a random place, or N workers would all send their first requests to the first endpoint.
    """

    __slots__ = ("_equal", "_next", "_started")

    def __init__(self, rng: Random, *, health: outlier.PodHealth | None = None) -> None:
        super().__init__(rng, health=health)
        self._equal = True
        self._next = 0
        self._started = False

    def pick(self, key: bytes | None, now: float) -> EndpointState | None:
        """The endpoint whose turn it is."""
        only = self._only
        if only is not None:
            return only
        if now >= self._due or self._bell[0] != self._rung:
            self._refresh(now)
            if self._trials:
                return self._trials.pop()
        usable = self.usable
        if not self._equal:
            return self._pick_smooth(usable)
        turn = self._next
        if turn >= len(usable):
            if not usable:
                return None
            turn = 0
        self._next = turn + 1
        return usable[turn]

    def candidates(self, key: bytes | None, now: float) -> Iterator[EndpointState]:
        """The endpoint whose turn it is, then the others as their turns would come."""
        first = self.pick(key, now)
        if first is None:
            return
        yield first
        usable = list(self.usable)
        if self._equal:
            start = usable.index(first) + 1 if first in usable else 0
            rest = usable[start:] + usable[:start]
        else:
            rest = sorted(usable, key=lambda endpoint: -endpoint.current_weight)
        for endpoint in rest:
            if endpoint is not first:
                yield endpoint

    def _pick_smooth(self, usable: list[EndpointState]) -> EndpointState | None:
        best = None
        owed = 0
        total = 0
        for endpoint in usable:
            weight = endpoint.weight
            total += weight
            current = endpoint.current_weight = endpoint.current_weight + weight
            if best is None or current > owed:
                best = endpoint
                owed = current
        if best is not None:
            best.current_weight = owed - total
        return best

    def _usable_changed(self) -> None:
        usable = self.usable
        self._equal = all(endpoint.weight == usable[0].weight for endpoint in usable)
        if not usable:
            return
        if not self._started:
            self._started = True
            self._next = int(self._random() * len(usable))
            if not self._equal:
                for _ in range(int(self._random() * min(sum(endpoint.weight for endpoint in usable), 64))):
                    self._pick_smooth(usable)
        self._next %= len(usable)
