"""Services and static upstreams to `Upstream` and `Endpoints` units."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

import msgspec

from ingressd.control.objects.kubernetes import Service, ServicePort
from ingressd.control.objects.static import StaticUpstream
from ingressd.control.store.store import StoreView
from ingressd.control.translate.drafts import ServiceBackend
from ingressd.control.translate.endpoints import usable_endpoints
from ingressd.control.translate.environment import UpstreamRules
from ingressd.control.translate.request_caps import cap_of_service
from ingressd.model.problem import Origin, Problem
from ingressd.model.units import Endpoint, Endpoints, Upstream, UpstreamTls
from ingressd.settings.config import HealthCheck
from ingressd.settings.health_check import PREFIX, read_annotations


class Resolved(NamedTuple):
    """What became of a backend: the name of its upstream, or the reason and words of a problem."""

    upstream: str | None
    reason: str = ""
    message: str = ""


class UpstreamUnits(NamedTuple):
    """The two units of an upstream and what is wrong with their objects."""

    upstream: Upstream
    endpoints: Endpoints
    problems: tuple[Problem, ...] = ()


def resolve_service(view: StoreView, backend: ServiceBackend, *, rules: UpstreamRules) -> Resolved:
    """The upstream of a Service's port. Its name holds the Service's number for the port, however it was asked for."""
    where = f"Service {backend.namespace}/{backend.service}"
    service = view.find(Service, namespace=backend.namespace, name=backend.service)
    if service is None:
        return Resolved(None, "ServiceNotFound", f"{where} does not exist: the route answers 503")
    external = service.spec.type == "ExternalName"
    if external and not rules.external_names:
        message = f"{where} is an ExternalName, and flag disable-svc-external-name is not false: the route answers 503"
        return Resolved(None, "ExternalNameNotAllowed", message)
    port = service_port(service, backend)
    if port is None and external and backend.port.number:
        # An ExternalName need not declare its ports: the number that is asked for is the number that is used.
        return Resolved(upstream_name(backend.namespace, backend.service, backend.port.number))
    if port is None:
        asked = repr(backend.port.name) if backend.port.name else str(backend.port.number)
        message = f"{where} has no port {asked}: the route answers 503"
        return Resolved(None, "ServicePortNotFound", message)
    return Resolved(upstream_name(backend.namespace, backend.service, port.port))


def service_port(service: Service, backend: ServiceBackend) -> ServicePort | None:
    """The port a backend asks for by name or number (the Service's own, never its targetPort); TCP before others."""
    wanted = backend.port
    matching = [
        port for port in service.spec.ports if (port.name == wanted.name if wanted.name else port.port == wanted.number)
    ]
    return min(matching, key=lambda port: port.protocol != "TCP", default=None)


def upstream_name(namespace: str, service: str, port: int) -> str:
    """The name of a Service's upstream."""
    return f"{namespace}/{service}:{port}"


def service_units(view: StoreView, name: str, *, rules: UpstreamRules) -> UpstreamUnits:
    """The units of an upstream that `resolve_service` named."""
    path, _, number = name.rpartition(":")
    namespace, _, service_name = path.partition("/")
    origin = Origin("Service", namespace, service_name)
    service = view.find(Service, namespace=namespace, name=service_name)
    if service is None:
        return UpstreamUnits(Upstream(name, origin), Endpoints(name, ()))
    sticky = service.spec.session_affinity == "ClientIP"
    check, mistakes = _health_check(service, origin=origin)
    cap, faults = cap_of_service(msgspec.to_builtins(service.metadata.annotations), origin)
    upstream = Upstream(
        name=name,
        origin=origin,
        balancer="hash" if sticky else rules.balancer,
        hash_by="client_ip" if sticky else rules.hash_by,
        health_check=check or msgspec.UNSET,
        cap=cap or msgspec.UNSET,
    )
    if service.spec.type == "ExternalName":
        endpoints, problems = _external(service, int(number), origin=origin)
    else:
        endpoints, problems = _of_slices(view, service, number=int(number), zone=rules.zone)
    return UpstreamUnits(upstream, Endpoints(name, endpoints), (*problems, *mistakes, *faults))


def static_units(static: StaticUpstream, *, rules: UpstreamRules) -> UpstreamUnits:
    """The units of an entry of `upstreams`. Names are resolved by whoever made the object."""
    name = f"/{static.name}"
    origin = Origin("Config", "", "upstreams", static.name)
    tls = static.tls and UpstreamTls(
        verify=static.tls.verify,
        ca_pem=static.tls.ca_pem,
        verify_depth=static.tls.verify_depth,
        server_name=static.tls.server_name,
        cert_pem=static.tls.cert_pem,
        key_pem=static.tls.key_pem,
        ciphers=static.tls.ciphers,
        protocols=static.tls.protocols,
    )
    balancer = static.balancer or rules.balancer
    hash_by = static.hash_by or ("" if static.balancer else rules.hash_by)
    found: dict[tuple[str, int], Endpoint] = {}
    # A name without addresses is the resolver's to report.
    for endpoint in static.endpoints:
        for address in endpoint.addresses or ():
            one = Endpoint(address=address, port=endpoint.port, weight=endpoint.weight, zone=endpoint.zone)
            found.setdefault((address, endpoint.port), one)
    endpoints = tuple(sorted(found.values()))
    return UpstreamUnits(
        Upstream(
            name=name,
            origin=origin,
            balancer=balancer,
            hash_by=hash_by,
            tls=tls or None,
            health_check=static.health_check or msgspec.UNSET,
            cap=static.cap or msgspec.UNSET,
        ),
        Endpoints(name, endpoints),
    )


def _health_check(service: Service, *, origin: Origin) -> tuple[HealthCheck | None, tuple[Problem, ...]]:
    """What the Service's annotations ask for, on all of its ports."""
    written = msgspec.to_builtins(service.metadata.annotations)
    check, mistakes = read_annotations({key.removeprefix(PREFIX): text for key, text in written.items()})
    return check, tuple(
        Problem(
            "warning" if mistake.idle else "error",
            origin,
            "AnnotationWithoutEffect" if mistake.idle else "InvalidAnnotation",
            PREFIX + mistake.annotation,
            mistake.message,
        )
        for mistake in mistakes
    )


def _of_slices(
    view: StoreView, service: Service, *, number: int, zone: str
) -> tuple[tuple[Endpoint, ...], tuple[Problem, ...]]:
    namespace, name = service.metadata.namespace, service.metadata.name
    port = next((port for port in service.spec.ports if port.port == number and port.protocol == "TCP"), None)
    port = port or next((port for port in service.spec.ports if port.port == number), None)
    if port is None:
        return (), ()
    slices = view.slices(namespace=namespace, service=name)
    problems = tuple(
        Problem(
            severity="warning",
            origin=Origin("EndpointSlice", namespace, one.metadata.name),
            reason="AddressTypeNotSupported",
            field="addressType",
            message=f"slices of address type {one.address_type or 'unknown'} are not used, only IPv4 and IPv6",
        )
        for one in slices
        if one.address_type not in ("IPv4", "IPv6")
    )
    family = service.spec.ip_families[0] if service.spec.ip_families else "IPv4"
    return usable_endpoints(slices, port, zone=zone, family=family), problems


def _external(service: Service, number: int, *, origin: Origin) -> tuple[tuple[Endpoint, ...], tuple[Problem, ...]]:
    name = service.spec.external_name
    try:
        address = str(ipaddress.ip_address(name))
    except ValueError:
        message = f"names of ExternalName Services are not resolved yet ({name!r}): the Service has no endpoints"
        return (), (Problem("error", origin, "ExternalNameNotResolved", "spec.externalName", message),)
    return (Endpoint(address=address, port=number),), ()
