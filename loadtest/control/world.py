"""The objects of a cluster, as an API server keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Object = dict[str, Any]
Address = tuple[str, int]

CLASS = "ingressd"
CONTROLLER = "ingressd.dev/ingress-controller"
NAMESPACES = 50
"""As in gateway-api-bench's route scale."""
CREATED = "2026-01-01T00:00:00Z"


def namespace_of(index: int) -> str:
    """Where the index-th application lives."""
    return f"team-{index % NAMESPACES}"


def pod_address(index: int, *, generation: int = 0) -> str:
    """An address in 127.0.0.0/8 for the index-th application, another for each generation of its pods."""
    return f"127.{64 + generation % 128}.{index // 250}.{1 + index % 250}"


def host_of(index: int) -> str:
    """The host of the index-th application."""
    return f"app-{index}.example.com"


def _object(kind: str, index: int, api_version: str, name: str = "", **rest: Any) -> Object:
    metadata = {"name": name or f"app-{index}", "namespace": namespace_of(index), "creationTimestamp": CREATED}
    return {"apiVersion": api_version, "kind": kind, "metadata": {**metadata, **rest.pop("metadata", {})}, **rest}


def ingress(
    index: int,
    *,
    services: Sequence[str] = (),
    name: str = "",
    host: str = "",
    paths: Sequence[str] = ("/", "/api/v1"),
    annotations: dict[str, str] | None = None,
) -> Object:
    """An Ingress of one host. Path N goes to the N-th of `services`, the last of them when there are fewer."""
    chosen = list(services) or [f"app-{index}"]
    rules = [
        {"path": path, "pathType": "Prefix", "backend": {"service": {"name": service, "port": {"number": 80}}}}
        for path, service in zip(paths, [*chosen, *[chosen[-1]] * len(paths)], strict=False)
    ]
    return _object(
        "Ingress",
        index,
        "networking.k8s.io/v1",
        name,
        metadata={"annotations": annotations} if annotations else {},
        spec={"ingressClassName": CLASS, "rules": [{"host": host or host_of(index), "http": {"paths": rules}}]},
    )


def service(index: int, *, name: str = "") -> Object:
    """A Service with one port."""
    name = name or f"app-{index}"
    ports = [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]
    spec = {"type": "ClusterIP", "clusterIP": f"10.96.{index // 250}.{index % 250}", "selector": {"app": name}}
    return _object("Service", index, "v1", name, spec={**spec, "ports": ports})


def endpoint(address: str, *, ready: bool = True, terminating: bool = False) -> Object:
    """One endpoint of a slice. A pod that is being deleted is terminating, and serving as long as it was ready."""
    conditions = {"ready": ready and not terminating, "serving": ready, "terminating": terminating}
    return {"addresses": [address], "conditions": conditions, "nodeName": "node-1"}


def endpoint_slice(index: int, endpoints: Sequence[Object], port: int, *, service: str = "", name: str = "") -> Object:
    """A slice of a Service."""
    service = service or f"app-{index}"
    return _object(
        "EndpointSlice",
        index,
        "discovery.k8s.io/v1",
        name or f"{service}-x",
        metadata={"labels": {"kubernetes.io/service-name": service}},
        addressType="IPv4",
        endpoints=list(endpoints),
        ports=[{"name": "http", "protocol": "TCP", "port": port}],
    )


def ingress_class() -> Object:
    """The class that makes them ours."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": CLASS, "creationTimestamp": CREATED},
        "spec": {"controller": CONTROLLER},
    }


def applications(count: int, port: int, *, paths: Sequence[str] = ("/", "/api/v1")) -> Iterator[Object]:
    """The class, the namespaces, and `count` applications: an Ingress, a Service, a slice with one pod each."""
    yield ingress_class()
    for index in range(NAMESPACES):
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace_of(index)}}
    for index in range(count):
        yield ingress(index, paths=paths)
        yield service(index)
        yield endpoint_slice(index, [endpoint(pod_address(index))], port)
