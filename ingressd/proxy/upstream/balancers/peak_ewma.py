"""Peak EWMA: of two endpoints taken at random, the one expected to answer sooner (`load-balance: ewma`)."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import Final

from ingressd.proxy.upstream.balancers.least_request import LeastRequest
from ingressd.proxy.upstream.endpoint import EndpointState

DECAY_S: Final = 10.0
"""Time constant of the average; ingress-nginx's `DECAY_TIME` and linkerd's default."""


class PeakEwma(LeastRequest):
    """Cost is the average latency times the work in flight plus one, over weight, as in Finagle and linkerd.

    The average is exponentially weighted by time, not by request, and peak sensitive: a slower answer than the average
    counts at once, a faster one only as the time constant lets it. It decays towards nothing while no answer comes, so
    that an endpoint which was slow once is tried again. An endpoint that was never observed costs the mean of the
    others, as in ingress-nginx, which spares a new pod the whole load.
    """

    observes_latency = True
    __slots__ = ()

    def observe(self, endpoint: EndpointState, duration_s: float, now: float) -> None:
        """Fold one answer's latency into the endpoint's average."""
        average = endpoint.ewma_s
        if average < 0.0:
            endpoint.ewma_s = duration_s
        else:
            # Time may seem to go back when two answers are handled in one turn of the loop.
            keep = exp(-max(now - endpoint.ewma_at, 0.0) / DECAY_S)
            average = average * keep
            endpoint.ewma_s = duration_s if duration_s > average else average + duration_s * (1.0 - keep)
        endpoint.ewma_at = now

    def update(self, endpoints: Sequence[EndpointState]) -> None:
        """Take a new list; newcomers start at the mean of what is known."""
        known = [endpoint for endpoint in endpoints if endpoint.ewma_s >= 0.0]
        if known:
            mean = sum(endpoint.ewma_s for endpoint in known) / len(known)
            latest = max(endpoint.ewma_at for endpoint in known)
            for endpoint in endpoints:
                if endpoint.ewma_s < 0.0:
                    endpoint.ewma_s = mean
                    endpoint.ewma_at = latest
        super().update(endpoints)

    def _cost(self, endpoint: EndpointState, now: float) -> float:
        average = endpoint.ewma_s
        if average > 0.0:
            average *= exp((endpoint.ewma_at - now) / DECAY_S) if now > endpoint.ewma_at else 1.0
        else:
            average = 0.0
        return average * (endpoint.in_flight() + 1) / endpoint.weight
