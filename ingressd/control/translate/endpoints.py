"""EndpointSlices to endpoints: joined, filtered by condition, by topology hint and by address family."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ingressd.control.objects.kubernetes import EndpointSlice, ServicePort, SliceEndpoint
from ingressd.model.units import Endpoint

_FAMILIES = ("IPv4", "IPv6")


class _Found(NamedTuple):
    """An endpoint of a slice with its port. `pod` is the same for the two addresses of a dual-stack Pod."""

    endpoint: SliceEndpoint
    port: int
    family: str
    pod: str | None

    @property
    def address(self) -> tuple[str, int]:
        # "The addresses of an endpoint are fungible, and clients use the first": the API reference.
        return (self.endpoint.addresses[0], self.port)


def usable_endpoints(
    slices: Iterable[EndpointSlice], port: ServicePort, *, zone: str, family: str = "IPv4"
) -> tuple[Endpoint, ...]:
    """The endpoints that requests may go to, sorted and without duplicates.

    Those that are ready; if there are none, those that still serve while they terminate (KEP-1669), marked as draining;
    else none. `port` is matched by name, as slices know nothing of the Service's numbers. `zone` is ours, "" if not
    known. `family` is what a Pod that is in both address families is reached by, so that it does not weigh double.
    """
    found = list(_with_port(slices, port))
    ready = [one for one in found if one.endpoint.conditions.ready is not False]
    draining = False
    if ready:
        ready = _hinted(ready, zone)
    else:
        draining = True
        ready = [one for one in found if _serves_while_terminating(one.endpoint)]
    chosen = {one.address: one.endpoint for one in sorted(_one_family(ready, family), key=lambda one: one.address)}
    return tuple(
        sorted(
            Endpoint(address=address, port=number, zone=endpoint.zone, draining=draining)
            for (address, number), endpoint in chosen.items()
        )
    )


def _with_port(slices: Iterable[EndpointSlice], port: ServicePort) -> Iterator[_Found]:
    for one in slices:
        if one.address_type not in _FAMILIES:
            continue
        numbers = {p.port for p in one.ports if p.name == port.name and p.protocol == port.protocol and p.port}
        for number in sorted(number for number in numbers if number is not None):
            for endpoint in one.endpoints:
                if endpoint.addresses:
                    pod = None if endpoint.target_ref is None else endpoint.target_ref.name
                    yield _Found(endpoint, number, one.address_type, pod)


def _serves_while_terminating(endpoint: SliceEndpoint) -> bool:
    return endpoint.conditions.terminating is True and endpoint.conditions.serving is not False


def _hinted(ready: list[_Found], zone: str) -> list[_Found]:
    """Those that are hinted for our zone; all of them when hints are incomplete or nothing is hinted for it.

    The rule is kube-proxy's (pkg/proxy/topology.go): one ready endpoint without a hint switches hints off.
    """
    if not zone:
        return ready
    ours: list[_Found] = []
    for one in ready:
        hints = one.endpoint.hints
        if hints is None or not hints.for_zones:
            return ready
        if any(hint.name == zone for hint in hints.for_zones):
            ours.append(one)
    return ours or ready


def _one_family(found: list[_Found], family: str) -> list[_Found]:
    """Without those whose Pod is among the others by an address of `family`."""
    reached = {(one.pod, one.port) for one in found if one.family == family and one.pod is not None}
    return [one for one in found if one.family == family or (one.pod, one.port) not in reached]
