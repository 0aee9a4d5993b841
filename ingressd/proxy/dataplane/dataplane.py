"""One worker's data plane."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable, Iterable
from email.utils import formatdate
from random import Random
from typing import Final, Protocol

import msgspec

from ingressd.model.codec import Delta, decode_unit
from ingressd.model.units import Endpoints, Listener, ProcessPolicy
from ingressd.observe.access_log import AccessLogWriter
from ingressd.observe.counters import WorkerCounters
from ingressd.observe.shared_table import APPLYING_UNIT, CONNECTIONS, HEARTBEAT_MS, VERSION, SharedTable
from ingressd.observe.stalls import LoopWatch
from ingressd.proxy.dataplane.building import Builder
from ingressd.proxy.dataplane.state import Change, UnitState
from ingressd.proxy.drain.linger import has_unread
from ingressd.proxy.http.client import FRESH_S
from ingressd.proxy.listener.acceptor import Acceptor
from ingressd.proxy.routing.table import UNBUILT, HostRoutes, RouteTable
from ingressd.proxy.runtime.memory import MemoryBudget, budget_of
from ingressd.proxy.runtime.overload import Overload
from ingressd.proxy.runtime.runtime import CompiledRoute, Runtime
from ingressd.proxy.runtime.wheel import TICK_S
from ingressd.proxy.runtime.worker import Worker
from ingressd.proxy.tls.client import UpstreamContexts
from ingressd.proxy.tls.clients import ClientGuards
from ingressd.proxy.tls.libssl import LibSsl
from ingressd.proxy.tls.store import TlsStore
from ingressd.proxy.tls.tickets import TicketSecret
from ingressd.proxy.tls.transport import TlsShare
from ingressd.proxy.upstream.outlier import PodHealth

SLICE_S: Final = 0.005
"""How long building may hold the loop before traffic gets its turn."""

FREEZE_FROM_UNITS: Final = 64
DRAIN_LOOK_S: Final = 0.02


class Log(Protocol):
    """What is needed of a logger."""

    def info(self, message: str, *args: object) -> None: ...
    def warning(self, message: str, *args: object) -> None: ...
    def error(self, message: str, *args: object) -> None: ...
    def exception(self, message: str, *args: object) -> None: ...


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
        cpu: Callable[[], float] | None = None,
        memory_limit_bytes: int | None = None,
    ) -> None:
        """`clock` is monotonic seconds, `wall` seconds since 1970; `tickets` is what all workers share; `cpu` gives
        the seconds of CPU that this thread has used; `memory_limit_bytes` is for all processes together.
        """
        self._log = log
        self._wall = wall
        self._shared = shared
        self._units = UnitState()
        self._sockets: dict[str, socket.socket] = {}
        self._acceptors: dict[str, Acceptor] = {}
        self._random = Random()  # noqa: S311 - spreads load, keeps no secret.
        libssl = LibSsl.open()
        self._verifies = libssl is not None
        self._store = TlsStore(clock=clock, secret=tickets, libssl=libssl)
        self._contexts = UpstreamContexts(libssl)
        self._draining = False
        self._stopped_accepting = False
        self._stopped_s = 0.0
        process = self._units.process
        self._worker = Worker(
            loop=loop,
            clock=clock,
            counters=counters,
            column=shared.column(worker),
            access_log=self._open_log(process, loop),
            current=Runtime(version=0, process=process, table=RouteTable.empty(lambda host: self._builder.build(host))),
            random=self._random,
        )
        worker_state = self._worker
        self._share = TlsShare(loop, worker_state.buffer, counters=counters, date_line=lambda: worker_state.date_line)
        self._builder = Builder(
            self._units,
            worker_state,
            shared=shared,
            share=self._share,
            contexts=self._contexts,
            random=self._random,
            health=PodHealth.of(shared, worker),
            log=log,
        )
        self._next_second = 0.0
        self._overload = Overload(worker_state, cpu or clock, self._shorten)
        derived_bytes = budget_of(memory_limit_bytes, shared.workers)
        self._memory = worker_state.memory = MemoryBudget(worker_state, self._overload, derived_bytes)
        worker_state.outbox.crowded = self._overload.begin
        self._watch = LoopWatch(clock, loop.call_later, late=self._note_lag)
        self._tick: asyncio.TimerHandle | None = loop.call_later(TICK_S, self._on_tick)
        self._on_second(clock())

    # ------------------------------------------------------------------------------------------------ changes
    async def apply(self, delta: Delta) -> dict[str, str]:
        """Take a delta; the keys that were refused, with why. What was not refused is live when this returns."""
        change = Change(self._units)
        try:
            return await self._apply(delta, change)
        except BaseException:
            self._units.doubt((*delta.changed, *delta.removed))
            raise

    async def _apply(self, delta: Delta, change: Change) -> dict[str, str]:
        pause = _Pauses(self._worker.clock)
        builder = self._builder
        builder.begin()
        refused = await self._read(delta, change, pause)
        if change.process_changed:
            self._apply_process(change, refused)
        for name in change.upstreams:
            try:
                builder.apply_upstream(change, name)
            except ValueError as error:
                refused[f"upstream/{name}"] = str(error)
                change.refuse(f"upstream/{name}")
            await pause.when_due()
        for name in change.upstreams | change.endpoints_changed:
            builder.apply_endpoints(change, name)
            await pause.when_due()
        if change.tls:
            refused |= await self._apply_tls(change)
        built: dict[str, HostRoutes[CompiledRoute] | None] = {}
        for name in builder.stale_hosts(change):
            built[name] = builder.rebuild(change, name)
            await pause.when_due()
        for name in change.hosts - built.keys():
            builder.check(change, name)
            await pause.when_due()
        self._commit(delta.version, change, built, refused)
        if delta.base == 0:
            self._watch.forget()
        return refused

    async def _read(self, delta: Delta, change: Change, pause: _Pauses) -> dict[str, str]:
        """Decode what came; the keys that cannot be."""
        refused: dict[str, str] = {}
        gone = delta.removed
        if delta.base == 0:
            gone += tuple(key for key in self._units.all_keys() if key not in delta.changed)
        for key in gone:
            change.remove(key)
        for place, (key, raw) in enumerate(delta.changed.items(), 1):
            self._worker.column[APPLYING_UNIT] = place
            try:
                unit = decode_unit(raw)
            except msgspec.MsgspecError as error:
                refused[key] = f"cannot be read: {error}"
                change.refuse(key)
            else:
                slots = delta.slots.get(key.removeprefix("endpoints/")) if isinstance(unit, Endpoints) else None
                # Copies, the key too: what came in one message is let go of at once, and leaves no holes in the heap.
                change.put(_copy(key), bytes(raw), unit, slots=None if slots is None else bytes(slots))
            await pause.when_due()
        self._worker.column[APPLYING_UNIT] = 0
        return refused

    def _commit(
        self,
        version: int,
        change: Change,
        built: dict[str, HostRoutes[CompiledRoute] | None],
        refused: dict[str, str],
    ) -> None:
        """Everything at once, without a pause: requests see the one version or the other."""
        builder = self._builder
        routes: dict[str, HostRoutes[CompiledRoute]] = dict.fromkeys(change.hosts, UNBUILT)
        routes.update((host, compiled) for host, compiled in built.items() if compiled is not None)
        routes.update(builder.catch_up(change))
        for key in refused:
            change.refuse(key)
        change.commit()
        builder.forget(change.removed_hosts)
        table = self._worker.current.table.with_changes(routes, change.removed_hosts)
        self._worker.current = self._make_runtime(version, table, refused, self._guards(change, table))
        self._store.guards = self._worker.current.guards
        self._worker.column[VERSION] = version
        for name in change.listeners:
            self._apply_listener(name)
        if len(change) >= FREEZE_FROM_UNITS:
            gc.freeze()

    def _guards(self, change: Change, table: RouteTable[CompiledRoute]) -> ClientGuards | None:
        """Which hosts ask for client certificates, from now on."""
        units, guards = self._units, self._worker.current.guards
        if not units.client_certificates and not any(one.client_certificates for one in units.policies.values()):
            return None  # A marked route without its host's unit, which may be in quarantine, is closed by the guards.
        if guards is None or change.guards_changed:
            return ClientGuards(units.client_certificates, units.authorities, table, possible=self._verifies)
        return guards.with_table(table)

    def _make_runtime(
        self, version: int, table: RouteTable[CompiledRoute], refused: dict[str, str], guards: ClientGuards | None
    ) -> Runtime:
        current = self._worker.current
        process = self._units.process
        if process is not current.process and "process" not in refused:
            try:
                return Runtime(version=version, process=process, table=table, guards=guards)
            except ValueError as error:
                refused["process"] = str(error)
                self._units.doubt(("process",))
        return current.with_table(version, table, guards)

    def _apply_process(self, change: Change, refused: dict[str, str]) -> None:
        process = change.process
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
        self._builder.apply_process(process)

    async def _apply_tls(self, change: Change) -> dict[str, str]:
        return await self._store.apply(
            certificates=change.certificates,
            hosts=change.tls_hosts,
            removed=change.removed_tls,
            policy=change.process.tls,
        )

    # ------------------------------------------------------------------------------------------------ what it has
    def all_keys(self) -> Iterable[str]:
        """The keys of all units that serve."""
        return self._units.all_keys()

    def holds(self, key: str, unit: bytes) -> bool:
        """Whether this very unit serves, so that it need not be applied again."""
        return self._units.holds(key, unit)

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
        self._stopped_s = self._worker.clock()
        for name in list(self._sockets):
            acceptor = self._acceptors.get(name)
            self._stop(name)
            if acceptor is not None:
                acceptor.accept_waiting()  # Last of all: whoever connects between this and the close is reset.
            self._sockets.pop(name).close()
        self._close_idle()

    def _close_idle(self) -> None:
        now = self._worker.clock()
        for client in list(self._worker.clients):
            if client.idle and not has_unread(client.transport):
                client.close_if_idle(now)

    async def drained(self, timeout_s: float) -> None:
        """Wait until what runs has finished, `timeout_s` at most; what then still runs is cut."""
        clock = self._worker.clock
        until = clock() + timeout_s
        while clock() < until:
            await asyncio.sleep(DRAIN_LOOK_S)
            if self._stopped_accepting:
                self._close_idle()
                # Who has just been accepted gets the same moment as a client whose first request is on the way.
                fresh = self._worker.arrivals and clock() < self._stopped_s + FRESH_S
                if not self._worker.clients and not fresh:
                    break
        for client in list(self._worker.clients):
            client.abort()
        await asyncio.sleep(0)

    def close(self) -> None:
        """Let go of everything: the end of the worker."""
        self._stop_accepting()
        self._watch.close()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        self._builder.close()
        self._worker.access_log.close()

    # ------------------------------------------------------------------------------------------------ time
    def _note_lag(self, lag_s: float) -> None:
        counters = self._worker.counters
        counters.loop_lag_s = lag_s
        counters.loop_lag_max_s = max(counters.loop_lag_max_s, lag_s)
        counters.loop_stalls, counters.loop_lag_worst_s = self._watch.stalls
        self._overload.look(lag_s, sum([acceptor.backlog() for acceptor in self._acceptors.values()]))

    def _shorten(self, short: bool) -> None:
        for acceptor in self._acceptors.values():
            acceptor.shorten(short)

    def _on_tick(self) -> None:
        worker = self._worker
        now = worker.clock()
        self._tick = worker.loop.call_later(TICK_S, self._on_tick)
        worker.column[HEARTBEAT_MS] = int(now * 1000)
        worker.column[CONNECTIONS] = worker.counters.connections
        worker.wheel.advance(now)
        self._memory.look(now)
        if now >= self._next_second:
            self._on_second(now)

    def _on_second(self, now: float) -> None:
        worker = self._worker
        wall = self._wall()
        self._next_second = now + 1.0 - wall % 1.0
        worker.wall_offset_s = wall - now
        self._store.rotate(wall)
        worker.date_line = f"Date: {formatdate(wall, usegmt=True)}\r\n".encode("ascii")
        for group in self._builder.groups.values():
            group.budget.publish(now)
            for endpoint in group.endpoints.values():
                pool = endpoint.pool
                if pool.idle:
                    pool.sweep(now)
        worker.counters.pool_idle = self._builder.room.count
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


def _copy(text: str) -> str:
    return text.encode().decode()


class _Pauses:
    """Gives the loop back every few milliseconds while a big delta is built."""

    __slots__ = ("_clock", "_since")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()

    async def when_due(self) -> None:
        if self._clock() - self._since >= SLICE_S:
            await asyncio.sleep(0)
            self._since = self._clock()
