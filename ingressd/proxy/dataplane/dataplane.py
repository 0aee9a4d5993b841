"""One worker's data plane."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable
from email.utils import formatdate
from functools import partial
from random import Random
from typing import Final, Protocol

import msgspec

from ingressd.model.codec import Delta, decode_unit
from ingressd.model.units import Listener, ProcessPolicy, Route, RoutePolicy
from ingressd.observe.access_log import AccessLogWriter
from ingressd.observe.counters import WorkerCounters
from ingressd.observe.shared_table import APPLYING_UNIT, CONNECTIONS, HEARTBEAT_MS, VERSION, SharedTable
from ingressd.proxy.dataplane.state import Stale, UnitState
from ingressd.proxy.drain.linger import has_unread
from ingressd.proxy.listener.acceptor import Acceptor
from ingressd.proxy.routing.table import HostRoutes, RouteTable, compile_host
from ingressd.proxy.runtime.runtime import CompiledRoute, Runtime
from ingressd.proxy.runtime.wheel import TICK_S
from ingressd.proxy.runtime.worker import Worker
from ingressd.proxy.tls.client import UpstreamContexts
from ingressd.proxy.tls.libssl import LibSsl
from ingressd.proxy.tls.store import TlsStore
from ingressd.proxy.tls.tickets import TicketSecret
from ingressd.proxy.tls.transport import TlsShare
from ingressd.proxy.upstream.group import UpstreamGroup
from ingressd.proxy.upstream.pool import PoolLimits

SLICE_S: Final = 0.005
"""How long building may hold the loop before traffic gets its turn."""

FREEZE_FROM_UNITS: Final = 64
DRAIN_LOOK_S: Final = 0.02


class Log(Protocol):
    """What is needed of a logger."""

    def info(self, message: str, *args: object) -> None: ...
    def warning(self, message: str, *args: object) -> None: ...
    def error(self, message: str, *args: object) -> None: ...


class Dataplane:
    """Everything of one worker but its link to the controller."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        shared: SharedTable,
        worker: int,
        counters: WorkerCounters,
        log: Log,
        clock: Callable[[], float],
        wall: Callable[[], float],
        tickets: TicketSecret | None = None,
    ) -> None:
        """`clock` is monotonic seconds, `wall` seconds since 1970; `tickets` is what all workers share."""
        self._log = log
        self._wall = wall
        self._shared = shared
        self._units = UnitState()
        self._groups: dict[str, UpstreamGroup] = {}
        self._slots: dict[str, dict[str, int]] = {}
        self._sockets: dict[str, socket.socket] = {}
        self._acceptors: dict[str, Acceptor] = {}
        self._random = Random()  # noqa: S311 - spreads load, keeps no secret.
        libssl = LibSsl.open()
        self._store = TlsStore(clock=clock, secret=tickets, libssl=libssl)
        self._contexts = UpstreamContexts(libssl)
        self._draining = False
        self._stopped_accepting = False
        process = self._units.process
        self._worker = Worker(
            loop=loop,
            clock=clock,
            counters=counters,
            column=shared.column(worker),
            access_log=self._open_log(process, loop),
            current=Runtime(version=0, process=process, table=RouteTable.empty()),
            random=self._random,
        )
        worker_state = self._worker
        self._share = TlsShare(loop, worker_state.buffer, counters=counters, date_line=lambda: worker_state.date_line)
        self._next_second = 0.0
        self._tick_due = clock() + TICK_S
        self._tick: asyncio.TimerHandle | None = loop.call_later(TICK_S, self._on_tick)
        self._on_second(clock())

    # ------------------------------------------------------------------------------------------------ changes
    async def apply(self, delta: Delta) -> dict[str, str]:
        """Take a delta; the keys that were refused, with why. What was not refused is live when this returns."""
        refused: dict[str, str] = {}
        stale = Stale()
        units = self._units
        pause = _Pauses(self._worker.clock)
        if delta.base == 0:
            for key in [key for key in units.all_keys() if key not in delta.changed]:
                units.remove(key, stale)
            self._slots = {}
        for key in delta.removed:
            units.remove(key, stale)
        self._slots.update(delta.slots)
        for place, (key, raw) in enumerate(delta.changed.items(), 1):
            self._worker.column[APPLYING_UNIT] = place
            try:
                units.put(key, decode_unit(raw), stale)
            except msgspec.MsgspecError as error:
                refused[key] = f"cannot be read: {error}"
            if pause.due():
                await pause.take()
        self._worker.column[APPLYING_UNIT] = 0
        self._apply_process(stale, refused)
        for name in stale.upstreams:
            self._apply_upstream(name, stale, refused)
            if pause.due():
                await pause.take()
        for name in stale.endpoints:
            self._apply_endpoints(name)
            if pause.due():
                await pause.take()
        if stale.tls:
            refused |= await self._apply_tls(stale)
        changed: dict[str, HostRoutes[CompiledRoute]] = {}
        for name in stale.hosts:
            unit = units.hosts.get(name)
            if unit is not None:
                changed[name] = compile_host(unit, partial(self._compile, name))
            if pause.due():
                await pause.take()
        table = self._worker.current.table.with_changes(changed, stale.removed_hosts)
        self._worker.current = self._make_runtime(delta.version, table, refused)
        self._worker.column[VERSION] = delta.version
        for name in stale.listeners:
            self._apply_listener(name)
        if len(delta.changed) >= FREEZE_FROM_UNITS:
            gc.freeze()
        return refused

    def _make_runtime(self, version: int, table: RouteTable[CompiledRoute], refused: dict[str, str]) -> Runtime:
        current = self._worker.current
        process = self._units.process
        if process is not current.process and "process" not in refused:
            try:
                return Runtime(version=version, process=process, table=table)
            except ValueError as error:
                refused["process"] = str(error)
        return current.with_table(version, table)

    def _compile(self, host: str, route: Route) -> CompiledRoute:
        units = self._units
        origin = route.origin
        policy = units.policies.get(route.policy)
        if policy is None:
            # It was refused, and may hold what guards the route: the process-wide one is no stand-in.
            policy = RoutePolicy(failed_closed=f"policy {route.policy} is not there")
        return CompiledRoute(
            route,
            policy=policy,
            process=units.process,
            group=self._groups.get(route.upstream) if route.upstream is not None else None,
            series=self._worker.counters.series(
                namespace=origin.namespace, ingress=origin.name, service=route.service, host=host, path=route.path
            ),
        )

    def _apply_process(self, stale: Stale, refused: dict[str, str]) -> None:
        if not stale.process:
            return
        units = self._units
        process = units.process
        stale.hosts.update(units.hosts)
        before = self._worker.current.process
        if process.access_log != before.access_log:
            try:
                access_log = self._open_log(process, self._worker.loop)
            except (OSError, ValueError) as error:
                refused["process"] = f"access log {process.access_log.path}: {error}"
            else:
                self._worker.access_log.close()
                self._worker.log_lines_lost += self._worker.access_log.dropped
                self._worker.access_log = access_log
        limits = _pool_limits(process)
        for group in self._groups.values():
            group.set_limits(limits)
            group.set_budget(process.retry_budget_percent, process.retry_budget_min_per_s)

    def _apply_upstream(self, name: str, stale: Stale, refused: dict[str, str]) -> None:
        unit = self._units.upstreams.get(name)
        group = self._groups.get(name)
        if unit is None:
            if group is not None:
                del self._groups[name]
                group.close()
            return
        try:
            if group is not None:
                group.replace(unit)
                return
            group = UpstreamGroup(
                unit,
                share=self._share,
                outbox=self._worker.outbox,
                contexts=self._contexts,
                counters=self._worker.counters,
                rng=self._random,
                own_column=self._worker.column,
            )
        except ValueError as error:
            refused[f"upstream/{name}"] = str(error)
            return
        process = self._units.process
        group.set_limits(_pool_limits(process))
        group.set_budget(process.retry_budget_percent, process.retry_budget_min_per_s)
        self._groups[name] = group
        stale.endpoints.add(name)
        stale.hosts.update(self._units.hosts_of.get(f"upstream/{name}", ()))

    def _apply_endpoints(self, name: str) -> None:
        group = self._groups.get(name)
        if group is None:
            return
        unit = self._units.endpoints.get(name)
        slots = self._slots.get(name, {})
        group.set_endpoints(
            unit.endpoints if unit is not None else (),
            lambda address: self._shared.base(slots.get(address, 0)),
            self._shared.columns(),
        )

    async def _apply_tls(self, stale: Stale) -> dict[str, str]:
        units = self._units
        return await self._store.apply(
            certificates={key: units.certificates[key.removeprefix("certificate/")] for key in stale.certificates},
            hosts={key: units.tls[key.removeprefix("tls/")] for key in stale.tls_hosts},
            removed=stale.removed_tls,
            policy=units.process.tls,
        )

    # ------------------------------------------------------------------------------------------------ listeners
    def listen(self, name: str, sock: socket.socket) -> None:
        """Take a copy of a listening socket; accepting begins as soon as its `Listener` unit is there."""
        old = self._sockets.pop(name, None)
        self._stop(name)
        if old is not None:
            old.close()
        self._sockets[name] = sock
        self._apply_listener(name)

    def unlisten(self, name: str) -> None:
        """Accept no more on this listener, and let go of its socket."""
        self._stop(name)
        sock = self._sockets.pop(name, None)
        if sock is not None:
            sock.close()

    def _apply_listener(self, name: str) -> None:
        unit: Listener | None = self._units.listeners.get(name)
        self._stop(name)
        sock = self._sockets.get(name)
        if unit is None or sock is None or self._stopped_accepting:
            return
        acceptor = Acceptor(
            self._worker, unit, sock, store=self._store, share=self._share, alone=self._shared.workers == 1
        )
        self._acceptors[name] = acceptor
        acceptor.start()

    def _stop(self, name: str) -> None:
        acceptor = self._acceptors.pop(name, None)
        if acceptor is not None:
            acceptor.stop()

    # ------------------------------------------------------------------------------------------------ drain
    def begin_drain(self, grace_s: float) -> None:
        """Every answer says `Connection: close` from now on; after `grace_s` nothing is accepted any more."""
        if self._draining:
            return
        self._draining = True
        self._worker.draining = True
        self._worker.loop.call_later(grace_s, self._stop_accepting)

    def _stop_accepting(self) -> None:
        self._stopped_accepting = True
        for acceptor in self._acceptors.values():
            acceptor.accept_waiting()
        for name in list(self._sockets):
            self.unlisten(name)
        self._close_idle()

    def _close_idle(self) -> None:
        now = self._worker.clock()
        for client in list(self._worker.clients):
            if not has_unread(client.transport):
                client.close_if_idle(now)

    async def drained(self, timeout_s: float) -> None:
        """Wait until what runs has finished, `timeout_s` at most; what then still runs is cut."""
        clock = self._worker.clock
        until = clock() + timeout_s
        while clock() < until:
            await asyncio.sleep(DRAIN_LOOK_S)
            if self._stopped_accepting:
                self._close_idle()
                if not self._worker.clients:
                    break
        for client in list(self._worker.clients):
            client.abort()
        await asyncio.sleep(0)

    def close(self) -> None:
        """Let go of everything: the end of the worker."""
        self._stop_accepting()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        for group in self._groups.values():
            group.close()
        self._worker.access_log.close()

    # ------------------------------------------------------------------------------------------------ time
    def _on_tick(self) -> None:
        worker = self._worker
        now = worker.clock()
        lag = max(0.0, now - self._tick_due)
        counters = worker.counters
        counters.loop_lag_s = lag
        if lag > counters.loop_lag_max_s:
            counters.loop_lag_max_s = lag
        self._tick_due = now + TICK_S
        self._tick = worker.loop.call_later(TICK_S, self._on_tick)
        worker.column[HEARTBEAT_MS] = int(now * 1000)
        worker.column[CONNECTIONS] = counters.connections
        worker.wheel.advance(now)
        if now >= self._next_second:
            self._on_second(now)

    def _on_second(self, now: float) -> None:
        worker = self._worker
        wall = self._wall()
        self._next_second = now + 1.0 - wall % 1.0
        worker.wall_offset_s = wall - now
        self._store.rotate(wall)
        worker.date_line = f"Date: {formatdate(wall, usegmt=True)}\r\n".encode("ascii")
        idle = 0
        for group in self._groups.values():
            for endpoint in group.endpoints.values():
                pool = endpoint.pool
                if pool.idle:
                    pool.sweep(now)
                    idle += len(pool.idle)
        worker.counters.pool_idle = idle
        worker.counters.tasks = len(asyncio.all_tasks(worker.loop))
        worker.counters.connections_idle = sum([client.idle for client in worker.clients])
        worker.counters.log_lines_dropped = worker.log_lines_lost + worker.access_log.dropped

    # ------------------------------------------------------------------------------------------------ logs
    @staticmethod
    def _open_log(process: ProcessPolicy, loop: asyncio.AbstractEventLoop) -> AccessLogWriter:
        settings = process.access_log
        return AccessLogWriter(
            settings.path or "/dev/null",
            settings.format,
            schedule=loop.call_later,
            escape=settings.escape,
            skip_urls=settings.skip_urls,
        )

    def reopen_logs(self) -> None:
        """Write to the file that now has the access log's name."""
        try:
            self._worker.access_log.reopen()
        except OSError as error:
            self._log.error("access log cannot be reopened: %s", error)


class _Pauses:
    """Gives the loop back every few milliseconds while a big delta is built."""

    __slots__ = ("_clock", "_since")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()

    def due(self) -> bool:
        return self._clock() - self._since >= SLICE_S

    async def take(self) -> None:
        await asyncio.sleep(0)
        self._since = self._clock()


def _pool_limits(process: ProcessPolicy) -> PoolLimits:
    return PoolLimits(
        connections=process.upstream_keepalive_connections,
        idle_s=process.upstream_keepalive_timeout_s,
        requests=process.upstream_keepalive_requests,
        age_s=process.upstream_keepalive_time_s,
        buffer_bytes=process.buffer_bytes,
    )
