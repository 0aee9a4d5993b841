"""From units to what the page and the metrics show."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ingressd.control.admin.page import Table
from ingressd.control.health.checks import EndpointView
from ingressd.control.pipeline.publisher import WorkerView
from ingressd.model.units import (
    Certificate,
    ClientAuthority,
    ClientCertificates,
    Endpoints,
    Listener,
    ProcessPolicy,
    RoutePolicy,
    TlsHost,
    Unit,
    Upstream,
    VirtualHost,
)
from ingressd.observe.metrics import CertificateExpiry

_TYPES: Final = {
    "process": ProcessPolicy.__name__,
    "listener": Listener.__name__,
    "host": VirtualHost.__name__,
    "policy": RoutePolicy.__name__,
    "upstream": Upstream.__name__,
    "endpoints": Endpoints.__name__,
    "certificate": Certificate.__name__,
    "tls": TlsHost.__name__,
    "authority": ClientAuthority.__name__,
    "clients": ClientCertificates.__name__,
}
"""By what a unit's key begins with: counting them decodes nothing."""


def certificate_expiries(units: Mapping[str, Unit]) -> list[CertificateExpiry]:
    """Each host that has a certificate of ours, by host."""
    found = []
    for key in units:
        unit = units[key] if key.startswith("tls/") else None
        if not isinstance(unit, TlsHost) or unit.certificate is None:
            continue
        certificate = units.get(f"certificate/{unit.certificate}")
        if isinstance(certificate, Certificate):
            found.append(
                CertificateExpiry(
                    host=unit.host,
                    name=certificate.name,
                    namespace=certificate.origin.namespace,
                    secret=certificate.origin.name if certificate.origin.kind == "Secret" else "",
                    serial=certificate.serial,
                    issuer=certificate.issuer,
                    not_after_s=certificate.not_after_s,
                )
            )
    return sorted(found)


def unit_counts(units: Mapping[str, Unit]) -> list[tuple[str, int]]:
    """How many units of each kind there are, by kind."""
    found = Counter(key.partition("/")[0] for key in units)
    return sorted((_TYPES[kind], number) for kind, number in found.items())


def counts(units: Mapping[str, Unit], workers: int) -> list[tuple[str, str]]:
    """The numbers an operator asks for first."""
    hosts = [unit for unit in units.values() if isinstance(unit, VirtualHost)]
    endpoints = [unit for unit in units.values() if isinstance(unit, Endpoints)]
    numbers = {
        "workers": workers,
        "listeners": sum(isinstance(unit, Listener) for unit in units.values()),
        "hosts": len(hosts),
        "routes": sum(len(host.routes) + (host.default is not None) for host in hosts),
        "upstreams": sum(isinstance(unit, Upstream) for unit in units.values()),
        "endpoints": sum(len(unit.endpoints) for unit in endpoints),
        "certificates": sum(isinstance(unit, Certificate) for unit in units.values()),
    }
    return [(name, str(number)) for name, number in numbers.items()]


def tables(
    units: Mapping[str, Unit],
    *,
    workers: Sequence[WorkerView],
    listeners: Iterable[tuple[Listener, str]],
    now_s: float,
) -> list[Table]:
    """The tables of the page; `now_s` is seconds since 1970."""
    return [
        Table(
            "Workers",
            ("worker", "pid", "starts", "serves version", "accepts from"),
            [
                (str(one.worker), str(one.pid), str(one.starts), str(one.version), ", ".join(one.listening))
                for one in workers
            ],
            "No worker is connected.",
        ),
        Table(
            "Listeners",
            ("name", "address", "protocol", "state"),
            [(unit.name, f"{unit.host}:{unit.port}", unit.protocol, unbound or "bound") for unit, unbound in listeners],
            "None.",
        ),
        Table("Routes", ("host", "path", "type", "upstream", "from"), list(_routes(units)), "None."),
        Table("Upstreams", ("name", "balancer", "endpoints"), list(_upstreams(units)), "None."),
        Table(
            "Certificates",
            ("host", "certificate", "expires"),
            [(one.host or "(any)", one.name, _expiry(one.not_after_s, now_s)) for one in certificate_expiries(units)],
            "None: HTTPS hosts get the self-signed certificate.",
        ),
    ]


def health_table(endpoints: Sequence[EndpointView]) -> Table:
    """Endpoints with health checks that get no requests now, unless all of their upstream are so."""
    return Table(
        "Endpoints kept out by health checks",
        ("upstream", "endpoint", "state", "last probe"),
        [
            (one.upstream, one.address, "ejected" if one.healthy else "unhealthy", one.said or "succeeded")
            for one in endpoints
            if one.ejected or not one.healthy
        ],
        f"None of {len(endpoints)} that are probed.",
    )


def _routes(units: Mapping[str, Unit]) -> Iterable[Sequence[str]]:
    for _, unit in sorted(units.items()):
        if not isinstance(unit, VirtualHost):
            continue
        for route in unit.routes:
            target = route.upstream or f"answers {route.status}"
            yield (unit.host or "(any)", route.path, route.path_type, target, str(route.origin))
        if unit.default is not None:
            target = unit.default.upstream or f"answers {unit.default.status}"
            yield (unit.host or "(any)", "(any other)", "", target, str(unit.default.origin))


def _upstreams(units: Mapping[str, Unit]) -> Iterable[Sequence[str]]:
    for _, unit in sorted(units.items()):
        if isinstance(unit, Upstream):
            endpoints = units.get(f"endpoints/{unit.name}")
            addresses = endpoints.endpoints if isinstance(endpoints, Endpoints) else ()
            shown = ", ".join(f"{one.address}:{one.port}" for one in addresses[:20])
            more = f" and {len(addresses) - 20} more" if len(addresses) > 20 else ""
            yield (unit.name, unit.balancer, shown + more or "none usable: answers 503")


def _expiry(not_after_s: float, now_s: float) -> str:
    day = datetime.datetime.fromtimestamp(not_after_s, datetime.UTC).strftime("%Y-%m-%d")
    left = int((not_after_s - now_s) // 86400)
    return f"{day} (expired)" if not_after_s < now_s else f"{day} ({left} days)"
