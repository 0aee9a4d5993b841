"""The controller process, second half: source, pipeline and admin listener on one loop."""

from __future__ import annotations

import asyncio
import logging
import platform
import random
import signal
import socket
import time
from collections.abc import Mapping
from typing import Any, Final

from ingressd.app.cluster_snapshot import ClusterSnapshot
from ingressd.app.duties import ClusterDuties
from ingressd.app.readiness import Readiness
from ingressd.app.start_garbage import StartGarbage
from ingressd.control.admin import facts
from ingressd.control.admin.listener import AdminListener
from ingressd.control.admin.page import PageFacts
from ingressd.control.admission.listener import AdmissionListener
from ingressd.control.admission.webhook import Webhook
from ingressd.control.health.checks import Clocks, EndpointView, HealthChecks
from ingressd.control.objects.event import AnyObject, ObjectKey
from ingressd.control.objects.kubernetes import Ingress
from ingressd.control.objects.static import StaticAdmission
from ingressd.control.pipeline.pipeline import Pipeline, Served
from ingressd.control.pipeline.places import Places
from ingressd.control.pipeline.problems import ProblemBoard
from ingressd.control.pipeline.publisher import Publisher
from ingressd.control.pipeline.slots import Slots
from ingressd.control.sources.batch import CLUSTER, LOCAL
from ingressd.control.sources.cluster.api import ApiServer
from ingressd.control.sources.cluster.kinds import namespaces_of
from ingressd.control.sources.cluster.own_addresses import ADDRESSES
from ingressd.control.sources.cluster.source import ClusterSource
from ingressd.control.sources.local import LocalSource
from ingressd.control.store.store import StoreView
from ingressd.ipc import orders
from ingressd.ipc.orders import Order, OrderError, send_order, waiting_orders
from ingressd.model.problem import Problem
from ingressd.model.units import Unit, key_of
from ingressd.observe import operational_log
from ingressd.observe.cluster_metrics import ClusterKind, ClusterState
from ingressd.observe.metrics import Identity, Metrics, State, WorkerState
from ingressd.observe.shared_table import HEARTBEAT_MS, SharedTable
from ingressd.observe.stalls import LoopWatch
from ingressd.observe.totals import Totals
from ingressd.proxy.tls.contexts import webhook_context
from ingressd.proxy.tls.libssl import LibSsl
from ingressd.proxy.tls.self_signed import make_self_signed
from ingressd.proxy.upstream.health_probe import Prober
from ingressd.settings.config import Config
from ingressd.settings.flags import parse_flags
from ingressd.version import __version__

BEAT_S: Final = 0.25
HAND_ON_S: Final = 1.0
"""How long reviews and questions that were accepted have once another ingressd serves; we are left more than that."""


