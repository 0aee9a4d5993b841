"""The queue of requests for which no endpoint has a place: order, bounds, and what the workers of a pod do together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from stage.played import Stage, play

from ingressd.model.problem import Origin
from ingressd.model.units import Endpoint, Upstream
from ingressd.observe.counters import WorkerCounters
from ingressd.observe.shared_table import IN_FLIGHT, WAITING, SharedTable
from ingressd.proxy.upstream.endpoint import EndpointState
from ingressd.proxy.upstream.request_queue import LOOK_S, PATIENCE_S, RequestQueue
from ingressd.settings.config import RequestCap


class Loop:
    """Callbacks at times, by hand; shared by the workers of a pod, as time is."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._soon: list[Callable[[], object]] = []
        self._later: list[tuple[float, Callable[[], object]]] = []

    def call_soon(self, callback: Callable[[], object]) -> None:
        self._soon.append(callback)

    def call_later(self, delay: float, callback: Callable[[], object]) -> None:
        self._later.append((self.now + delay, callback))

    def turn(self) -> None:
        """What was to be called soon."""
        while self._soon:
            callbacks, self._soon = self._soon, []
            for callback in callbacks:
                callback()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and call what is due in it."""
        until = self.now + seconds
        self.turn()
        while due := sorted(((at, i) for i, (at, _) in enumerate(self._later) if at <= until)):
            at, index = due[0]
            _, callback = self._later.pop(index)
            self.now = at
            callback()
            self.turn()
        self.now = until


class Pod:
    """Workers with one upstream, and the table they share."""

    def __init__(self, table: SharedTable, cap: RequestCap, *, endpoints: int = 1) -> None:
        self.table = table
        self.loop = Loop()
        self.went: list[str] = []
        self.workers = [Worker(self, number, cap, endpoints) for number in range(table.workers)]

    def in_flight(self, slot: int = 1) -> int:
        return self.table.sum(slot, IN_FLIGHT)


class Worker:
    def __init__(self, pod: Pod, number: int, cap: RequestCap, endpoints: int) -> None:
        table = pod.table
        self.pod = pod
        self.column = table.column(number)
        self.counters = WorkerCounters()
        self.endpoints = [
            EndpointState("10.0.0.1", 80 + slot, base=table.base(slot), columns=table.columns())
            for slot in range(1, endpoints + 1)
        ]
        self.queue = RequestQueue(cap, loop=pod.loop, clock=lambda: pod.loop.now, counters=self.counters)
        cell = table.group_base(self.endpoints[0].base) + WAITING
        self.queue.share(cell, table.columns(), self.column, endpoints=endpoints)
        for endpoint in self.endpoints:
            endpoint.queue = self.queue

    def request(self, name: str, *, tried: tuple[int, ...] = ()) -> Request:
        """A request comes: it goes, waits, or is refused."""
        request = Request(self, name, [self.endpoints[index] for index in tried])
        request.come(self.pod.loop.now)
        return request


class Request:
    """As an exchange does it."""

    def __init__(self, worker: Worker, name: str, tried: list[EndpointState]) -> None:
        self.worker = worker
        self.name = name
        self.tried = tried
        self.endpoint: EndpointState | None = None
        self.refused = False

    def __repr__(self) -> str:
        return self.name

    @property
    def picky(self) -> bool:
        return bool(self.tried)

    def come(self, now: float) -> None:
        queue = self.worker.queue
        if not len(queue) and self.look(now):
            return
        if queue.is_full():
            self.refused = True
        else:
            queue.join(self, now)

    def look(self, now: float) -> bool:
        wanted = [one for one in self.worker.endpoints if one not in self.tried] or self.worker.endpoints
        endpoint = self.worker.queue.choose(wanted, now)
        return endpoint is not None and self._go_to(endpoint)

    def offer(self, endpoint: EndpointState, now: float) -> bool:
        return endpoint not in self.tried and self._go_to(endpoint)

    def _go_to(self, endpoint: EndpointState) -> bool:
        cell = endpoint.base + IN_FLIGHT
        self.worker.column[cell] += 1
        if self.worker.queue.is_over(endpoint):
            self.worker.column[cell] -= 1
            return False
        self.worker.queue.leave(self)
        self.endpoint = endpoint
        self.worker.pod.went.append(self.name)
        return True

    def end(self) -> None:
        """The answer is whole."""
        assert self.endpoint is not None, f"{self.name} has not gone"
        self.worker.column[self.endpoint.base + IN_FLIGHT] -= 1
        self.worker.queue.left(self.endpoint)


@pytest.fixture
def table() -> Iterator[SharedTable]:
    table = SharedTable.create(1)
    yield table
    table.close()


@pytest.fixture
def two(table: SharedTable) -> SharedTable:
    table.workers = 2
    return table


def test_a_free_place_goes_to_the_eldest(table: SharedTable) -> None:
    pod = Pod(table, RequestCap(2))
    (worker,) = pod.workers
    first, second, *waiting = [worker.request(name) for name in "abcde"]
    assert (pod.went, len(worker.queue)) == (["a", "b"], 3)
    second.end()
    pod.loop.turn()
    first.end()
    pod.loop.turn()
    assert pod.went == ["a", "b", "c", "d"]
    assert pod.in_flight() == 2
    waiting[0].end()
    waiting[1].end()
    pod.loop.turn()
    assert pod.went == ["a", "b", "c", "d", "e"]
    assert (worker.counters.queued, worker.counters.queue_length) == (3, 0)


def test_who_comes_while_others_wait_does_not_go_before_them(table: SharedTable) -> None:
    pod = Pod(table, RequestCap(1))
    (worker,) = pod.workers
    running = worker.request("a")
    worker.request("b")
    running.end()
    worker.request("late")  # In the very turn in which the place is free, and b has not got it yet.
    pod.loop.turn()
    assert pod.went == ["a", "b"]


def test_a_full_queue_refuses_and_one_that_may_hold_nobody_too(table: SharedTable) -> None:
    pod = Pod(table, RequestCap(1, max_pending=2))
    (worker,) = pod.workers
    requests = [worker.request(name) for name in "abcd"]
    assert [request.refused for request in requests] == [False, False, False, True]
    worker.queue.cap = RequestCap(1, max_pending=0)
    assert worker.request("e").refused


def test_who_leaves_the_queue_makes_room_in_it(table: SharedTable) -> None:
    pod = Pod(table, RequestCap(1, max_pending=1))
    (worker,) = pod.workers
    running, gone = worker.request("a"), worker.request("b")
    assert worker.request("c").refused
    worker.queue.leave(gone)
    worker.queue.leave(gone)
    assert not worker.request("d").refused
    running.end()
    pod.loop.turn()
    assert pod.went == ["a", "d"]
    assert worker.counters.queue_length == 0


def test_a_request_that_has_tried_an_endpoint_lets_others_have_it(table: SharedTable) -> None:
    pod = Pod(table, RequestCap(1), endpoints=2)
    (worker,) = pod.workers
    at_first, at_second = worker.request("a"), worker.request("b")
    worker.request("again", tried=(0,))
    worker.request("c")
    at_first.end()
    pod.loop.turn()
    assert pod.went == ["a", "b", "c"]
    at_second.end()
    pod.loop.turn()
    assert pod.went == ["a", "b", "c", "again"]


def test_places_that_a_change_makes_are_taken(table: SharedTable) -> None:
    pod = Pod(table, RequestCap(1))
    (worker,) = pod.workers
    for name in "abcd":
        worker.request(name)
    worker.queue.cap = RequestCap(3)
    worker.queue.changed()
    pod.loop.turn()
    assert pod.went == ["a", "b", "c"]


def test_an_endpoint_without_a_slot_has_no_cap(table: SharedTable) -> None:
    pod = Pod(table, RequestCap(1))
    (worker,) = pod.workers
    worker.endpoints[0].base = table.base(0)
    for name in "abc":
        worker.request(name)
    assert pod.went == ["a", "b", "c"]


def test_the_cap_and_the_queue_are_the_pods(two: SharedTable) -> None:
    pod = Pod(two, RequestCap(2, max_pending=2))
    one, other = pod.workers
    one.request("a")
    other.request("b")
    assert not one.request("c").refused
    assert not other.request("d").refused
    assert one.request("e").refused
    assert other.request("f").refused
    assert (pod.went, pod.in_flight()) == (["a", "b"], 2)


def test_the_last_place_is_taken_by_one_of_two_at_most(two: SharedTable) -> None:
    """Both have seen it free: each counts itself, looks again, and steps back."""
    pod = Pod(two, RequestCap(1))
    one, other = pod.workers
    assert one.queue.has_place(one.endpoints[0])
    assert other.queue.has_place(other.endpoints[0])
    one.column[one.endpoints[0].base + IN_FLIGHT] += 1
    other.column[other.endpoints[0].base + IN_FLIGHT] += 1
    assert one.queue.is_over(one.endpoints[0])
    assert other.queue.is_over(other.endpoints[0])


def test_a_place_that_becomes_free_in_another_worker_is_found(two: SharedTable) -> None:
    pod = Pod(two, RequestCap(1))
    one, other = pod.workers
    running = one.request("a")
    other.request("b")
    running.end()
    pod.loop.turn()
    assert pod.went == ["a"]
    pod.loop.pass_time(LOOK_S)
    assert pod.went == ["a", "b"]


def test_the_eldest_of_all_workers_goes_first(two: SharedTable) -> None:
    pod = Pod(two, RequestCap(1))
    workers = pod.workers * 5
    requests = []
    for name, worker in zip("abcdefgh", workers, strict=False):
        requests.append(worker.request(name))
        pod.loop.pass_time(0.0015)  # Since when somebody waits is said in milliseconds.
    for request in requests:
        request.end()
        pod.loop.pass_time(2 * LOOK_S)
        assert pod.in_flight() <= 1
    assert "".join(pod.went) == "abcdefgh"


def test_who_comes_leaves_the_place_to_one_who_waits_elsewhere(two: SharedTable) -> None:
    pod = Pod(two, RequestCap(1))
    one, other = pod.workers
    running = one.request("a")
    other.request("b")
    pod.loop.pass_time(0.0015)
    running.end()
    one.request("c")
    pod.loop.pass_time(2 * LOOK_S)
    assert pod.went == ["a", "b"]


def test_a_worker_that_was_stopped_holds_nobody_up_for_long(two: SharedTable) -> None:
    pod = Pod(two, RequestCap(1))
    one, other = pod.workers
    running = one.request("a")
    other.request("stopped").look = lambda now: False  # type: ignore[method-assign]
    pod.loop.pass_time(0.01)
    names = "bcdef"
    waiting = [one.request(name) for name in names]
    pod.loop.pass_time(0.5)
    running.end()
    pod.loop.pass_time(PATIENCE_S / 2)
    assert pod.went == ["a"]
    pod.loop.pass_time(PATIENCE_S)
    assert pod.went == ["a", "b"]
    for request in waiting[:-1]:  # Patience is had once, not for every place.
        request.end()
        pod.loop.turn()
    assert pod.went == ["a", *names]


def test_what_a_dead_worker_said_is_forgotten_with_it(two: SharedTable) -> None:
    pod = Pod(two, RequestCap(1, max_pending=1))
    one, other = pod.workers
    one.request("a")
    other.request("b")
    assert one.request("c").refused
    two.column(1)[two.group_base(two.base(1)) + WAITING] = 0  # As `SharedTable.reap` does.
    assert not one.request("d").refused


def test_nobody_looks_while_nobody_waits(table: SharedTable) -> None:
    pod = Pod(table, RequestCap(1))
    (worker,) = pod.workers
    running = worker.request("a")
    worker.request("b")
    running.end()
    pod.loop.pass_time(1.0)
    assert not pod.loop._later


def test_waiting_follows_the_cell_when_the_endpoints_change(two: SharedTable) -> None:
    pod = Pod(two, RequestCap(1))
    one, _ = pod.workers
    one.request("a")
    one.request("b")
    old, new = two.group_base(two.base(1)) + WAITING, two.group_base(two.base(2)) + WAITING
    assert one.column[old]
    one.queue.share(new, two.columns(), one.column, endpoints=1)
    assert (one.column[old], bool(one.column[new])) == (0, True)
    one.queue.share(0, two.columns(), one.column, endpoints=0)
    assert one.column[new] == 0


def test_who_waits_for_an_upstream_that_is_gone_is_not_counted_in_a_cell_that_others_get() -> None:
    def scene(stage: Stage) -> None:
        group = stage.dataplane._builder.group("/u")
        base = SharedTable.base(1)
        group.set_endpoints([Endpoint("127.0.0.1", 9)], lambda name: base, stage.dataplane._shared.columns())
        cell = SharedTable.group_base(base) + WAITING
        column = stage.worker.column
        request = stage.client()
        group.queue.join(request, stage.now[0])
        assert column[cell]
        group.close()
        assert column[cell] == 0
        column[cell] = 5  # Another upstream's, which has the slot now.
        group.queue.leave(request)
        assert column[cell] == 5

    play(scene, more=[Upstream("/u", Origin("Config", "", "upstreams"), cap=RequestCap(max_requests=1))])


def test_one_that_breaks_something_does_not_stop_the_looks(table: SharedTable) -> None:
    loop = Loop()
    queue = RequestQueue(RequestCap(max_requests=1), loop=loop, clock=lambda: loop.now, counters=WorkerCounters())
    looks = []

    class Broken:
        picky = False

        def look(self, now: float) -> bool:
            looks.append(now)
            raise ZeroDivisionError

    queue.join(Broken(), loop.now)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            loop.pass_time(2 * LOOK_S)
    assert len(looks) == 2
