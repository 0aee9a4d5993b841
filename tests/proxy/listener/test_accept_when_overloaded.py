"""Connections that wait to be accepted while there is too much to do."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop
from stage.played import make_stage

from ingressd.model.units import Listener, ProcessPolicy
from ingressd.proxy.listener import acceptor as module
from ingressd.proxy.listener.acceptor import Acceptor
from ingressd.proxy.runtime.overload import MOST_OPENINGS, PATIENCE_S, REST_S

PLAIN = Listener("http", "127.0.0.1", 0, "HTTP", 80)
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
PROBE = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


class Nobody:
    """Waits for ever."""

    queued = False


class Deaf:
    """A loop that cannot take over a socket any more."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def connect_accepted_socket(self, make: Callable[[], Any], sock: socket.socket) -> None:
        raise OSError(errno.EINVAL, "it was reset")


class Door:
    """An acceptor on a real socket, which accepts only when it is told to."""

    def __init__(self, stage: Any, listener: Listener) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.sock.setblocking(False)
        self.worker, self.now = stage.worker, stage.now
        self.overload = stage.dataplane._overload
        self.overload.cpu = self._cpu
        self._cpu_s = 0.0
        self.acceptor = Acceptor(
            stage.worker,
            listener,
            self.sock,
            store=stage.dataplane._store,
            share=stage.dataplane._share,
            alone=True,
        )
        self.clients: list[socket.socket] = []

    def _cpu(self) -> float:
        self._cpu_s += 0.0001
        return self._cpu_s

    def knock(self, request: bytes) -> socket.socket:
        client = socket.create_connection(self.sock.getsockname(), 10)
        client.sendall(request)
        self.clients.append(client)
        return client

    def accept(self, *, room: int, time_to_refuse: bool, shut: bool = True) -> None:
        """With requests waiting, `room` for so many connections, and the queue cut short or not."""
        self.overload.begin()
        self.overload._waiting.append((Nobody(), self.now[0], 0))
        self.overload._owed_s = 1.0 if time_to_refuse else -1.0
        self.overload._openings = float(room)
        self.overload.shut = shut
        self.acceptor._accept()
        self.overload._waiting.clear()


@contextlib.contextmanager
def _closing(door: Door) -> Iterator[Door]:
    try:
        yield door
    finally:
        for client in door.clients:
            client.close()
        door.sock.close()


def at_the_door(
    scene: Callable[[Door], None],
    process: ProcessPolicy | None = None,
    listener: Listener = PLAIN,
    after: Callable[[Door], None] | None = None,
) -> None:
    async def run() -> None:
        stage = await make_stage(process=process)
        try:
            with _closing(Door(stage, listener)) as door:
                scene(door)
                await asyncio.sleep(0)
                await asyncio.gather(*door.acceptor._tasks)
                if after is not None:
                    after(door)
                for client in list(stage.worker.clients):
                    client.abort()
                await asyncio.sleep(0.01)
        finally:
            stage.dataplane.close()

    uvloop.run(run())


def is_refused(client: socket.socket) -> bool:
    answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in answer
    assert client.recv(1) == b"", "closed in order, not reset"
    return True


def test_as_many_are_let_in_as_there_is_room_for_and_the_others_are_told() -> None:
    def scene(door: Door) -> None:
        clients = [door.knock(REQUEST) for _ in range(5)]
        assert door.acceptor.backlog() == 5
        door.accept(room=2, time_to_refuse=True)
        assert len(door.acceptor._tasks) == 2
        assert door.worker.counters.shed == 3
        assert all(is_refused(client) for client in clients[2:])

    at_the_door(scene)


def test_without_time_for_refusals_or_for_a_moment_the_others_stay_in_the_queue() -> None:
    """A burst is no reason to refuse anybody."""

    def scene(door: Door) -> None:
        for _ in range(4):
            door.knock(REQUEST)
        door.accept(room=1, time_to_refuse=False)
        assert (door.acceptor.backlog(), door.worker.counters.shed) == (3, 0)
        door.accept(room=1, time_to_refuse=True, shut=False)
        assert (door.acceptor.backlog(), door.worker.counters.shed) == (2, 0)

    at_the_door(scene)


def test_when_no_request_waits_many_are_let_in_and_it_is_not_over_while_there_are_more() -> None:
    def scene(door: Door) -> None:
        for _ in range(module.BURST + 1):
            door.knock(REQUEST)
        door.overload.begin()
        door.now[0] += REST_S
        door.acceptor._accept()
        assert door.acceptor.backlog() == 1
        door.overload.look(0.0, 1)
        assert door.worker.shedding is not None
        door.acceptor._accept()
        door.now[0] += REST_S
        door.overload.look(0.0, 0)
        assert door.worker.shedding is None
        assert door.worker.counters.shed == 0

    at_the_door(scene)


