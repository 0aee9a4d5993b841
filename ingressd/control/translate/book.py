"""The drafts in force, found by every name they hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from ingressd.control.objects.event import ObjectKey
from ingressd.control.translate.drafts import Backend, ObjectDraft, Rank, RouteDraft, ServiceBackend, StaticBackend
from ingressd.control.translate.index import Index

ServiceName = tuple[str, str]
"""Namespace and name of a Service; ("", name) is a static upstream."""

CROWD: Final = 64
"""As many objects of one host are looked through one by one; of a host with more, by path."""


class Dirty:
    """What must be made again. Filled by the book and the translator during one translation, then thrown away."""

    __slots__ = ("certificates", "clients", "hosts", "objects", "policies", "tls_hosts", "upstreams")

    def __init__(self) -> None:
        self.objects: set[ObjectKey] = set()
        """Objects whose backends must be looked up again."""
        self.hosts: set[str] = set()
        self.tls_hosts: set[str] = set()
        self.certificates: set[str] = set()
        """Certificates and authorities of clients."""
        self.clients: set[str] = set()
        """Hosts whose client-certificate policy must be made again."""
        self.upstreams: set[str] = set()
        self.policies: set[ObjectKey] = set()


class DraftBook:
    """Drafts by object, and the objects by every name they hold."""

    def __init__(self) -> None:
        self.drafts: dict[ObjectKey, ObjectDraft] = {}
        self.by_host: Index[str, ObjectKey] = Index()
        self.by_tls_host: Index[str, ObjectKey] = Index()
        self.by_service: Index[ServiceName, ObjectKey] = Index()
        self.by_certificate: Index[str, ObjectKey] = Index()
        self.by_authority: Index[str, ObjectKey] = Index()
        self.by_asking_host: Index[str, ObjectKey] = Index()
        self.with_default: set[ObjectKey] = set()
        self._by_path: dict[str, Index[str, ObjectKey]] = {}
        """Of crowded hosts that `holders` was asked about, and no others: 200 KiB for 10,000 paths."""

    def put(self, key: ObjectKey, draft: ObjectDraft | None, dirty: Dirty) -> None:
        """Replace the draft of an object, or take it away, and mark what that touches."""
        old = self.drafts.get(key)
        if draft is old or draft == old:
            return
        for one in (old, draft):
            if one is not None:
                self._mark(one, dirty)
        if old is not None:
            self._unfile(old)
        if draft is None:
            del self.drafts[key]
        else:
            self.drafts[key] = draft
            self._file(draft)
        for host in {*(old.tls if old else ()), *(draft.tls if draft else ())}:
            self._mark_hosts_of_certificate(host, dirty)
        dirty.objects.add(key)

    def ranked(self, keys: Iterable[ObjectKey]) -> list[ObjectDraft]:
        """The drafts of these objects, the winner first."""
        return sorted((self.drafts[key] for key in keys), key=_rank)

    def holders(self, host: str, paths: Collection[str]) -> Collection[ObjectKey]:
        """The objects that have one of these paths on a host; of a host with few objects all, which may have them."""
        objects = self.by_host.get(host)
        if len(objects) <= CROWD:
            return objects
        by_path = self._by_path.get(host)
        if by_path is None:
            by_path = self._by_path[host] = Index()
            for key in objects:
                for route in self.drafts[key].hosts[host]:
                    by_path.add(route.path, key)
        return {key for path in paths for key in by_path.get(path)}

    def has_tls(self, host: str) -> bool:
        """Whether an object brings a certificate for the host, or for the wildcard over it.

        A property of the host, not of the object with the route: ingress-nginx redirects the routes of all objects of a
        host as soon as one of them has a `tls` section (certificate_configured_for_current_request).
        """
        if host in self.by_tls_host:
            return True
        return bool(host) and wildcard_over(host) in self.by_tls_host

    def _file(self, draft: ObjectDraft) -> None:
        key = draft.key
        for host, routes in draft.hosts.items():
            self.by_host.add(host, key)
            if host in self._by_path:
                for route in routes:
                    self._by_path[host].add(route.path, key)
        for host in draft.tls:
            self.by_tls_host.add(host, key)
        for service in _services(draft):
            self.by_service.add(service, key)
        for certificate in draft.certificates():
            self.by_certificate.add(certificate, key)
        for authority in _authorities(draft):
            self.by_authority.add(authority, key)
        for host in draft.asking_hosts:
            self.by_asking_host.add(host, key)
        if draft.default is not None:
            self.with_default.add(key)

    def _unfile(self, draft: ObjectDraft) -> None:
        key = draft.key
        for host, routes in draft.hosts.items():
            self.by_host.discard(host, key)
            if host in self._by_path:
                self._forget_paths(host, routes, key)
        for host in draft.tls:
            self.by_tls_host.discard(host, key)
        for service in _services(draft):
            self.by_service.discard(service, key)
        for certificate in draft.certificates():
            self.by_certificate.discard(certificate, key)
        for authority in _authorities(draft):
            self.by_authority.discard(authority, key)
        for host in draft.asking_hosts:
            self.by_asking_host.discard(host, key)
        self.with_default.discard(key)

    def _forget_paths(self, host: str, routes: tuple[RouteDraft, ...], key: ObjectKey) -> None:
        if len(self.by_host.get(host)) <= CROWD:
            del self._by_path[host]
            return
        for route in routes:
            self._by_path[host].discard(route.path, key)

    def _mark(self, draft: ObjectDraft, dirty: Dirty) -> None:
        dirty.hosts.update(draft.hosts)
        dirty.tls_hosts.update(draft.tls)
        dirty.certificates.update(draft.certificates())
        dirty.certificates.update(_authorities(draft))
        dirty.clients.update(draft.asking_hosts)
        if draft.default is not None:
            dirty.hosts.add("")
        dirty.policies.add(draft.key)

    def _mark_hosts_of_certificate(self, host: str, dirty: Dirty) -> None:
        """The hosts that redirect, or no longer do, when a certificate's host comes or goes."""
        if host in self.by_host:
            dirty.hosts.add(host)
        if host.startswith("*."):
            dirty.hosts.update(one for one in self.by_host if wildcard_over(one) == host)


def wildcard_over(host: str) -> str:
    """The one-label wildcard that takes a host: "*.example.com" for "shop.example.com", "" for a wildcard."""
    label, dot, parent = host.partition(".")
    return f"*.{parent}" if dot and label != "*" else ""


def service_of(backend: Backend) -> ServiceName | None:
    """Where a backend is looked up, None for one that leads nowhere."""
    if isinstance(backend, ServiceBackend):
        return (backend.namespace, backend.service)
    return ("", backend.upstream) if isinstance(backend, StaticBackend) else None


def _services(draft: ObjectDraft) -> set[ServiceName]:
    found = {service_of(backend) for backend in draft.backends()}
    return {service for service in found if service is not None}


def _authorities(draft: ObjectDraft) -> tuple[str, ...]:
    """The authority that the object names for its clients, if it asks them for anything."""
    clients = draft.clients
    asks = clients is not None and clients.verify != "off" and not clients.fault and not draft.left_out
    return (clients.authority,) if clients is not None and asks else ()


def _rank(draft: ObjectDraft) -> Rank:
    return draft.rank
