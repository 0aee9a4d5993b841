"""Drafts: what one object asks for, before it meets the others."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import ServiceBackendPort
from ingressd.control.translate.annotations.client_certificates import ClientsDraft
from ingressd.model.problem import Origin, Problem
from ingressd.model.units import PathType


class ServiceBackend(NamedTuple):
    """A port of a Service, by the Service's own name or number for it."""

    namespace: str
    service: str
    port: ServiceBackendPort


class StaticBackend(NamedTuple):
    """An entry of `upstreams`."""

    upstream: str


class ResourceBackend(NamedTuple):
    """A `resource` backend, which nothing can be sent to. `described` names it for people."""

    described: str


Backend = ServiceBackend | StaticBackend | ResourceBackend


class RouteDraft(msgspec.Struct, frozen=True, gc=False):
    """A path and where it leads. `path` has the form of `model.units.Route`."""

    path_type: PathType
    path: str
    backend: Backend
    origin: Origin


def whole(origin: Origin) -> Origin:
    """The object of an origin without the place inside it, which a problem has as its field. Static entries keep it."""
    return origin if origin.kind == "Config" else msgspec.structs.replace(origin, rule="")


class TlsDraft(msgspec.Struct, frozen=True, gc=False):
    """A host's wish for a certificate: the first of `certificates` (unit names) that covers it.

    `listed` says that the object names the host and this certificate together, so that a misfit is a mistake; a host
    that is merely served by an object with certificates takes one of them if it fits. `field` is where the wish stands.
    """

    certificates: tuple[str, ...]
    listed: bool
    origin: Origin
    field: str


class Rank(NamedTuple):
    """Who wins: static objects over others, the older, then namespace and name. The lowest rank wins."""

    dynamic: bool
    created_s: float
    namespace: str
    name: str


def class_policy(name: str) -> str:
    """Name of the policy unit of an IngressClass. No namespace is spelled so, hence no object's policy is."""
    return f"IngressClass/{name}"


class ObjectDraft(msgspec.Struct, frozen=True):
    """Everything that one Ingress or static object asks for.

    `hosts` are the routes by host ("" every host); a host with no routes is one whose every request goes to `default`.
    `default` also takes what no rule of anybody takes. `failed_closed` names the security key for which all routes of
    the object answer 503, and `route` holds the fields of `RoutePolicy` that its annotations set. `class_name` is the
    IngressClass whose settings its routes have, "" for the process-wide ones. `clients` is what its hosts ask of
    clients. An object that is `left_out` asks for nothing; one that is `refused` is not to become the last good version
    either.
    """

    key: ObjectKey
    rank: Rank
    hosts: dict[str, tuple[RouteDraft, ...]] = {}
    default: RouteDraft | None = None
    tls: dict[str, TlsDraft] = {}
    failed_closed: str = ""
    route: dict[str, Any] = {}
    class_name: str = ""
    clients: ClientsDraft | None = None
    left_out: bool = False
    refused: bool = False
    problems: tuple[Problem, ...] = ()

    @property
    def own_policy(self) -> bool:
        """Whether the object's routes have a policy unit of their own."""
        return bool(self.failed_closed or self.route)

    @property
    def policy(self) -> str:
        """Name of the policy unit of the object's routes: their own, their class's, or the process-wide one ("")."""
        if self.own_policy:
            return f"{self.key.namespace}/{self.key.name}"
        return class_policy(self.class_name) if self.class_name else ""

    @property
    def asking_hosts(self) -> tuple[str, ...]:
        """The hosts whose clients the object asks for certificates: those of its routes, or of an entry of `tls`."""
        if self.clients is None or self.left_out:
            return ()
        if self.clients.covers:
            return tuple(self.tls)
        hosts = tuple(self.hosts)
        return (*hosts, "") if self.default is not None and "" not in self.hosts else hosts

    def backends(self) -> set[Backend]:
        """Every backend the object names."""
        found = {route.backend for routes in self.hosts.values() for route in routes}
        if self.default is not None:
            found.add(self.default.backend)
        return found

    def certificates(self) -> set[str]:
        """The names of every certificate the object names."""
        return {name for wish in self.tls.values() for name in wish.certificates}
