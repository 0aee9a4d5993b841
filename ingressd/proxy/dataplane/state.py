"""The units a worker has, and what a delta makes of them.

Units of routes rest as they came, encoded: most hosts of a big cluster see no traffic for long, and their routes are
built when somebody asks for them. What a delta changes is seen by nobody before it is committed, so a route that is
built meanwhile is built of units of one version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, cast

from ingressd.model.codec import decode_slots, decode_unit
from ingressd.model.units import (
    Certificate,
    ClientAuthority,
    ClientCertificates,
    Endpoints,
    Listener,
    ProcessPolicy,
    RoutePolicy,
    TlsHost,
    Unit,
    Upstream,
    VirtualHost,
)

_NO_POLICY: Final = RoutePolicy(failed_closed="the policy of all routes is not there")
"""The one that routes have by default may hold what guards them."""

_KEPT: Final = (VirtualHost, Upstream, Endpoints)
"""Kinds that are kept encoded. Of the others somebody keeps what he needs, and here is only a hash to know them by."""


class UnitView:
    """Units to build from."""

    __slots__ = ("policies", "process")

    process: ProcessPolicy
    policies: Mapping[str, RoutePolicy]

    def encoded(self, key: str) -> bytes | None:
        """A unit of the kinds that are kept, None without it."""
        raise NotImplementedError

    def slots(self, key: str) -> Mapping[str, int]:
        """Which slots of the shared table the endpoints of a unit have, by "address:port"."""
        raise NotImplementedError

    def host(self, name: str) -> VirtualHost | None:
        """A virtual host, decoded anew."""
        encoded = self.encoded(f"host/{name}")
        return None if encoded is None else cast(VirtualHost, decode_unit(encoded))

    def upstream(self, name: str) -> Upstream | None:
        """An upstream, decoded anew."""
        encoded = self.encoded(f"upstream/{name}")
        return None if encoded is None else cast(Upstream, decode_unit(encoded))

    def endpoints(self, name: str) -> Endpoints | None:
        """The endpoints of an upstream, decoded anew."""
        encoded = self.encoded(f"endpoints/{name}")
        return None if encoded is None else cast(Endpoints, decode_unit(encoded))


class UnitState(UnitView):
    """The units that serve; the last good ones, whatever was refused."""

    __slots__ = ("_doubtful", "_held", "_slots", "authorities", "client_certificates", "listeners")

    def __init__(self) -> None:
        self.process = ProcessPolicy()
        self.policies: dict[str, RoutePolicy] = {"": _NO_POLICY}
        self.listeners: dict[str, Listener] = {}
        self.authorities: dict[str, ClientAuthority] = {}
        self.client_certificates: dict[bytes, ClientCertificates] = {}
        """By host, as in the unit."""
        self._held: dict[str, bytes | int] = {}
        self._slots: dict[str, bytes] = {}
        self._doubtful: set[str] = set()

    def encoded(self, key: str) -> bytes | None:
        found = self._held.get(key)
        return found if isinstance(found, bytes) else None

    def slots(self, key: str) -> Mapping[str, int]:
        packed = self._slots.get(key)
        return {} if packed is None else decode_slots(packed)

    def all_keys(self) -> Iterator[str]:
        """The keys of everything that is here."""
        return iter(self._held)

    def holds(self, key: str, unit: bytes) -> bool:
        """Whether this very unit serves."""
        held = self._held.get(key)
        if held is None or key in self._doubtful:
            return False
        return held == (unit if isinstance(held, bytes) else hash(unit))

    def doubt(self, keys: Iterable[str]) -> None:
        """Nobody knows which version of these serves: an apply failed half-way."""
        self._doubtful.update(keys)


class Change(UnitView):
    """What a delta will make of a state, and what has to be built anew for it."""

    __slots__ = (
        "_gone",
        "_held",
        "_listeners",
        "_refused",
        "_slots",
        "_state",
        "authorities",
        "certificates",
        "client_certificates",
        "endpoints_changed",
        "guards_changed",
        "hosts",
        "listeners",
        "process_changed",
        "removed_hosts",
        "removed_tls",
        "tls_hosts",
        "upstreams",
        "used",
    )

    def __init__(self, state: UnitState) -> None:
        self._state = state
        self._held: dict[str, bytes | int] = {}
        self._slots: dict[str, bytes] = {}
        self._gone: set[str] = set()
        self._refused: list[str] = []
        self._listeners = dict(state.listeners)
        self.process = state.process
        self.policies: dict[str, RoutePolicy] = dict(state.policies)
        self.process_changed = False
        self.certificates: dict[str, Certificate] = {}
        self.tls_hosts: dict[str, TlsHost] = {}
        self.removed_tls: set[str] = set()
        self.authorities = dict(state.authorities)
        self.client_certificates = dict(state.client_certificates)
        self.guards_changed = False
        self.hosts: set[str] = set()
        self.removed_hosts: set[str] = set()
        self.upstreams: set[str] = set()
        self.endpoints_changed: set[str] = set()
        self.listeners: set[str] = set()
        self.used: set[str] = set()
        """Keys of policies and upstreams that routes must be built anew for."""

    def __len__(self) -> int:
        return len(self._held)

    @property
    def tls(self) -> bool:
        """Whether anything about TLS from clients changed."""
        return bool(self.process_changed or self.certificates or self.tls_hosts or self.removed_tls)

    def encoded(self, key: str) -> bytes | None:
        found = self._held.get(key)
        if found is None:
            return None if key in self._gone else self._state.encoded(key)
        return found if isinstance(found, bytes) else None

    def slots(self, key: str) -> Mapping[str, int]:
        packed = self._slots.get(key)
        return self._state.slots(key) if packed is None else decode_slots(packed)

    def listener(self, name: str) -> Listener | None:
        """A listener as it will be."""
        return self._listeners.get(name)

    # ------------------------------------------------------------------------------------------------ what changes
    def put(self, key: str, raw: bytes, unit: Unit, *, slots: bytes | None = None) -> None:
        """Take one unit; encoded `slots` come with endpoints. Keep what is given, and nothing of the message it is of:
        a part of 128 KiB lives as long as one piece of it."""
        name = key.partition("/")[2]
        known = key in self._held or (key not in self._gone and self._state.encoded(key) is not None)
        self._held[key] = raw if isinstance(unit, _KEPT) else hash(raw)
        self._gone.discard(key)
        if isinstance(unit, VirtualHost):
            self.hosts.add(name)
            self.removed_hosts.discard(name)
        elif isinstance(unit, Endpoints):
            if slots is not None:
                self._slots[key] = slots
            self.endpoints_changed.add(name)
        elif isinstance(unit, Upstream):
            self.upstreams.add(name)
            if not known:
                self.used.add(key)
        elif isinstance(unit, RoutePolicy):
            self.policies[name] = unit
            self.used.add(key)
        elif isinstance(unit, ProcessPolicy):
            self.process = unit
            self.process_changed = True
        elif isinstance(unit, Certificate):
            self.certificates[key] = unit
            self.removed_tls.discard(key)
        elif isinstance(unit, TlsHost):
            self.tls_hosts[key] = unit
            self.removed_tls.discard(key)
        elif isinstance(unit, ClientAuthority):
            self.authorities[name] = unit
            self.guards_changed = True
        elif isinstance(unit, ClientCertificates):
            self.client_certificates[name.encode()] = unit
            self.guards_changed = True
        else:
            self._listeners[name] = unit
            self.listeners.add(name)

    def remove(self, key: str) -> None:
        """Drop one unit."""
        kind, _, name = key.partition("/")
        self._held.pop(key, None)
        self._gone.add(key)
        if kind == "host":
            self.hosts.discard(name)
            self.removed_hosts.add(name)
        elif kind == "endpoints":
            self.endpoints_changed.add(name)
        elif kind == "upstream":
            self.upstreams.add(name)
            self.used.add(key)
        elif kind == "policy":
            if name:
                self.policies.pop(name, None)
            else:
                self.policies[""] = _NO_POLICY
            self.used.add(key)
        elif kind == "process":
            self.process = ProcessPolicy()
            self.process_changed = True
        elif kind in ("certificate", "tls"):
            self.removed_tls.add(key)
        elif kind == "authority":
            self.authorities.pop(name, None)
            self.guards_changed = True
        elif kind == "clients":
            self.client_certificates.pop(name.encode(), None)
            self.guards_changed = True
        elif kind == "listener":
            self._listeners.pop(name, None)
            self.listeners.add(name)

    def refuse(self, key: str) -> None:
        """A unit that nothing can be made of: the one before it stays, and counts as unknown to the controller."""
        if isinstance(self._held.get(key), bytes):
            del self._held[key]
            self._slots.pop(key, None)
        self._refused.append(key)

    def touches(self, keys: tuple[str, ...]) -> bool:
        """Whether any of these units changes."""
        return any(key in self._held or key in self._gone for key in keys)

    def commit(self) -> None:
        """From now on this is the state."""
        state = self._state
        state._doubtful.difference_update(self._held, self._gone)
        state._doubtful.update(self._refused)
        for key in self._gone:
            state._held.pop(key, None)
            state._slots.pop(key, None)
        state._held.update(self._held)
        state._slots.update(self._slots)
        state.process, state.policies, state.listeners = self.process, self.policies, self._listeners
        state.authorities, state.client_certificates = self.authorities, self.client_certificates
