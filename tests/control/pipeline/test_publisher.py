"""The publisher against workers that are played by the test, over real sockets."""

from __future__ import annotations

import asyncio
import socket

import pytest

from ingressd.control.pipeline.publisher import Publisher
from ingressd.control.pipeline.quarantine import FIRST_PAUSE_S
from ingressd.control.pipeline.slots import Slots
from ingressd.ipc.frames import FrameReader
from ingressd.ipc.messages import (
    Ack,
    Commit,
    Counters,
    DeltaAssembler,
    Flush,
    Hello,
    Listening,
    Part,
    decode_to_worker,
    encode,
)
from ingressd.model.codec import decode_slots, decode_unit
from ingressd.model.problem import Origin
from ingressd.model.units import ClientCertificates, Endpoint, Endpoints, ProcessPolicy, RoutePolicy, Upstream
from ingressd.observe.counters import WorkerCounters
from ingressd.observe.shared_table import SharedTable
from ingressd.observe.totals import Totals

ONE, TWO = (0, 1), (1, 1)
UPSTREAM = Upstream("/api", Origin("Config", "", "upstreams", "api"))
ENDPOINTS = Endpoints("/api", (Endpoint("127.0.0.1", 80),))


class FakeWorker:
    """Reads what the publisher sends, answers what it is told to."""

    def __init__(self, ours: socket.socket) -> None:
        self.socket = ours
        self.socket.setblocking(False)
        self.reader = FrameReader()
        self.assembler = DeltaAssembler()
        self.flushes: list[Flush] = []

    async def deltas(self) -> list:
        """All deltas that were sent until nothing more comes."""
        found = []
        for _ in range(5):
            await asyncio.sleep(0)
            try:
                payloads = self.reader.feed(self.socket.recv(1 << 20))
            except BlockingIOError:
                continue
            for message in map(decode_to_worker, payloads):
                if isinstance(message, Part):
                    self.assembler.add(message)
                elif isinstance(message, Commit):
                    found.append(self.assembler.finish(message))
                else:
                    self.flushes.append(message)
        return found

    async def say(self, *messages) -> None:
        self.socket.sendall(b"".join(map(encode, messages)))
        for _ in range(5):
            await asyncio.sleep(0)


class Stage:
    """A publisher on a fake clock."""

    def __init__(self, table: SharedTable) -> None:
        self.now_s = 1000.0
        self.applied: list[tuple[float, float]] = []
        self.acknowledged: list[int] = []
        self.totals = Totals()
        self.publisher = Publisher(
            slots=Slots(table, self.clock),
            totals=self.totals,
            clock=self.clock,
            applied=lambda *times: self.applied.append(times),
            acknowledged=self.acknowledged.append,
        )
        self.publisher.expected = 2
        self.sockets: list[socket.socket] = []

    def clock(self) -> float:
        return self.now_s

    async def worker(self, name=ONE, version: int = 0) -> FakeWorker:
        ours, theirs = socket.socketpair()
        self.sockets.append(ours)
        self.publisher.attach(name, 100 + name[0], theirs)
        worker = FakeWorker(ours)
        await worker.say(Hello(name[0], 100 + name[0], version), Listening(("http",)))
        return worker

    def close(self) -> None:
        self.publisher.close()
        for one in self.sockets:
            one.close()


@pytest.fixture
def table():
    table = SharedTable.create(2)
    yield table
    table.close()


def staged(table, body):
    """Run an async test body with a stage."""

    async def run():
        stage = Stage(table)
        try:
            await body(stage)
        finally:
            stage.close()

    asyncio.run(run())


