"""The one table of balancers, by the names of `model.units.Upstream.balancer`."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from types import MappingProxyType
from typing import Final, Protocol

from ingressd.proxy.upstream import outlier
from ingressd.proxy.upstream.balancers.base import Balancer
from ingressd.proxy.upstream.balancers.consistent_hash import ConsistentHash
from ingressd.proxy.upstream.balancers.least_request import LeastRequest
from ingressd.proxy.upstream.balancers.peak_ewma import PeakEwma
from ingressd.proxy.upstream.balancers.round_robin import RoundRobin


class MakesBalancer(Protocol):
    """A balancer's constructor."""

    def __call__(self, rng: Random, *, health: outlier.PodHealth | None = None) -> Balancer: ...


BALANCERS: Final[Mapping[str, MakesBalancer]] = MappingProxyType(
    {
        "round_robin": RoundRobin,
        "least_request": LeastRequest,
        "ewma": PeakEwma,
        "hash": ConsistentHash,
    }
)
