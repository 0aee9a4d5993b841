"""A worker process around a played data plane: deltas, acknowledgements, drain, a controller that comes back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket

import pytest

from ingressd.app.worker import WorkerProcess
from ingressd.ipc import orders
from ingressd.ipc.frames import FrameReader
from ingressd.ipc.messages import Ack, Counters, Flush, Hello, Listening, decode_to_controller, delta_frames, encode
from ingressd.ipc.orders import Order, pair, send_order
from ingressd.model.codec import encode_unit
from ingressd.model.units import ProcessPolicy, RoutePolicy
from ingressd.observe.counters import WorkerCounters
from ingressd.observe.shared_table import APPLYING, DRAINING, VERSION, SharedTable

PROCESS = encode_unit(ProcessPolicy(worker_shutdown_timeout_s=7.0))
POLICY = encode_unit(RoutePolicy())


class PlayedDataplane:
    def __init__(self) -> None:
        self.deltas = []
        self.units = {}
        self.refuse: dict[str, str] = {}
        self.fail = False
        self.listening: dict[str, socket.socket] = {}
        self.calls: list = []

    async def apply(self, delta):
        self.deltas.append(delta)
        await asyncio.sleep(0)
        if self.fail:
            raise RuntimeError("broken")
        self.units.update((key, bytes(unit)) for key, unit in delta.changed.items())
        for key in delta.removed:
            del self.units[key]
        return {key: why for key, why in self.refuse.items() if key in delta.changed}

    def all_keys(self):
        return list(self.units)

    def holds(self, key, unit):
        return self.units.get(key) == unit

    def listen(self, name, sock):
        self.listening[name] = sock

    def unlisten(self, name):
        self.listening.pop(name).close()

    def begin_drain(self, grace_s):
        self.calls.append(("begin_drain", grace_s))

    async def drained(self, timeout_s):
        self.calls.append(("drained", timeout_s))

    def reopen_logs(self):
        self.calls.append("reopen")

    def close(self):
        for one in self.listening.values():
            one.close()


class Stage:
    def __init__(self, table) -> None:
        self.table = table
        self.ours, self.theirs = pair()
        self.dataplane = PlayedDataplane()
        self.counters = WorkerCounters()
        self.log = logging.getLogger("test.worker")

    async def __aenter__(self):
        process = WorkerProcess(
            worker=0,
            table=self.table,
            channel=self.theirs,
            dataplane=self.dataplane,
            counters=self.counters,
            clock=lambda: 0.0,
            log=self.log,
        )
        self.task = asyncio.create_task(process.run())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_):
        self.ours.close()
        await asyncio.wait_for(self.task, 30.0)
        self.theirs.close()

    async def attach(self):
        """A controller's end of a new link."""
        one, two = socket.socketpair()
        send_order(self.ours, Order(orders.ATTACH), (one.fileno(),))
        one.close()
        two.setblocking(False)
        return Controller(two)


class Controller:
    def __init__(self, connected) -> None:
        self.socket = connected
        self.reader = FrameReader()
        self.heard: list = []

    async def next(self, kind):
        """The next message of a kind; others are kept out of the way."""
        loop = asyncio.get_running_loop()
        while True:
            for number, message in enumerate(self.heard):
                if isinstance(message, kind):
                    return self.heard.pop(number)
            received = await asyncio.wait_for(loop.sock_recv(self.socket, 65536), 30.0)
            assert received, "the worker closed the link"
            self.heard += map(decode_to_controller, self.reader.feed(received))

    def send(self, version, base, changed, removed=()):
        self.socket.sendall(b"".join(delta_frames(version, base, changed=changed, removed=removed)))


@pytest.fixture
def table():
    table = SharedTable.create(1)
    yield table
    table.close()


def staged(table, body):
    async def run():
        async with Stage(table) as stage:
            await body(stage)

    asyncio.run(run())


def test_a_delta_is_applied_and_acknowledged(table):
    async def body(stage):
        controller = await stage.attach()
        hello = await controller.next(Hello)
        assert (hello.worker, hello.version) == (0, 0)
        stage.dataplane.refuse = {"policy/": "no"}
        controller.send(3, 0, {"process": PROCESS, "policy/": POLICY})
        ack = await controller.next(Ack)
        assert (ack.version, ack.refused, ack.error) == (3, {"policy/": "no"}, "")
        column = table.column(0)
        assert (column[VERSION], column[APPLYING]) == (3, 0)
        controller.socket.close()

    staged(table, body)