def test_a_worker_gets_the_snapshot_with_slots_and_then_only_changes(table):
    async def body(stage):
        worker = await stage.worker()
        stage.publisher.publish({"upstream//api": UPSTREAM, "endpoints//api": ENDPOINTS}, ())
        (delta,) = await worker.deltas()
        assert (delta.version, delta.base) == (1, 0)
        assert decode_unit(delta.changed["upstream//api"]) == UPSTREAM
        assert list(delta.slots) == ["/api"]
        assert decode_slots(delta.slots["/api"])["127.0.0.1:80"] > 0
        await worker.say(Ack(1, {}, 0.25))
        stage.publisher.publish({"process": ProcessPolicy(via="x")}, ("upstream//api", "endpoints//api"))
        (delta,) = await worker.deltas()
        assert (delta.base, list(delta.changed)) == (1, ["process"])
        assert sorted(delta.removed) == ["endpoints//api", "upstream//api"]
        assert stage.applied == [(0.25, 0.0)]

    staged(table, body)


def test_ready_means_acknowledged_by_every_worker_that_should_be_there(table):
    async def body(stage):
        publisher = stage.publisher
        one = await stage.worker(ONE)
        assert not publisher.ready()
        publisher.publish({"process": ProcessPolicy()}, ())
        await one.deltas()
        await one.say(Ack(1, {}, 0.1))
        assert not publisher.ready(), "the second worker is missing"
        two = await stage.worker(TWO)
        await two.deltas()
        assert not publisher.ready()
        await two.say(Ack(1, {}, 0.1))
        assert publisher.ready()
        assert stage.acknowledged[-1] == 1
        # A worker that is replaced meanwhile does not make a pod unready that serves.
        publisher.gone(TWO, "signal 9", applying=0, unit=0)
        assert publisher.ready()
        publisher.gone(ONE, "signal 9", applying=0, unit=0)
        assert not publisher.ready()

    staged(table, body)


def test_workers_that_serve_from_a_controller_before_are_ready_at_once(table):
    async def body(stage):
        await stage.worker(ONE, version=7)
        await stage.worker(TWO, version=7)
        assert stage.publisher.ready()
        assert stage.publisher.publish({"process": ProcessPolicy()}, ()) == 8

    staged(table, body)


def test_a_refused_unit_is_replaced_everywhere_and_is_a_problem(table):
    async def body(stage):
        publisher = stage.publisher
        one, two = await stage.worker(ONE), await stage.worker(TWO)
        good, bad = Upstream("/api", UPSTREAM.origin), Upstream("/api", UPSTREAM.origin, hash_by="bad")
        publisher.publish({"upstream//api": good, "process": ProcessPolicy()}, ())
        for worker in (one, two):
            await worker.deltas()
            await worker.say(Ack(1, {}, 0.1))
        publisher.publish({"upstream//api": bad, "policy/": RoutePolicy()}, ())
        for worker in (one, two):
            await worker.deltas()
        await one.say(Ack(2, {"upstream//api": "cannot be built"}, 0.1))
        await two.say(Ack(2, {}, 0.1))
        for worker in (one, two):
            (delta,) = await worker.deltas()
            assert list(delta.changed) == ["upstream//api"]
            assert decode_unit(delta.changed["upstream//api"]) == good
            await worker.say(Ack(3, {}, 0.1))
        (problem,) = publisher.problems()
        assert (problem.origin, problem.reason, problem.field) == (UPSTREAM.origin, "Quarantined", "upstream//api")
        assert problem.message == "cannot be built; its last good version serves"
        assert publisher.units()["upstream//api"] == good
        assert "policy/" in publisher.units()
        # Translated again without a change it stays out; changed it gets its chance.
        assert publisher.publish({"upstream//api": bad}, ()) == 3
        publisher.publish({"upstream//api": Upstream("/api", UPSTREAM.origin, hash_by="uri")}, ())
        assert publisher.problems() == []

    staged(table, body)


def test_a_host_whose_guard_is_held_is_said_to_be_closed(table):
    async def body(stage):
        publisher = stage.publisher
        worker = await stage.worker()
        publisher.publish({"clients/a": ClientCertificates(host="a", origin=UPSTREAM.origin)}, ())
        await worker.deltas()
        await worker.say(Ack(1, {"clients/a": "no"}, 0.1))
        for version in (2, 2):
            (problem,) = publisher.problems()
            assert problem.message == "no; its host answers 503"
            await worker.deltas()
            await worker.say(Ack(version, {}, 0.1))

    staged(table, body)


