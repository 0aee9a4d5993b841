"""A worker process: the data plane, fed by the controller, ordered by the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import msgspec
import uvloop

from ingressd.ipc import orders
from ingressd.ipc.link import Link
from ingressd.ipc.messages import (
    Ack,
    Commit,
    Counters,
    DeltaAssembler,
    Flush,
    Hello,
    Listening,
    Part,
    ToWorker,
    decode_to_worker,
)
from ingressd.ipc.orders import Order, OrderError, waiting_orders
from ingressd.model.codec import Delta, decode_unit
from ingressd.model.units import ProcessPolicy
from ingressd.observe import operational_log
from ingressd.observe.counters import WorkerCounters
from ingressd.observe.shared_table import (
    APPLYING,
    DRAINING,
    VERSION,
    SharedTable,
)
from ingressd.proxy.dataplane.dataplane import Dataplane
from ingressd.proxy.tls.heap import libc_trim
from ingressd.proxy.tls.tickets import TicketSecret
from ingressd.settings.quota import memory_limit

REPORT_S: Final = 1.0
SLICE_UNITS: Final = 2000
"""Comparing so many units takes about 1 ms."""


class Serving(Protocol):
    """What a worker needs of its data plane."""

    async def apply(self, delta: Delta) -> dict[str, str]:
        """Bring a delta live; the keys that were refused, and why."""

    def all_keys(self) -> Iterable[str]:
        """The keys of all units that serve."""

    def holds(self, key: str, unit: bytes) -> bool:
        """Whether this very unit serves."""

    def listen(self, name: str, sock: socket.socket) -> None:
        """Accept from a socket."""

    def unlisten(self, name: str) -> None:
        """Accept no more from it."""

    def begin_drain(self, grace_s: float) -> None:
        """Say goodbye with every answer, close listeners after the grace period."""

    async def drained(self, timeout_s: float) -> Any:
        """Until nothing runs any more, or the time-out cut it off."""

    def reopen_logs(self) -> None:
        """Log files were rotated."""

    def close(self) -> None:
        """The end."""


class WorkerProcess:
    """Pumps orders and deltas into the data plane, and acknowledgements, counters and heartbeats out of it."""

    def __init__(
        self,
        *,
        worker: int,
        table: SharedTable,
        channel: socket.socket,
        dataplane: Serving,
        counters: WorkerCounters,
        clock: Callable[[], float],
        log: logging.Logger,
    ) -> None:
        self._worker = worker
        self._column = table.column(worker)
        self._channel = channel
        self._dataplane = dataplane
        self._counters = counters
        self._clock = clock
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._link: Link[ToWorker] | None = None
        self._deltas: asyncio.Queue[tuple[Link[ToWorker], Delta]] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._drain_asked = asyncio.Event()
        self._trim = libc_trim()
        self._drain_s = (0.0, 0.0)  # Grace and time-out of the drain that was asked for.
        self._listeners: list[str] = []
        self._version = 0
        self._policy = ProcessPolicy()
        self._spare = -1
        """A descriptor that does nothing but keep a place: clients may take all others, and with an order comes one."""
        self._keep_spare()

    async def run(self) -> int:
        """Serve until drained, or until the supervisor is gone; the exit code."""
        self._loop.add_reader(self._channel.fileno(), self._read_orders)
        # For somebody who signals one worker by hand: it goes in order, and the supervisor starts another.
        self._loop.add_signal_handler(signal.SIGTERM, self._begin_drain, None)
        tasks = {
            self._loop.create_task(self._apply_all(), name="apply"),
            self._loop.create_task(self._report_all(), name="report"),
            self._loop.create_task(self._drain_out(), name="drain"),
            self._loop.create_task(self._gone.wait(), name="supervisor gone"),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # Only the drain and the supervisor's end come in order: let any error be seen.
            return 1 if self._gone.is_set() else 0
        finally:
            self._loop.remove_reader(self._channel.fileno())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._dataplane.close()
            if self._link is not None:
                self._link.close()
            self._let_go_of_spare()

    # ------------------------------------------------------------------ orders of the supervisor
    def _read_orders(self) -> None:
        self._let_go_of_spare()
        try:
            for received in waiting_orders(self._channel):
                if received is None:
                    self._gone.set()
                    return
                order, descriptors = received
                self._obey(order, descriptors)
        except OrderError as error:
            self._log.error("%s; are all file descriptors used up?", error)
        finally:
            self._keep_spare()

    def _keep_spare(self) -> None:
        with contextlib.suppress(OSError):  # Then the next order finds one, or is lost.
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _let_go_of_spare(self) -> None:
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1

    def _obey(self, order: Order, descriptors: list[int]) -> None:
        if order.op == orders.ATTACH:
            self._attach(socket.socket(fileno=descriptors[0]))
        elif order.op == orders.LISTEN:
            listening = socket.socket(fileno=descriptors[0])
            listening.setblocking(False)
            if self._drain_asked.is_set():
                listening.close()
                return
            self._dataplane.listen(order.name, listening)
            self._listeners.append(order.name)
            self._say_listening()
        elif order.op == orders.UNLISTEN:
            if order.name in self._listeners:
                self._dataplane.unlisten(order.name)
                self._listeners.remove(order.name)
                self._say_listening()
        elif order.op == orders.DRAIN:
            self._begin_drain(order)
        elif order.op == orders.REOPEN:
            self._dataplane.reopen_logs()
        elif order.op == orders.LOG:
            operational_log.configure(order.detail, order.name, process=f"worker {self._worker}")

    def _attach(self, connected: socket.socket) -> None:
        """A (new) controller: leave the old one, what of its delta was incomplete is forgotten."""
        if self._link is not None:
            self._link.close()
        assembler = DeltaAssembler()
        link: Link[ToWorker] = Link(
            connected, self._loop, decode=decode_to_worker, received=lambda said: self._hear(link, assembler, said)
        )
        self._link = link
        link.send(Hello(self._worker, os.getpid(), self._version))
        self._say_listening()

    def _say_listening(self) -> None:
        if self._link is not None:
            self._link.send(Listening(tuple(self._listeners)))

    # ------------------------------------------------------------------ deltas of the controller
    def _hear(self, link: Link[ToWorker], assembler: DeltaAssembler, message: ToWorker) -> None:
        if isinstance(message, Part):
            assembler.add(message)
        elif isinstance(message, Commit):
            self._deltas.put_nowait((link, assembler.finish(message)))
        elif isinstance(message, Flush):
            self._report(message.token, everything=message.everything)

    async def _apply_all(self) -> None:
        while True:
            link, delta = await self._deltas.get()
            began_s = self._clock()
            first = self._version == 0
            try:
                refused, error = await self._apply(delta), ""
            except Exception as failure:  # noqa: BLE001 - whatever a unit broke must not end the process that serves
                # The snapshot that serves goes on; the controller decides what to leave out.
                self._log.exception("version %d could not be applied", delta.version)
                refused, error = {}, f"{type(failure).__name__}: {failure}"
            self._column[APPLYING] = 0
            version, whole = delta.version, delta.base == 0
            del delta
            if whole:
                self._settle(first=first)
            if link is self._link:
                link.send(Ack(version, refused, self._clock() - began_s, error))

    async def _apply(self, delta: Delta) -> dict[str, str]:
        delta = await self._reduced(delta)
        self._column[APPLYING] = delta.version
        if delta.base == 0:
            # Nearly everything that a snapshot makes stays: collections while it is built find nothing, for 0.3 s.
            gc.disable()
        try:
            refused = await self._dataplane.apply(delta)
        finally:
            gc.enable()
        self._version = self._column[VERSION] = delta.version
        policy = delta.changed.get("process")
        if policy is not None and "process" not in refused:
            decoded = decode_unit(policy)
            if isinstance(decoded, ProcessPolicy):
                self._policy = decoded
        return refused

    def _settle(self, *, first: bool) -> None:
        """After a whole snapshot: what serves stays, and what it came in is gone and goes back to the system."""
        if first:
            gc.collect()
            # A full collection would walk over it for 18 ms with 10,000 routes.
            gc.freeze()
        if self._trim is not None:
            self._trim()

    async def _reduced(self, delta: Delta) -> Delta:
        """A snapshot from nothing, as a controller that started again sends, becomes a delta to what serves here."""
        if delta.base == self._version and delta.base != 0:
            return delta
        if delta.base != 0:
            raise ValueError(f"a delta from version {delta.base}, but {self._version} serves")
        if self._version == 0:
            return delta
        changed = {}
        for number, (key, unit) in enumerate(delta.changed.items(), 1):
            if not self._dataplane.holds(key, bytes(unit)):
                changed[key] = unit
            if number % SLICE_UNITS == 0:
                await asyncio.sleep(0)
        removed = tuple(key for key in self._dataplane.all_keys() if key not in delta.changed)
        return msgspec.structs.replace(delta, base=self._version, changed=changed, removed=removed)

    # ------------------------------------------------------------------ numbers
    async def _report_all(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            self._report(0, everything=False)

    def _report(self, token: int, *, everything: bool) -> None:
        if self._link is not None:
            self._link.send(Counters(token, self._counters.take(everything=everything)))

    # ------------------------------------------------------------------ the end
    def _begin_drain(self, order: Order | None) -> None:
        """Ordered by the supervisor (`order`), or by a signal to this worker alone, which knows its policy itself."""
        if self._drain_asked.is_set():
            return
        self._column[DRAINING] = 1
        if order is None:
            self._drain_s = (self._policy.shutdown_grace_period_s, self._policy.worker_shutdown_timeout_s)
        else:
            self._drain_s = (order.grace_s, order.timeout_s)
        self._drain_asked.set()
        self._dataplane.begin_drain(self._drain_s[0])

    async def _drain_out(self) -> None:
        await self._drain_asked.wait()
        grace_s, timeout_s = self._drain_s
        # A turn of the loop more, so that the data plane has closed its listeners.
        await asyncio.sleep(grace_s + 0.001)
        await self._dataplane.drained(timeout_s)
        self._report(0, everything=False)


async def _run(
    worker: int, table: SharedTable, channel: socket.socket, *, tickets: TicketSecret, log: logging.Logger
) -> int:
    counters = WorkerCounters()
    dataplane = Dataplane(
        loop=asyncio.get_running_loop(),
        shared=table,
        worker=worker,
        counters=counters,
        log=log,
        clock=time.monotonic,
        wall=time.time,  # noqa: TID251 - the entry point, which hands clocks out
        tickets=tickets,
        cpu=time.thread_time,
        memory_limit_bytes=memory_limit(),
    )
    gc.collect()
    gc.freeze()
    process = WorkerProcess(
        worker=worker,
        table=table,
        channel=channel,
        dataplane=dataplane,
        counters=counters,
        clock=time.monotonic,
        log=log,
    )
    return await process.run()


def main(arguments: list[str]) -> int:
    """Run worker INDEX with the inherited descriptors: `worker INDEX CHANNEL TABLE PHASE LEVEL FORMAT TICKETS`."""
    _, index, channel, table, _, level, form, secret = arguments
    log = operational_log.configure(level, form, process=f"worker {index}")
    orders_channel = socket.socket(fileno=int(channel))
    orders_channel.setblocking(False)
    shared = SharedTable.attach(int(table))
    tickets = TicketSecret.from_descriptor(int(secret))
    for descriptor in (int(channel), int(table)):
        os.set_inheritable(descriptor, False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(int(index), shared, orders_channel, tickets=tickets, log=log))
