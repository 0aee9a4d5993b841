"""Units to what exchanges use: compiled hosts, and the groups of endpoints behind them.

A host is compiled when the first request for it comes. Of hosts without traffic, which in a big cluster are most, a
worker has the encoded units and nothing else: a fraction of the memory, and nothing to do when a policy of all changes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from operator import itemgetter
from random import Random
from typing import Final, Protocol

import msgspec

from ingressd.model.problem import Origin
from ingressd.model.units import ProcessPolicy, Route, RoutePolicy, Upstream, VirtualHost
from ingressd.observe.shared_table import SharedTable
from ingressd.proxy.dataplane.state import Change, UnitState, UnitView
from ingressd.proxy.routing.table import HostRoutes, compile_host
from ingressd.proxy.runtime.runtime import CompiledRoute
from ingressd.proxy.runtime.worker import Worker
from ingressd.proxy.tls.client import UpstreamContexts
from ingressd.proxy.tls.transport import TlsShare
from ingressd.proxy.upstream.group import UpstreamGroup
from ingressd.proxy.upstream.outlier import PodHealth
from ingressd.proxy.upstream.pool import IdlePool, IdleRoom, PoolLimits

KEPT_ROOM: Final = 8
"""When idle connections are too many, one in so many of the limit is closed at once."""

GroupOf = Callable[[str], UpstreamGroup | None]

NOWHERE: Final = Origin("", "", "")

BROKEN: Final = Route(origin=Origin("Unit", "", "host"), path_type="Prefix", path="/", upstream=None, status=503)
"""In place of a host that cannot be compiled although it could when it came."""


class Log(Protocol):
    """What is needed of a logger."""

    def exception(self, message: str, *args: object) -> None: ...


class Builder:
    """Compiled hosts and groups of one worker. `units` are those that serve."""

    def __init__(
        self,
        units: UnitState,
        worker: Worker,
        *,
        shared: SharedTable,
        share: TlsShare,
        contexts: UpstreamContexts,
        random: Random,
        health: PodHealth,
        log: Log,
    ) -> None:
        self._units = units
        self._worker = worker
        self._shared = shared
        self._share = share
        self._contexts = contexts
        self._random = random
        self._health = health
        self._log = log
        self.groups: dict[str, UpstreamGroup] = {}
        self._uses: dict[str, tuple[str, ...]] = {}
        """Of each compiled host the keys of the policies and upstreams that its routes use …"""
        self._users: dict[str, str | set[str]] = {}
        """… and the other way round: a set only where there are several."""
        self.room = IdleRoom(self._make_room)
        self._limits_of = units.process
        self._limits = pool_limits(units.process)
        """One object for all groups."""
        self._meanwhile: list[str] = []
        """Hosts compiled, and upstreams opened, since the last change was committed."""
        self._opened: list[str] = []

    def close(self) -> None:
        """The end of the worker."""
        for group in self.groups.values():
            group.close()

    # ------------------------------------------------------------------------------------------------ hosts
    def build(self, host: str) -> HostRoutes[CompiledRoute]:
        """A host that is asked for, of the units that serve. Never raises."""
        units = self._units
        unit = units.host(host)
        if unit is None:
            return HostRoutes()
        self._meanwhile.append(host)
        try:
            compiled = self._compile(units, unit, lambda name: self._group(units, name))
        except Exception:  # noqa: BLE001 - whatever it is, other hosts serve on
            self._log.exception("host %s cannot be compiled; it answers 503", host)
            broken = VirtualHost(host, (BROKEN,))
            return compile_host(broken, partial(self._route, units, host, lambda _: None))
        self._link(unit)
        return compiled

    def check(self, change: Change, host: str) -> None:
        """Compile a host that nobody has asked for and throw it away: what cannot be built must be refused now."""
        unit = change.host(host)
        if unit is not None:
            self._compile(change, unit, lambda _: None)

    def stale_hosts(self, change: Change) -> set[str]:
        """The compiled hosts that a change makes out of date."""
        if change.process_changed:
            return set(self._uses)
        stale = {host for host in change.hosts if host in self._uses}
        for key in change.used:
            users = self._users.get(key, ())
            stale.update((users,) if isinstance(users, str) else users)
        return stale - change.removed_hosts

    def rebuild(self, change: Change, host: str) -> HostRoutes[CompiledRoute] | None:
        """A compiled host as it will be, None when it will be no more."""
        unit = change.host(host)
        if unit is None:
            return None
        compiled = self._compile(change, unit, lambda name: self._group(change, name))
        self._link(unit)
        return compiled

    def forget(self, hosts: Iterable[str]) -> None:
        """These are no more."""
        for host in hosts:
            self._unlink(host)

    def _compile(self, units: UnitView, unit: VirtualHost, group_of: GroupOf) -> HostRoutes[CompiledRoute]:
        return compile_host(unit, partial(self._route, units, unit.host, group_of))

    def _route(self, units: UnitView, host: str, group_of: GroupOf, route: Route) -> CompiledRoute:
        origin = route.origin
        policy = units.policies.get(route.policy)
        if policy is None:
            # It was refused, and may hold what guards the route: the process-wide one is no stand-in.
            policy = RoutePolicy(failed_closed=f"policy {route.policy} is not there")
        return CompiledRoute(
            route,
            policy=policy,
            process=units.process,
            group=group_of(route.upstream) if route.upstream is not None else None,
            series=self._worker.counters.series(
                namespace=sys.intern(origin.namespace),
                ingress=origin.name,
                service=origin.name if route.service == origin.name else route.service,
                host=host,
                path=sys.intern(route.path),
            ),
        )

    def _link(self, unit: VirtualHost) -> None:
        self._unlink(unit.host)
        used = self._uses[unit.host] = _used_by(unit)
        for key in used:
            users = self._users.get(key)
            if users is None:
                self._users[key] = unit.host
            elif isinstance(users, str):
                self._users[key] = {users, unit.host}
            else:
                users.add(unit.host)

    def _unlink(self, host: str) -> None:
        for key in self._uses.pop(host, ()):
            users = self._users[key]
            if isinstance(users, set):
                users.discard(host)
            if not users or users == host:
                del self._users[key]

    # ------------------------------------------------------------------------------------------------ upstreams
    def group(self, name: str) -> UpstreamGroup:
        """The group of an upstream that serves. KeyError without it."""
        group = self._group(self._units, name)
        if group is None:
            raise KeyError(name)
        return group

    def _group(self, units: UnitView, name: str) -> UpstreamGroup | None:
        """The group of an upstream, opened when it is asked for first; None for an upstream that is not there."""
        group = self.groups.get(name)
        if group is None:
            unit = units.upstream(name)
            if unit is None:
                return None
            group = self.groups[name] = self._open(units, unit)
            self._opened.append(name)
            self._set_endpoints(units, group, name)
        return group

    def _open(self, units: UnitView, unit: Upstream) -> UpstreamGroup:
        group = UpstreamGroup(
            _without_origin(unit),
            share=self._share,
            outbox=self._worker.outbox,
            contexts=self._contexts,
            counters=self._worker.counters,
            rng=self._random,
            health=self._health,
            own_column=self._worker.column,
            room=self.room,
            clock=self._worker.clock,
        )
        process = units.process
        if process is not self._limits_of:
            self._limits_of, self._limits = process, pool_limits(process)
        group.set_limits(self._limits)
        group.set_budget(process.retry_budget_percent, process.retry_budget_min_per_s)
        return group

    def apply_process(self, process: ProcessPolicy) -> None:
        """Limits and budgets of every group."""
        self._limits_of, self._limits = process, pool_limits(process)
        for group in self.groups.values():
            group.set_limits(self._limits)
            group.set_budget(process.retry_budget_percent, process.retry_budget_min_per_s)

    def _make_room(self) -> None:
        """Close the idle connections that were used longest ago: more than must be, for a look at all takes time."""
        limit = self._limits.connections
        oldest: list[tuple[float, int, IdlePool]] = []
        pools = [endpoint.pool for group in self.groups.values() for endpoint in group.endpoints.values()]
        for number, pool in enumerate(pools):
            oldest.extend((connection.idle_since_s, number, pool) for connection in pool.idle)
        for _, _, pool in sorted(oldest, key=itemgetter(0, 1))[: len(oldest) - limit + limit // KEPT_ROOM]:
            pool.retire_oldest(1)

    def apply_upstream(self, change: Change, name: str) -> None:
        """Take a new version of an upstream, or let it go. Raises ValueError when its TLS material cannot be used."""
        unit = change.upstream(name)
        group = self.groups.get(name)
        if unit is None:
            if group is not None:
                del self.groups[name]
                group.close()
        elif group is not None:
            group.replace(_without_origin(unit))
        elif unit.tls is not None:
            self._contexts.get(unit.tls)

    def apply_endpoints(self, change: Change, name: str) -> None:
        """Take a new list of endpoints, where the group is open."""
        group = self.groups.get(name)
        if group is not None:
            self._set_endpoints(change, group, name)

    def _set_endpoints(self, units: UnitView, group: UpstreamGroup, name: str) -> None:
        unit = units.endpoints(name)
        slots = units.slots(f"endpoints/{name}")
        group.set_endpoints(
            unit.endpoints if unit is not None else (),
            lambda address: self._shared.base(slots.get(address, 0)),
            self._shared.columns(),
        )

    # ------------------------------------------------------------------------------------------------ commit
    def begin(self) -> None:
        """A change is being prepared: from here on note what is built of the units that still serve."""
        self._meanwhile.clear()
        self._opened.clear()

    def catch_up(self, change: Change) -> dict[str, HostRoutes[CompiledRoute]]:
        """Right before the commit: what was built meanwhile and is out of date with it, built again."""
        for name in self._opened:
            if name in change.upstreams:
                self.apply_upstream(change, name)
            if name in change.endpoints_changed or name in change.upstreams:
                self.apply_endpoints(change, name)
        late = {}
        for host in self._meanwhile:
            if change.process_changed or change.touches((f"host/{host}", *self._uses.get(host, ()))):
                routes = self.rebuild(change, host)
                if routes is not None:
                    late[host] = routes
        return late


def pool_limits(process: ProcessPolicy) -> PoolLimits:
    """The `upstream-keepalive-*` settings."""
    return PoolLimits(
        connections=process.upstream_keepalive_connections,
        idle_s=process.upstream_keepalive_timeout_s,
        requests=process.upstream_keepalive_requests,
        age_s=process.upstream_keepalive_time_s,
        buffer_bytes=process.buffer_bytes,
    )


def _without_origin(unit: Upstream) -> Upstream:
    """Nobody here asks where an upstream came from, and it is a third of the unit."""
    return msgspec.structs.replace(unit, origin=NOWHERE)


def _used_by(unit: VirtualHost) -> tuple[str, ...]:
    routes = (*unit.routes, unit.default) if unit.default is not None else unit.routes
    used = {f"policy/{route.policy}" for route in routes}
    used.update(f"upstream/{route.upstream}" for route in routes if route.upstream is not None)
    return tuple(used)
