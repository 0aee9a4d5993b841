"""What the admin listener counts."""

from typing import get_args

from ingressd.control.admin.facts import unit_counts
from ingressd.model.problem import Origin
from ingressd.model.units import ClientAuthority, ClientCertificates, RoutePolicy, Unit, key_of


def test_every_kind_of_unit_can_be_counted() -> None:
    origin = Origin("Ingress", "default", "web")
    few = [ClientAuthority("default/ca", b"x"), ClientCertificates("a.test", origin)]
    units: dict[str, Unit] = {key_of(unit): unit for unit in few}
    units["policy/"] = RoutePolicy()
    assert unit_counts(units) == [("ClientAuthority", 1), ("ClientCertificates", 1), ("RoutePolicy", 1)]
    beginnings = [
        "process",
        "listener",
        "host",
        "policy",
        "upstream",
        "endpoints",
        "certificate",
        "tls",
        "authority",
        "clients",
    ]
    assert len(beginnings) == len(get_args(Unit))
    every = {f"{name}/x": RoutePolicy() for name in beginnings}
    assert {name for name, _ in unit_counts(every)} == {kind.__name__ for kind in get_args(Unit)}