def test_a_unit_that_workers_die_of_twice_is_held_and_the_next_worker_lives(table):
    async def body(stage):
        publisher = stage.publisher
        publisher.publish({"process": ProcessPolicy()}, ())
        worker = await stage.worker()
        await worker.deltas()
        await worker.say(Ack(1, {}, 0.1))
        publisher.publish({"upstream//api": UPSTREAM}, ())
        await worker.deltas()
        worker.socket.close()
        await asyncio.sleep(0.01)
        publisher.gone(ONE, "signal 11", applying=2, unit=0)
        assert publisher.problems() == []
        worker = await stage.worker((0, 2))
        (delta,) = await worker.deltas()
        assert set(delta.changed) == {"process", "upstream//api"}
        publisher.gone((0, 2), "signal 11", applying=2, unit=0)
        (problem,) = publisher.problems()
        assert "signal 11" in problem.message
        worker = await stage.worker((0, 3))
        (delta,) = await worker.deltas()
        assert set(delta.changed) == {"process"}
        await worker.say(Ack(delta.version, {}, 0.1))
        # After its pause it is tried again, and alone.
        stage.now_s += FIRST_PAUSE_S
        publisher.tick()
        (delta,) = await worker.deltas()
        assert set(delta.changed) == {"upstream//api"}
        await worker.say(Ack(delta.version, {}, 0.1))
        assert publisher.problems() == []

    staged(table, body)


def test_a_worker_that_dies_of_something_else_accuses_nobody(table):
    async def body(stage):
        publisher = stage.publisher
        publisher.publish({"process": ProcessPolicy()}, ())
        for number in range(1, 5):
            worker = await stage.worker((0, number))
            await worker.deltas()
            publisher.gone((0, number), "signal 9", applying=0, unit=0)
        assert publisher.problems() == []

    staged(table, body)


def test_a_delta_of_which_nothing_can_be_built_is_held_at_once(table):
    async def body(stage):
        publisher = stage.publisher
        publisher.publish({"process": ProcessPolicy()}, ())
        worker = await stage.worker()
        await worker.deltas()
        await worker.say(Ack(1, {}, 0.1))
        publisher.publish({"upstream//api": UPSTREAM}, ())
        await worker.deltas()
        await worker.say(Ack(2, {}, 0.0, "KeyError: 'x'"))
        (delta,) = await worker.deltas()
        assert (delta.base, delta.removed) == (1, ("upstream//api",))
        assert publisher.problems()[0].message == "KeyError: 'x'; nothing serves in its place"

    staged(table, body)


def test_a_scrape_waits_for_every_worker_that_answers(table):
    async def body(stage):
        counters = WorkerCounters()
        one = await stage.worker(ONE)
        counters.requests = 3
        flush = asyncio.create_task(stage.publisher.flush_counters())
        await one.deltas()
        assert one.flushes[0].everything, "a new link starts with everything"
        token = one.flushes[-1].token
        assert not flush.done()
        await one.say(Counters(token, counters.take()))
        await asyncio.wait_for(flush, 30.0)
        assert stage.totals.process()["requests"] == 3
        # Folded when the worker goes.
        stage.publisher.gone(ONE, "exit code 0", applying=0, unit=0)
        assert stage.totals.process()["requests"] == 3

    staged(table, body)


def test_junk_from_a_worker_ends_its_link_only(table):
    async def body(stage):
        worker, other = await stage.worker(ONE), await stage.worker(TWO)
        worker.socket.sendall(b"\x00\x00\x00\x01\xc1")
        await asyncio.sleep(0.01)
        assert [view.worker for view in stage.publisher.workers()] == [1]
        stage.publisher.publish({"process": ProcessPolicy()}, ())
        assert len(await other.deltas()) == 1

    staged(table, body)
