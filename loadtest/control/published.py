"""What others were measured to do, by howardjohn/gateway-api-bench, on bigger machines and for HTTPRoute."""

from __future__ import annotations

from typing import Final, NamedTuple

SOURCE: Final = "https://github.com/howardjohn/gateway-api-bench"


class Published(NamedTuple):
    """One gateway: a new route, a route that changes under load, memory with 5,000 routes."""

    name: str
    route_probe: str
    route_change: str
    memory: str


PUBLISHED: Final = (
    Published("agentgateway", "16.6 ms (mean)", "no failures", "556 MiB"),
    Published("Istio", "221 ms", "no failures", "1-2 GB a data plane"),
    Published("Envoy Gateway", "320 ms, with 503s", "500s and 503s", "1-2 GB a data plane, control plane leaks"),
    Published("Traefik", "2 s", "no failures", "does not take all routes"),
    Published("Kong", "3 s", "no failures", "1-2 GB a data plane"),
    Published("HAProxy", "5 s", "", ""),
)