def test_who_has_waited_too_long_is_told_even_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """His answer would come when he has given up."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)

    def scene(door: Door) -> None:
        client = door.knock(REQUEST)
        door.accept(room=8, time_to_refuse=True)
        assert is_refused(client)
        door.knock(REQUEST)
        door.accept(room=8, time_to_refuse=False)
        assert (len(door.acceptor._tasks), door.worker.counters.shed) == (1, 1)

    at_the_door(scene)


def test_who_waited_through_a_pause_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stood still has nobody to shed: the loop was late, and has nothing to do."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)

    def scene(door: Door) -> None:
        for _ in range(2):
            door.knock(REQUEST)
        door.overload.look(1.4, 4)
        door.accept(room=1, time_to_refuse=True)
        assert (len(door.acceptor._tasks), door.worker.counters.shed) == (1, 0)
        door.now[0] += PATIENCE_S
        door.accept(room=1, time_to_refuse=True)
        assert door.worker.counters.shed == 1

    at_the_door(scene)


def test_who_has_left_takes_nobodys_place_and_no_time_for_refusals() -> None:
    def scene(door: Door) -> None:
        for _ in range(3):
            door.knock(REQUEST).close()
        door.knock(REQUEST)
        door.accept(room=1, time_to_refuse=False)
        assert door.acceptor.backlog() == 0
        assert len(door.acceptor._tasks) == 1

    at_the_door(scene)


def test_who_has_ended_his_side_counts_as_gone_only_while_there_is_too_much_indeed() -> None:
    """He may wait for his answer still, but he looks like those who have given up."""

    def scene(door: Door) -> None:
        for tasks, shut in ((1, False), (1, True)):
            door.knock(REQUEST).shutdown(socket.SHUT_WR)
            door.accept(room=1, time_to_refuse=True, shut=shut)
            assert (len(door.acceptor._tasks), door.acceptor.backlog()) == (tasks, 0)

    at_the_door(scene)


def test_probes_are_let_in() -> None:
    def scene(door: Door) -> None:
        for request in [REQUEST, PROBE, PROBE, PROBE]:
            door.knock(request)
        door.accept(room=1, time_to_refuse=True)
        assert len(door.acceptor._tasks) == 4
        assert door.worker.counters.shed == 0

    at_the_door(scene)


def test_who_says_nothing_is_let_in_beyond_the_room_but_not_without_end() -> None:
    """Or a flood of silent connections took what is meant for those who are served."""

    def scene(door: Door) -> None:
        for _ in range(module.BURST):
            door.knock(b"")
        for room in (-1, -int(MOST_OPENINGS)):
            door.accept(room=room, time_to_refuse=True)
            assert (len(door.acceptor._tasks), door.acceptor.backlog()) == (7, module.BURST - 7)

    at_the_door(scene)


def test_a_refusal_cuts_the_queue_short() -> None:
    lengths: list[bool] = []

    def scene(door: Door) -> None:
        door.overload._shorten = lengths.append
        door.overload.refused(door.overload.cpu())
        assert lengths == [True]

    at_the_door(scene)


def test_a_handshake_takes_the_room_of_many() -> None:
    """Of TLS. What is asked over it nobody can see before."""

    def scene(door: Door) -> None:
        door.acceptor.listener = Listener("https", "127.0.0.1", 0, "HTTPS", 443)
        for _ in range(3):
            door.knock(REQUEST)
        door.accept(room=int(module.TLS_OPENINGS) + 1, time_to_refuse=True)
        assert (door.acceptor.backlog(), door.worker.counters.shed) == (1, 0)

    at_the_door(scene)


def test_a_port_that_nobody_waits_at() -> None:
    at_the_door(lambda door: door.accept(room=1, time_to_refuse=True))


def test_handshakes_that_are_not_done_count_as_connections() -> None:
    """Or as many could be begun and left as there are file descriptors."""

    def scene(door: Door) -> None:
        door.worker.loop.add_reader(door.sock.fileno(), door.acceptor._accept)
        try:
            door.worker.arrivals.update((door, door.acceptor))
            door.knock(REQUEST)
            door.acceptor._accept()
            assert door.worker.counters.accepted == 0
            door.worker.arrivals.clear()
            door.acceptor._wake()
            door.acceptor._accept()
            assert door.worker.counters.accepted == 1
        finally:
            door.acceptor.stop()

    at_the_door(scene, ProcessPolicy(max_connections=2))


@pytest.mark.parametrize(
    "listener",
    [
        Listener("https", "127.0.0.1", 0, "HTTPS", 443),
        Listener("http", "127.0.0.1", 0, "HTTP", 80, proxy_protocol=True),
    ],
    ids=["tls", "proxy-protocol"],
)
def test_who_was_gone_before_we_looked_is_not_counted_for_ever(listener: Listener) -> None:
    def scene(door: Door) -> None:
        door.worker.loop = Deaf(door.worker.loop)
        door.knock(b"")
        assert door.acceptor._accept_one()
        assert len(door.worker.arrivals) == 1

    def after(door: Door) -> None:
        assert not door.worker.arrivals

    at_the_door(scene, listener=listener, after=after)