class StoppedError(Exception):
    """The supervisor said to end, or is gone; `code` is the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Controller:
    """Wires the rooms of the control plane together and obeys the supervisor. Also the `View` of the admin listener."""

    def __init__(
        self,
        config: Config,
        source: LocalSource,
        *,
        api: ApiServer | None,
        identity: Identity,
        channel: socket.socket,
        table: SharedTable,
        holder: str,
        log: logging.Logger,
    ) -> None:
        self._config = config
        self._source = source
        self._channel = channel
        self._table = table
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._readiness = Readiness(in_cluster=config.kubernetes is not None, clock=time.monotonic)
        self._garbage = StartGarbage(self._loop)  # Until every worker has the first snapshot.
        self._stopped: asyncio.Future[int] = self._loop.create_future()
        self._said_ready = False
        self._admin_socket: asyncio.Future[socket.socket] = self._loop.create_future()
        self._unsent: list[Order] = []
        self._totals = Totals()
        self._metrics = Metrics(self._totals, self._state, identity)
        self._publisher = Publisher(
            slots=Slots(table, time.monotonic),
            totals=self._totals,
            clock=time.monotonic,
            applied=self._metrics.applied,
            acknowledged=self._acknowledged,
        )
        self._health = HealthChecks(
            table,
            Prober(self._loop, time.monotonic, libssl=LibSsl.open()),
            slots_of=self._publisher.slots_of,
            clocks=Clocks(time.monotonic, random.random),
        )
        self._board = ProblemBoard(logging.getLogger("ingressd.problems"), news=self._news)
        fake = make_self_signed(time.time())  # noqa: TID251 - for the dates of a certificate
        self._watch_namespace = parse_flags(config.flags)[0].watch_namespace
        self._cluster: ClusterSource | None = None
        self._snapshot: ClusterSnapshot | None = None
        if api is not None and config.kubernetes is not None:
            self._cluster = ClusterSource(config.kubernetes, api, watch_namespace=self._watch_namespace)
            if config.kubernetes.snapshot_dir:
                self._snapshot = ClusterSnapshot(
                    config.kubernetes,
                    source=self._cluster,
                    say=lambda problems: self._board.put({"snapshot": problems}),
                    clock=time.monotonic,
                    wall_clock=time.time,  # noqa: TID251 - the age of a file outlives what the other clock counts from
                )
        self._pipeline = Pipeline(
            (LOCAL,) if self._cluster is None else (LOCAL, CLUSTER, ADDRESSES),
            publisher=self._publisher,
            board=self._board,
            places=lambda store: Places(store.position, source.locate),
            tell=self._tell,
            clock=time.monotonic,
            spans=self._metrics,
            own={key_of(fake): fake},
            translated=self._translated,
            served=self._served,
            want=(lambda _: True) if self._cluster is None else self._cluster.want,
            recall=tuple if self._snapshot is None else self._snapshot.good,
            published=self._health.follow,
        )
        self._duties: ClusterDuties | None = None
        if api is not None:
            self._duties = ClusterDuties(
                api,
                identity=identity,
                holder=holder,
                current=self._current,
                has_status=lambda key: key in self._pipeline.statuses(),
                ingresses=lambda: self._pipeline.ingress_keys(),
                watches=self._watches,
            )
        self._scraping = asyncio.Lock()
        self._watch = LoopWatch(time.monotonic, self._loop.call_later)
        self._admin = AdminListener(self)
        self._webhook = Webhook(
            AdmissionListener(self._check, answered=self._metrics.admission.answered, clock=time.monotonic),
            contexts=webhook_context,
            tell=self._tell,
            say=lambda problems: self._board.put({"admission": problems}),
        )

    # ------------------------------------------------------------------ life
    async def run(self) -> int:
        """Until the supervisor says to end or is gone; the exit code."""
        self._loop.add_reader(self._channel.fileno(), self._read_orders)
        # A signal to this process alone: the supervisor starts another.
        self._loop.add_signal_handler(signal.SIGTERM, self._stop, 0)
        code = 1
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._beat(), name="heartbeat")
                group.create_task(self._source.run(self._pipeline.batches), name="source")
                group.create_task(self._pipeline.run(), name="pipeline")
                group.create_task(self._pipeline.tick(), name="pipeline tick")
                group.create_task(self._serve_admin(), name="admin")
                group.create_task(self._health.run(), name="health checks")
                group.create_task(self._webhook.run(), name="admission")
                if self._cluster is not None:
                    group.create_task(self._cluster.run(self._pipeline.batches), name="objects of the cluster")
                if self._snapshot is not None:
                    group.create_task(self._snapshot.run(self._pipeline.store), name="snapshot of the cluster")
                if self._duties is not None:
                    group.create_task(self._duties.run(self._pipeline.batches), name="duties in the cluster")
                group.create_task(self._until_stopped(), name="until stopped")
        except* StoppedError as stopped:
            code = next((error.code for error in stopped.exceptions if isinstance(error, StoppedError)), code)
        finally:
            self._watch.close()
            self._loop.remove_reader(self._channel.fileno())
            if self._snapshot is not None:
                await self._snapshot.close()
            # Before the links: what was accepted is answered by one that still knows its workers.
            await self._admin.close()
            self._publisher.close()
        return code

    def _stop(self, code: int) -> None:
        if not self._stopped.done():
            self._stopped.set_result(code)

    async def _until_stopped(self) -> None:
        code = await self._stopped
        if self._duties is not None:
            await self._duties.close()
        raise StoppedError(code)

    async def _beat(self) -> None:
        column = self._table.controller_column()
        while True:
            column[HEARTBEAT_MS] = int(time.monotonic() * 1000)
            await asyncio.sleep(BEAT_S)
            self._send_unsent()
            self._say_ready()

    async def _serve_admin(self) -> None:
        await self._admin.start(await self._admin_socket)

    def _acknowledged(self, version: int) -> None:
        self._garbage.settled()
        clean = not self._publisher.quarantine.held
        self._metrics.reloaded(time.time(), clean=clean)  # noqa: TID251 - handed to those who may not read it
        self._pipeline.acknowledged(version)
        self._say_ready()

    def _say_ready(self) -> None:
        if not self._said_ready and self._publisher.ready():
            self._said_ready = True
            self._watch.forget()
            self._tell(Order(orders.READY))

    def _translated(self, view: StoreView) -> None:
        self._webhook.follow(view.find(StaticAdmission, name="admission"))

    def _served(self, news: Served) -> None:
        if self._duties is not None:
            self._duties.served(news)

    def _news(self, appeared: list[Problem], gone: list[Problem]) -> None:
        if self._duties is not None:
            self._duties.problems(appeared, gone)

    def _current(self, key: ObjectKey) -> AnyObject | None:
        """An object as the cluster has it; one from a file has a position there."""
        store = self._pipeline.store
        return store.get(key) if store.position(key) is None else None

    def _watches(self, namespace: str) -> bool:
        """Whether the Services of a namespace are watched."""
        if self._config.kubernetes is None:
            return False
        chosen = namespaces_of(self._config.kubernetes, self._watch_namespace)
        return chosen == () or namespace in (chosen or ())

    def _check(self, ingress: Ingress) -> tuple[Problem, ...]:
        began_s = time.monotonic()
        problems = self._pipeline.check(ingress)
        self._metrics.admission.checked(time.monotonic() - began_s, among=self._pipeline.ingresses())
        return problems

    # ------------------------------------------------------------------ orders
    def _tell(self, order: Order) -> None:
        self._unsent.append(order)
        self._send_unsent()

    def _send_unsent(self) -> None:
        while self._unsent:
            try:
                send_order(self._channel, self._unsent[0])
            except BlockingIOError:
                return  # The next heartbeat tries again.
            except OSError:
                self._stop(1)
                return
            except OrderError as error:
                self._log.error("the supervisor cannot be told: %s", error)
            self._unsent.pop(0)

    def _read_orders(self) -> None:
        for received in waiting_orders(self._channel):
            if received is None:
                self._stop(1)
                return
            order, descriptors = received
            self._obey(order, [socket.socket(fileno=descriptor) for descriptor in descriptors])

    def _obey(self, order: Order, sockets: list[socket.socket]) -> None:
        worker = (order.worker, order.number)
        if order.op == orders.WORKER:
            self._publisher.attach(worker, order.pid, sockets[0])
        elif order.op == orders.GONE:
            self._publisher.gone(worker, order.detail, applying=order.version, unit=order.unit)
        elif order.op == orders.BOUND:
            self._pipeline.bound(order.name, order.detail)
        elif order.op == orders.ADMISSION:
            self._webhook.bound(order, sockets[0] if sockets else None)
        elif order.op == orders.ADMIN:
            self._publisher.expected = order.number
            if sockets and not self._admin_socket.done():
                self._admin_socket.set_result(sockets[0])
        elif order.op == orders.RELOAD:
            self._source.reload()
        elif order.op == orders.DRAIN:
            self._readiness.drain(order.grace_s)
            if self._duties is not None:
                self._duties.resign()
        elif order.op == orders.SUCCEEDED:
            if self._duties is not None:
                self._duties.hand_on()
            self._webhook.leave()
            self._admin.leave()
            self._loop.call_later(HAND_ON_S, self._stop, 0)
        elif order.op == orders.LOG:
            operational_log.configure(order.detail, order.name, process="controller")
        elif order.op == orders.STOP:
            self._stop(0)

    # ------------------------------------------------------------------ the view of the admin listener
    def ready(self) -> bool:
        """Acknowledged by every worker, and nothing that draining says against it."""
        return self._readiness.allowed() and self._publisher.ready()

    def live_units(self) -> tuple[int, dict[str, Unit]]:
        """What is published now."""
        return self._publisher.fleet.version, self._publisher.units()

    def statuses(self) -> dict[ObjectKey, Any]:
        """What every worker serves."""
        return self._pipeline.statuses()

    def problems(self) -> list[Problem]:
        """All problems there are now."""
        return self._board.all()

    def endpoint_health(self) -> list[EndpointView]:
        """Every endpoint that is probed."""
        return self._health.view()

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """Fresh numbers of every worker."""
        await self._publisher.flush_counters()
        async with self._scraping:
            for _ in self._metrics.capture_in_steps():
                await asyncio.sleep(0)
            try:
                return await asyncio.to_thread(self._metrics.expose, accept)
            finally:
                self._metrics.release()

    def _state(self) -> State:
        units = self._pipeline.units()
        return State(
            version=self._publisher.fleet.version,
            ready=self.ready(),
            workers=tuple(WorkerState(one.worker, one.version, one.starts) for one in self._publisher.workers()),
            problems=tuple((problem.severity, problem.reason) for problem in self._board.all()),
            quarantined=len(self._publisher.quarantine.held),
            units=tuple(facts.unit_counts(units)),
            certificates=tuple(facts.certificate_expiries(units)),
            endpoints_ejected=self._publisher.ejected(),
            in_flight=self._publisher.in_flight(),
            health=self._health.numbers(),
            duties=self._duties.state() if self._duties is not None else None,
            cluster=_cluster_state(self._cluster) if self._cluster is not None else None,
            stalls=self._watch.stalls,
        )

    def facts(self) -> PageFacts:
        """What the page shows."""
        units = self._pipeline.units()
        workers = self._publisher.workers()
        return PageFacts(
            version=__version__,
            python=platform.python_version(),
            ready=self.ready(),
            config_path=self._config.path,
            snapshot_version=self._publisher.fleet.version,
            counts=facts.counts(units, len(workers)),
            problems=self._board.all(),
            tables=[
                *facts.tables(
                    units,
                    workers=workers,
                    listeners=self._pipeline.listeners(),
                    now_s=time.time(),  # noqa: TID251 - handed to those who may not read it
                ),
                facts.health_table(self._health.view()),
            ],
        )


def _cluster_state(source: ClusterSource) -> ClusterState:
    return ClusterState(source.away is None, tuple(ClusterKind(*state) for state in source.kinds()))


async def run(
    config: Config,
    *,
    path: str,
    environ: Mapping[str, str],
    flags: Mapping[str, str],
    channel: socket.socket,
    table: SharedTable,
    holder: str,
    log: logging.Logger,
) -> int:
    """Be the controller until told to end; the exit code."""
    source = LocalSource(path, environ=environ, flags=flags)
    identity = Identity(config.ingress_class.controller, environ.get("POD_NAMESPACE", ""), environ.get("POD_NAME", ""))
    api = await ApiServer.connect(config.kubernetes, environ=environ) if config.kubernetes is not None else None
    try:
        controller = Controller(
            config, source, api=api, identity=identity, channel=channel, table=table, holder=holder, log=log
        )
        return await controller.run()
    finally:
        if api is not None:
            await api.close()
