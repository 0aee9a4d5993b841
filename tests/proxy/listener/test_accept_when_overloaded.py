"""Connections that wait to be accepted while there is too much to do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop
from stage.played import make_stage

from ingressd.model.units import Listener, ProcessPolicy
from ingressd.proxy.listener import acceptor as module
from ingressd.proxy.listener.acceptor import Acceptor
from ingressd.proxy.runtime.overload import PATIENCE_S

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
PROBE = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


class Door:
    """An acceptor on a real socket, which accepts only when it is told to."""

    def __init__(self, stage: Any) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.sock.setblocking(False)
        self.worker, self.now = stage.worker, stage.now
        self.overload = stage.dataplane._overload
        self.overload.cpu = self._cpu
        self._cpu_s = 0.0
        self.acceptor = Acceptor(
            stage.worker,
            Listener("http", "127.0.0.1", 0, "HTTP", 80),
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

    def accept(self, *, time_to_refuse: bool) -> None:
        self.overload.begin()
        self.overload._owed_s = 1.0 if time_to_refuse else -1.0
        self.acceptor._accept()


@contextlib.contextmanager
def _closing(door: Door) -> Iterator[Door]:
    try:
        yield door
    finally:
        for client in door.clients:
            client.close()
        door.sock.close()


@pytest.fixture(autouse=True)
def four_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """For fewer clients than are many outside of tests."""
    monkeypatch.setattr(module, "FEW", 0)


def at_the_door(scene: Callable[[Door], None], process: ProcessPolicy | None = None) -> None:
    async def run() -> None:
        stage = await make_stage(process=process)
        try:
            with _closing(Door(stage)) as door:
                scene(door)
                await asyncio.sleep(0)
                await asyncio.gather(*door.acceptor._tasks)
                for client in list(stage.worker.clients):
                    client.abort()
                await asyncio.sleep(0.01)
        finally:
            stage.dataplane.close()

    uvloop.run(run())


def test_few_are_let_in_and_who_has_waited_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)

    def scene(door: Door) -> None:
        clients = [door.knock(REQUEST) for _ in range(4)]
        assert door.acceptor.backlog() == 4
        door.accept(time_to_refuse=True)
        assert len(door.acceptor._tasks) == module.LET_IN
        assert door.worker.counters.shed == 4 - module.LET_IN
        for client in clients[module.LET_IN :]:
            answer = client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 1\r\n" in answer
            assert client.recv(1) == b"", "closed in order, not reset"

    at_the_door(scene)


def test_who_has_just_come_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 60.0)

    def scene(door: Door) -> None:
        door.knock(REQUEST)
        door.knock(REQUEST)
        door.accept(time_to_refuse=True)
        assert door.worker.counters.shed == 0

    at_the_door(scene)


def test_a_few_are_let_in_one_by_one_and_none_is_refused_nor_taken_for_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine is late too; and who has sent all he wants to say still waits for his answer."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    monkeypatch.setattr(module, "FEW", 4)

    def scene(door: Door) -> None:
        for _ in range(4):
            door.knock(REQUEST).shutdown(socket.SHUT_WR)
        for turn in range(1, 5):
            door.accept(time_to_refuse=True)
            assert (len(door.acceptor._tasks), door.worker.counters.shed) == (turn * module.LET_IN, 0)

    at_the_door(scene)


def test_who_waited_through_a_pause_is_not_refused_and_let_in_turn_by_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stood still has nobody to shed: the loop was late, and has nothing to do."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)

    def scene(door: Door) -> None:
        for _ in range(4):
            door.knock(REQUEST)
        door.overload.look(1.4, 4)
        for turn in range(1, 4):
            door.accept(time_to_refuse=True)
            assert (len(door.acceptor._tasks), door.worker.counters.shed) == (turn * module.LET_IN, 0)
        door.now[0] += PATIENCE_S
        door.knock(REQUEST)
        door.accept(time_to_refuse=True)
        assert door.worker.counters.shed == 1

    at_the_door(scene)


def test_without_time_for_refusals_the_others_stay_in_the_queue() -> None:
    def scene(door: Door) -> None:
        for _ in range(4):
            door.knock(REQUEST)
        door.accept(time_to_refuse=False)
        assert door.acceptor.backlog() == 4 - module.LET_IN

    at_the_door(scene)


def test_who_has_left_takes_nobodys_place() -> None:
    def scene(door: Door) -> None:
        door.knock(REQUEST).close()
        door.knock(REQUEST)
        door.accept(time_to_refuse=True)
        assert door.acceptor.backlog() == 0
        assert len(door.acceptor._tasks) == 1

    at_the_door(scene)


def test_who_has_left_costs_of_the_time_for_refusals() -> None:
    def scene(door: Door) -> None:
        for _ in range(3):
            door.knock(REQUEST).close()
        door.knock(REQUEST)
        for left in (3, 2, 1, 0):
            door.accept(time_to_refuse=False)
            assert door.acceptor.backlog() == left
        assert len(door.acceptor._tasks) == 1

    at_the_door(scene)


def test_probes_are_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)

    def scene(door: Door) -> None:
        for request in [REQUEST] * module.LET_IN + [PROBE] * 3:
            door.knock(request)
        door.accept(time_to_refuse=True)
        assert len(door.acceptor._tasks) == module.LET_IN + 3
        assert door.worker.counters.shed == 0

    at_the_door(scene)


def test_the_queue_is_short_only_while_somebody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[bool] = []
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)

    def scene(door: Door) -> None:
        door.overload._shorten = lengths.append
        door.overload.begin()
        assert lengths == []
        for _ in range(module.LET_IN + 2):
            door.knock(REQUEST)
        door.accept(time_to_refuse=True)
        assert lengths == [True]

    at_the_door(scene)


def test_a_port_that_nobody_waits_at() -> None:
    at_the_door(lambda door: door.accept(time_to_refuse=True))


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
