"""The units a worker has, and what each change of them makes stale."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ingressd.model.units import (
    Certificate,
    Endpoints,
    Listener,
    ProcessPolicy,
    RoutePolicy,
    TlsHost,
    Unit,
    Upstream,
    VirtualHost,
)


@dataclass(slots=True)
class Stale:
    """What has to be built anew after some units changed."""

    process: bool = False
    tls_policy: bool = False
    certificates: set[str] = field(default_factory=set)
    tls_hosts: set[str] = field(default_factory=set)
    removed_tls: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    removed_hosts: set[str] = field(default_factory=set)
    upstreams: set[str] = field(default_factory=set)
    endpoints: set[str] = field(default_factory=set)
    listeners: set[str] = field(default_factory=set)

    @property
    def tls(self) -> bool:
        """Whether anything about TLS from clients changed."""
        return bool(self.tls_policy or self.certificates or self.tls_hosts or self.removed_tls)


class UnitState:
    """The units by kind and name; the last good ones, whatever was refused."""

    __slots__ = (
        "certificates",
        "endpoints",
        "hosts",
        "hosts_of",
        "listeners",
        "policies",
        "process",
        "tls",
        "upstreams",
    )

    def __init__(self) -> None:
        self.process = ProcessPolicy()
        self.policies: dict[str, RoutePolicy] = {"": RoutePolicy()}
        self.hosts: dict[str, VirtualHost] = {}
        self.upstreams: dict[str, Upstream] = {}
        self.endpoints: dict[str, Endpoints] = {}
        self.certificates: dict[str, Certificate] = {}
        self.tls: dict[str, TlsHost] = {}
        self.listeners: dict[str, Listener] = {}
        self.hosts_of: dict[str, set[str]] = {}
        """Names ("policy/…", "upstream/…") to the hosts whose routes use them."""

    def put(self, key: str, unit: Unit, stale: Stale) -> None:
        """Take one unit."""
        name = key.partition("/")[2]
        if isinstance(unit, VirtualHost):
            self._unlink(name)
            self.hosts[name] = unit
            self._link(unit)
            stale.hosts.add(name)
            stale.removed_hosts.discard(name)
        elif isinstance(unit, Endpoints):
            self.endpoints[name] = unit
            stale.endpoints.add(name)
        elif isinstance(unit, Upstream):
            if name not in self.upstreams:
                stale.hosts.update(self.hosts_of.get(key, ()))
                stale.endpoints.add(name)
            self.upstreams[name] = unit
            stale.upstreams.add(name)
        elif isinstance(unit, RoutePolicy):
            self.policies[name] = unit
            stale.hosts.update(self.hosts_of.get(key, ()))
        elif isinstance(unit, ProcessPolicy):
            self.process = unit
            stale.process = True
            stale.tls_policy = True
        elif isinstance(unit, Certificate):
            self.certificates[name] = unit
            stale.certificates.add(key)
            stale.removed_tls.discard(key)
        elif isinstance(unit, TlsHost):
            self.tls[name] = unit
            stale.tls_hosts.add(key)
            stale.removed_tls.discard(key)
        else:
            self.listeners[name] = unit
            stale.listeners.add(name)

    def remove(self, key: str, stale: Stale) -> None:
        """Drop one unit."""
        kind, _, name = key.partition("/")
        if kind == "host":
            self._unlink(name)
            self.hosts.pop(name, None)
            stale.hosts.discard(name)
            stale.removed_hosts.add(name)
        elif kind == "endpoints":
            self.endpoints.pop(name, None)
            stale.endpoints.add(name)
        elif kind == "upstream":
            self.upstreams.pop(name, None)
            stale.upstreams.add(name)
            stale.hosts.update(self.hosts_of.get(key, ()))
        elif kind == "policy":
            if name:
                self.policies.pop(name, None)
            else:
                self.policies[""] = RoutePolicy()
            stale.hosts.update(self.hosts_of.get(key, ()))
        elif kind == "process":
            self.process = ProcessPolicy()
            stale.process = True
            stale.tls_policy = True
        elif kind == "certificate":
            self.certificates.pop(name, None)
            stale.removed_tls.add(key)
        elif kind == "tls":
            self.tls.pop(name, None)
            stale.removed_tls.add(key)
        elif kind == "listener":
            self.listeners.pop(name, None)
            stale.listeners.add(name)

    def all_keys(self) -> Iterable[str]:
        """The keys of everything that is here."""
        yield "process"
        for kind, units in (
            ("policy", self.policies),
            ("host", self.hosts),
            ("upstream", self.upstreams),
            ("endpoints", self.endpoints),
            ("certificate", self.certificates),
            ("tls", self.tls),
            ("listener", self.listeners),
        ):
            for name in units:
                yield f"{kind}/{name}"

    def _link(self, unit: VirtualHost) -> None:
        for used in _used_by(unit):
            self.hosts_of.setdefault(used, set()).add(unit.host)

    def _unlink(self, name: str) -> None:
        old = self.hosts.get(name)
        if old is None:
            return
        for used in _used_by(old):
            hosts = self.hosts_of.get(used)
            if hosts is not None:
                hosts.discard(name)
                if not hosts:
                    del self.hosts_of[used]


def _used_by(unit: VirtualHost) -> set[str]:
    routes = (*unit.routes, unit.default) if unit.default is not None else unit.routes
    used = {f"policy/{route.policy}" for route in routes}
    used.update(f"upstream/{route.upstream}" for route in routes if route.upstream is not None)
    return used
