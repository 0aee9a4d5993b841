"""Consistent hash: the same key goes to the same endpoint, in every worker, whatever else changes (ketama)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from random import Random
from struct import unpack
from typing import Final

from ingressd.proxy.upstream import outlier
from ingressd.proxy.upstream.balancers.base import EndpointSet
from ingressd.proxy.upstream.endpoint import EndpointState

POINTS: Final = 160
"""Points on the ring of the heaviest endpoint; nginx's `hash … consistent` takes as many."""


class ConsistentHash(EndpointSet):
    """A ring of 64-bit points, each owned by an endpoint; a key belongs to the next point after its hash.

    Points depend on the address alone, so an endpoint that comes or goes moves only the keys it gains or loses, and
    workers agree without talking (Python's own `hash` is seeded per process and would not). Keys of an ejected
    endpoint go to the next owners on the ring and return afterwards. Without a key, any endpoint will do.
    """

    __slots__ = ("_owners", "_points")

    def __init__(self, rng: Random, *, health: outlier.PodHealth | None = None) -> None:
        super().__init__(rng, health=health)
        self._points: list[int] = []
        self._owners: dict[int, EndpointState] = {}

    def update(self, endpoints: Sequence[EndpointState]) -> None:
        """Take a new list and lay the ring again."""
        super().update(endpoints)
        heaviest = max((endpoint.weight for endpoint in self._eligible), default=1)
        owners: dict[int, EndpointState] = {}
        for endpoint in self._eligible:
            for point in _points_of(endpoint)[: -(-POINTS * endpoint.weight // heaviest)]:
                owner = owners.setdefault(point, endpoint)
                if owner is not endpoint and endpoint.name < owner.name:
                    owners[point] = endpoint
        self._owners = owners
        self._points = sorted(owners)

    def pick(self, key: bytes | None, now: float) -> EndpointState | None:
        """The owner of the key, or the next on the ring that is not ejected."""
        only = self._only
        if only is not None:
            return only
        if now >= self._due or self._bell[0] != self._rung:
            self._refresh(now)
            if self._trials:
                return self._trials.pop()
        points = self._points
        if not points:
            return None
        at = self._position(key)
        owner = self._owners[points[at]]
        if len(self.usable) == len(self._eligible):
            return owner
        while owner not in self.usable:
            at = (at + 1) % len(points)
            owner = self._owners[points[at]]
        return owner

    def candidates(self, key: bytes | None, now: float) -> Iterator[EndpointState]:
        """The owner of the key, then the owners that would inherit it, in the order of the ring."""
        if self._only is not None:
            yield self._only
            return
        if now >= self._due or self._bell[0] != self._rung:
            self._refresh(now)
        points, owners = self._points, self._owners
        left = set(self.usable)
        if not points or not left:
            return
        start = self._position(key)
        for at in range(start, start + len(points)):
            owner = owners[points[at % len(points)]]
            if owner in left:
                left.remove(owner)
                yield owner
                if not left:
                    return

    def _position(self, key: bytes | None) -> int:
        points = self._points
        if key is None:
            return int(self._random() * len(points))
        at = bisect_right(points, int.from_bytes(blake2b(key, digest_size=8).digest(), "little"))
        return at if at < len(points) else 0


def _points_of(endpoint: EndpointState) -> tuple[int, ...]:
    if not endpoint.ring_points:
        points: list[int] = []
        name = endpoint.name.encode()
        for salt in range(POINTS // 8):
            points += unpack("<8Q", blake2b(name, digest_size=64, salt=salt.to_bytes(2, "little")).digest())
        endpoint.ring_points = tuple(points)
    return endpoint.ring_points