def test_a_data_plane_that_breaks_leaves_the_old_version_and_says_so(table):
    async def body(stage):
        controller = await stage.attach()
        controller.send(1, 0, {"process": PROCESS})
        await controller.next(Ack)
        stage.dataplane.fail = True
        controller.send(2, 1, {"policy/": POLICY})
        assert "broken" in (await controller.next(Ack)).error
        stage.dataplane.fail = False
        controller.send(3, 1, {"policy/": POLICY})
        assert (await controller.next(Ack)).error == ""
        assert table.column(0)[VERSION] == 3
        controller.socket.close()

    staged(table, body)


def test_a_controller_that_comes_back_costs_only_what_changed(table):
    async def body(stage):
        first = await stage.attach()
        first.send(4, 0, {"process": PROCESS, "policy/": POLICY, "policy/old": POLICY})
        await first.next(Ack)
        first.socket.close()
        second = await stage.attach()
        assert (await second.next(Hello)).version == 4
        changed = encode_unit(RoutePolicy(connect_timeout_s=1.0))
        second.send(5, 0, {"process": PROCESS, "policy/": changed})
        assert (await second.next(Ack)).version == 5
        delta = stage.dataplane.deltas[-1]
        assert (delta.base, list(delta.changed), delta.removed) == (4, ["policy/"], ("policy/old",))
        second.socket.close()

    staged(table, body)


def test_a_delta_from_a_version_that_does_not_serve_is_an_error(table):
    async def body(stage):
        controller = await stage.attach()
        controller.send(2, 1, {"process": PROCESS})
        assert "from version 1" in (await controller.next(Ack)).error
        assert stage.dataplane.deltas == []
        controller.socket.close()

    staged(table, body)


def test_sockets_come_and_go_by_name(table):
    async def body(stage):
        controller = await stage.attach()
        await controller.next(Listening)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            send_order(stage.ours, Order(orders.LISTEN, name="http"), (listening.fileno(),))
            assert (await controller.next(Listening)).names == ("http",)
            assert stage.dataplane.listening["http"].getsockname() == listening.getsockname()
        send_order(stage.ours, Order(orders.UNLISTEN, name="http"))
        send_order(stage.ours, Order(orders.UNLISTEN, name="never"))
        assert (await controller.next(Listening)).names == ()
        controller.socket.close()

    staged(table, body)


def test_counters_come_when_they_are_asked_for(table):
    async def body(stage):
        controller = await stage.attach()
        controller.socket.sendall(encode(Flush(77)))
        assert (await controller.next(Counters)).token == 77
        controller.socket.close()

    staged(table, body)


def test_a_drain_runs_its_course_and_ends_with_0(table):
    async def body(stage):
        send_order(stage.ours, Order(orders.DRAIN, grace_s=0.01, timeout_s=5.0))
        assert await asyncio.wait_for(asyncio.shield(stage.task), 30.0) == 0
        assert stage.dataplane.calls == [("begin_drain", 0.01), ("drained", 5.0)]
        assert table.column(0)[DRAINING] == 1

    staged(table, body)


def test_the_end_of_the_supervisor_is_the_end(table):
    async def body(stage):
        stage.ours.close()
        assert await asyncio.wait_for(asyncio.shield(stage.task), 30.0) == 1

    staged(table, body)


def test_logs_are_reopened(table):
    async def body(stage):
        send_order(stage.ours, Order(orders.REOPEN))
        async with asyncio.timeout(30):
            while not stage.dataplane.calls:
                await asyncio.sleep(0.001)
        assert stage.dataplane.calls == ["reopen"]

    staged(table, body)


def test_without_a_free_descriptor_a_new_controller_is_heard_all_the_same(table):
    """Clients may hold them all; without its link a worker would never hear of a change again."""

    async def body(stage):
        for _ in range(2):
            one, two = socket.socketpair()
            two.setblocking(False)
            send_order(stage.ours, Order(orders.ATTACH), (one.fileno(),))
            one.close()
            controller = Controller(two)
            with no_descriptor_left():
                await controller.next(Hello)
            controller.socket.close()

    staged(table, body)


@contextlib.contextmanager
def no_descriptor_left():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.open(os.devnull, os.O_RDONLY)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (held[0] + 1, hard))
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(held[0]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)
