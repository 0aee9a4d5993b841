"""Where our objects are reached: the addresses that become their status (ingress-nginx, internal/ingress/status).

From flag `publish-status-address`, else from the Service of `publish-service`, else from the nodes that our pods run
on. None means that nobody knows: then a status stays as it is, which is not the same as having no address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any, Final

from ingressd.control.objects.event import NODES_KEY, ObjectKey
from ingressd.control.objects.kubernetes import LoadBalancerIngress, PortStatus, Service
from ingressd.control.objects.static import NodeAddresses, ProcessSettings, StaticListener
from ingressd.control.store.store import StoreView
from ingressd.model.problem import Origin, Problem
from ingressd.settings.flags import ProcessFlags

Addresses = tuple[LoadBalancerIngress, ...]
Ports = tuple[PortStatus, ...]

_FLAGS: Final = Origin("Config", "", "flags")


def published_service(flags: ProcessFlags) -> ObjectKey | None:
    """The Service whose addresses count, None when others do."""
    namespace, _, name = (flags.published_service() or "").partition("/")
    return ObjectKey("Service", namespace, name) if name else None


def published_addresses(
    view: StoreView, flags: ProcessFlags, settings: ProcessSettings
) -> tuple[Addresses | None, tuple[Problem, ...]]:
    """The addresses of this moment with their ports, and what is wrong with where they come from."""
    if not flags.update_status:
        return None, ()
    if flags.publish_status_address:
        problems: tuple[Problem, ...] = ()
        if flags.publish_service:
            # ingress-nginx does not start with both.
            message = "excludes publish-status-address, which counts"
            problems = (Problem("error", _FLAGS, "InvalidValue", "publish-service", message),)
        return _entries(flags.publish_status_address, _declared_ports(view, settings)), problems
    key = published_service(flags)
    if key is not None:
        service = view.get(key)
        if isinstance(service, Service):
            return _of_service(service), ()
        message = f"Service {key.namespace}/{key.name} does not exist: statuses stay as they are"
        return None, (Problem("warning", _FLAGS, "ServiceNotFound", "publish-service", message),)
    return _of_nodes(view, flags, settings)


def status_of(addresses: Addresses | None) -> dict[str, Any]:
    """`status` of an object that is reached there; without `loadBalancer` when nobody knows."""
    if addresses is None:
        return {}
    entries = [
        {
            **({"ip": one.ip} if one.ip else {}),
            **({"hostname": one.hostname} if one.hostname else {}),
            **({"ports": [{"port": port.port, "protocol": port.protocol} for port in one.ports]} if one.ports else {}),
        }
        for one in addresses
    ]
    return {"loadBalancer": {"ingress": entries} if entries else {}}


def _of_service(service: Service) -> Addresses:
    """As ingress-nginx does, but in all address families: a Service's `clusterIP` is only the first of several."""
    spec = service.spec
    ports = _ports(port.port for port in spec.ports if port.protocol == "TCP")
    cluster = [one for one in spec.cluster_ips or (spec.cluster_ip,) if one not in ("", "None")]
    if spec.type == "ExternalName":
        return _entries((spec.external_name,), ports)
    if spec.type == "LoadBalancer":
        found = service.status.load_balancer.ingress
        more = dict.fromkeys(spec.external_ips)
        for one in found:
            more.pop(one.ip, None)
        return (
            *(LoadBalancerIngress(ip=one.ip, hostname=one.hostname, ports=ports) for one in found),
            *_entries(more, ports),
        )
    if spec.type == "NodePort" and spec.external_ips:
        return _entries(spec.external_ips, ports)
    return _entries(cluster, ports)


def _of_nodes(
    view: StoreView, flags: ProcessFlags, settings: ProcessSettings
) -> tuple[Addresses | None, tuple[Problem, ...]]:
    found = view.get(NODES_KEY)
    if not isinstance(found, NodeAddresses):
        # Not in a cluster: objects from files have no address that we could tell.
        return (), ()
    if not found.nodes:
        # No pod of ours is ready yet, and one that asks whether it is the first must not undo what others wrote.
        return None, ()
    addresses: list[str] = []
    for node in found.nodes:
        internal = flags.report_node_internal_ip_address or not node.external
        addresses += node.internal if internal else node.external
    return _entries(addresses, _declared_ports(view, settings)), ()


def _declared_ports(view: StoreView, settings: ProcessSettings) -> Ports:
    """The ports of `listeners` as the world outside knows them."""
    declared = {bound: port for port, bound in sorted(settings.listener_ports.items(), reverse=True)}
    return _ports(declared.get(listener.port, listener.port) for _, listener in view.items(StaticListener))


def _ports(numbers: Iterable[int]) -> Ports:
    return tuple(PortStatus(number, "TCP") for number in sorted({*numbers}))


def _entries(addresses: Iterable[str], ports: Ports) -> Addresses:
    """Each address once, as an IP or as a host name."""
    return tuple(
        LoadBalancerIngress(ip=one, ports=ports) if _is_ip(one) else LoadBalancerIngress(hostname=one, ports=ports)
        for one in dict.fromkeys(addresses)
        if one
    )


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True
