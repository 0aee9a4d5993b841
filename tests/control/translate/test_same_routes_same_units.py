"""The same routes as Ingress and as static YAML must give the same units, but for where they came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from golden.golden_world import World, read_state

from ingressd.control.objects.event import ObjectEvent
from ingressd.model.codec import to_json

PEMS = Path(__file__).parents[2] / "golden" / "pems"
HOSTS = {
    "a.example": [("Prefix", "/"), ("Exact", "/exact/"), ("Prefix", "/p%20q/")],
    "*.wild.example": [("Prefix", "/")],
}


def as_static(folder: Path) -> tuple[ObjectEvent, ...]:
    routes = [
        {"host": host, "path": path, "pathType": path_type, "upstream": "api"}
        for host, rules in HOSTS.items()
        for path_type, path in rules
    ]
    config = {
        "routes": routes,
        "upstreams": {"api": {"endpoints": ["10.0.0.1:8080", "[fd00::1]:8080"]}},
        "tls": [{"hosts": ["a.example"], "certFile": f"{PEMS}/a.example.crt", "keyFile": f"{PEMS}/a.example.key"}],
    }
    return _events(config, [], folder)


def as_ingress(folder: Path) -> tuple[ObjectEvent, ...]:
    backend = {"service": {"name": "api", "port": {"number": 80}}}
    rules = [
        {"host": host, "http": {"paths": [{"path": p, "pathType": t, "backend": backend} for t, p in rules]}}
        for host, rules in HOSTS.items()
    ]
    pem = {f"tls.{kind}": (PEMS / f"a.example.{kind}").read_text() for kind in ("crt", "key")}
    slices = [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "api"}},
            "addressType": family,
            "ports": [{"port": 8080}],
            "endpoints": [{"addresses": [address]}],
        }
        for name, family, address in (("four", "IPv4", "10.0.0.1"), ("six", "IPv6", "fd00::1"))
    ]
    objects = [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api"}, "spec": {"ports": [{"port": 80}]}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "stringData": pem},
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {"name": "ingressd"},
            "spec": {"controller": "ingressd.dev/ingress-controller"},
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": "web"},
            "spec": {
                "ingressClassName": "ingressd",
                "rules": rules[:1],
                "tls": [{"hosts": ["a.example"], "secretName": "a"}],
            },
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": "wild"},
            "spec": {"ingressClassName": "ingressd", "rules": rules[1:]},
        },
        *slices,
    ]
    return _events({}, objects, folder)


def _events(config: dict[str, Any], objects: list[Any], folder: Path) -> tuple[ObjectEvent, ...]:
    events, problems = read_state(config, objects, folder)
    assert problems == ()
    return events


def units_of(events: tuple[ObjectEvent, ...], *, names: dict[str, str]) -> dict[str, Any]:
    """The units without origins, Services, and with names replaced: what is left is what a worker does."""
    translation = World().become(events)
    assert translation.problems == []
    text = to_json(translation.units).decode()
    for old, new in names.items():
        text = text.replace(f'"{old}"', f'"{new}"').replace(f'/{old}"', f'/{new}"')
    found: dict[str, Any] = msgspec.json.decode(text)
    _forget(found)
    return found


def _forget(value: Any) -> None:
    if isinstance(value, dict):
        value.pop("origin", None)
        value.pop("service", None)
        for item in value.values():
            _forget(item)
    elif isinstance(value, list):
        for item in value:
            _forget(item)


def test_ingress_and_static_routes_give_the_same_units(tmp_path: Path) -> None:
    static = units_of(as_static(tmp_path), names={"/api": "UPSTREAM", f"/{PEMS}/a.example.crt": "CERTIFICATE"})
    ingress = units_of(as_ingress(tmp_path), names={"default/api:80": "UPSTREAM", "default/a": "CERTIFICATE"})
    assert static == ingress
    assert len(static) == 9
