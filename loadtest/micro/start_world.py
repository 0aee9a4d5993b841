"""A cluster of many Ingresses as plain objects, for the fake API server."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from loadtest.certificate import self_signed

NAMESPACES = 100
TLS_EVERY = 10
ENDPOINTS = 3


def host(index: int) -> str:
    """The host of the index-th Ingress."""
    return f"app-{index}.example.com"


def objects(count: int, port: int) -> Iterator[dict[str, Any]]:
    """An IngressClass, and `count` each of Ingresses with two paths, Services and EndpointSlices with three endpoints
    on `port` of loopback addresses; every tenth Ingress with a certificate of its own."""
    yield {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": "ingressd"},
        "spec": {"controller": "ingressd.dev/ingress-controller"},
    }
    for index in range(count):
        yield ingress(index)
        yield service(index)
        yield endpoint_slice(index, port)
        if index % TLS_EVERY == 0:
            yield secret(index)


def ingress(index: int, *, path: str = "/api") -> dict[str, Any]:
    """An Ingress as `kubectl apply` leaves it, with the status that a controller gave it."""
    backend = {"service": {"name": f"app-{index}", "port": {"number": 80}}}
    paths = [{"path": one, "pathType": "Prefix", "backend": backend} for one in ("/", path)]
    spec: dict[str, Any] = {
        "ingressClassName": "ingressd",
        "rules": [{"host": host(index), "http": {"paths": paths}}],
    }
    if index % TLS_EVERY == 0:
        spec["tls"] = [{"hosts": [host(index)], "secretName": f"cert-{index}"}]
    metadata = _metadata(index, annotations={"example.com/owner": f"team-{index % NAMESPACES}"})
    status = {"loadBalancer": {"ingress": [{"ip": "203.0.113.10"}]}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata,
        "spec": spec,
        "status": status,
    }


def service(index: int) -> dict[str, Any]:
    """A ClusterIP Service with one port."""
    address = f"10.{96 + index // 62500}.{index // 250 % 250}.{index % 250 + 1}"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(index),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "ipFamilies": ["IPv4"],
            "internalTrafficPolicy": "Cluster",
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
            "selector": {"app.kubernetes.io/name": f"app-{index}"},
            "sessionAffinity": "None",
        },
        "status": {"loadBalancer": {}},
    }


def endpoint_slice(index: int, port: int) -> dict[str, Any]:
    """A slice as the EndpointSlice controller writes it."""
    labels = {
        "app.kubernetes.io/name": f"app-{index}",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "kubernetes.io/service-name": f"app-{index}",
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": _metadata(index, labels=labels),
        "addressType": "IPv4",
        "endpoints": [_endpoint(index, number) for number in range(ENDPOINTS)],
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    }


def _endpoint(index: int, number: int) -> dict[str, Any]:
    pod = f"app-{index}-5d4f8c7b9d-{number}x7kq"
    return {
        "addresses": [f"127.{number + 1}.{index // 250}.{index % 250 + 1}"],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": f"node-{number}.example.internal",
        "targetRef": {"kind": "Pod", "name": pod, "namespace": _namespace(index), "uid": _uid(index, number + 5)},
        "zone": f"zone-{number}",
    }


def secret(index: int) -> dict[str, Any]:
    """A certificate of its own for the host, ECDSA P-256, self-signed."""
    certificate, key = self_signed(host(index))
    data = {"tls.crt": certificate, "tls.key": key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {**_metadata(index), "name": f"cert-{index}"},
        "type": "kubernetes.io/tls",
        "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
    }


def _namespace(index: int) -> str:
    return f"team-{index % NAMESPACES}"


def _uid(index: int, salt: int) -> str:
    return f"{index * 7919 % 2**32:08x}-{salt:04x}-4a4e-9a0e-{index:012x}"


def _metadata(index: int, **more: Any) -> dict[str, Any]:
    return {
        "name": f"app-{index}",
        "namespace": _namespace(index),
        "uid": _uid(index, 1),
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"app.kubernetes.io/name": f"app-{index}"},
        **more,
    }
