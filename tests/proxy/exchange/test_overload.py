"""More requests than can be served: who is served first, who is refused, and that a pause is no overload."""

from __future__ import annotations

import logging

import pytest
from stage.played import Stage, play

from ingressd.model.units import VirtualHost
from ingressd.proxy.http.client import ClientConnection
from ingressd.proxy.runtime.overload import (
    BACKLOG,
    LONG_S,
    PATIENCE_S,
    PATIENCE_TURNS,
    PER_TURN,
    REQUESTS_PER_OPENING,
    REST_S,
    TARGET_S,
)

REQUEST = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
NO_ROUTE = b"GET /../ HTTP/1.1\r\nHost: a\r\n\r\n"
"""Answered at once, 400."""


CONNECTED = 100


class Crowd:
    """A worker with the first turn's requests served, so that the next ones have to wait."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.overload = stage.dataplane._overload
        self.cpu_s = 100.0
        self.overload.cpu = lambda: self.cpu_s
        self.connected = [stage.client() for _ in range(CONNECTED)]
        self.overload.begin()
        self.overload._served = PER_TURN

    def ask(self, request: bytes = REQUEST) -> ClientConnection:
        """Over a connection that was there before."""
        client = self.connected.pop()
        client.data_received(request)
        return client

    def turns(self, count: int, *, serving: int = 0) -> None:
        """Turns of the loop that have room for `serving` of those who wait."""
        for _ in range(count):
            self.overload._served = PER_TURN - serving
            self.overload._turn()

    def wait(self) -> None:
        """Longer than anybody has patience; meanwhile CPU is used."""
        self.stage.now[0] += PATIENCE_S
        self.cpu_s += 10.0

    def answer(self, client: ClientConnection) -> bytes:
        return self.stage.sent(client)


def test_in_ordinary_times_nothing_waits() -> None:
    def scene(stage: Stage) -> None:
        overload = stage.dataplane._overload
        overload.look(TARGET_S / 2, BACKLOG - 1)
        assert stage.worker.shedding is None
        upstreams = [stage.pooled() for _ in range(2 * PER_TURN)]
        for _ in upstreams:
            stage.client().data_received(REQUEST)
        assert all(stage.sent(upstream) for upstream in upstreams)

    play(scene)


@pytest.mark.parametrize(("lag_s", "backlog"), [(TARGET_S, 0), (0.0, BACKLOG)])
def test_a_late_loop_or_a_long_queue_bounds_what_one_turn_serves(lag_s: float, backlog: int) -> None:
    def scene(stage: Stage) -> None:
        stage.dataplane._overload.look(lag_s, backlog)
        upstreams = [stage.pooled() for _ in range(PER_TURN + 3)]
        clients = [stage.client() for _ in upstreams]
        for client in clients:
            client.data_received(REQUEST)
        assert [client.queued for client in clients] == [False] * PER_TURN + [True] * 3
        for _ in range(2):  # What is left of this turn, and the next.
            stage.dataplane._overload._turn()
        assert not any(client.queued for client in clients)
        assert all(stage.sent(upstream) for upstream in upstreams)
        assert stage.worker.counters.shed == 0

    play(scene)


def test_a_turn_with_very_much_to_write_is_bounded_before_it_ends() -> None:
    def scene(stage: Stage) -> None:
        transport = stage.client().transport
        for _ in range(2000):
            stage.worker.outbox.write(transport, b"x")
        assert stage.worker.shedding is not None

    play(scene)


def test_the_eldest_is_served_first() -> None:
    def scene(stage: Stage) -> None:
        crowd = Crowd(stage)
        first, last = crowd.ask(), crowd.ask()
        crowd.overload._served = 0
        newcomer = crowd.ask()
        assert newcomer.queued, "there is room in this turn, but others were first"
        upstream = stage.pooled()
        crowd.turns(1, serving=1)
        assert (first.queued, last.queued, newcomer.queued) == (False, True, True)
        assert stage.sent(upstream).startswith(b"GET /x ")

    play(scene)


def test_the_late_are_served_behind_all_others_and_the_latest_of_them_first() -> None:
    def scene(stage: Stage) -> None:
        crowd = Crowd(stage)
        late = [crowd.ask() for _ in range(3)]
        stage.now[0] += PATIENCE_S
        crowd.turns(PATIENCE_TURNS)
        crowd.overload._served = PER_TURN
        others = [crowd.ask() for _ in range(2)]
        order = []
        for _ in range(5):
            stage.pooled()
            crowd.turns(1, serving=1)
            order.append(next(client for client in (*late, *others) if not client.queued and client not in order))
        assert order == [*others, *reversed(late)]

    play(scene)


def test_who_asks_first_over_a_connection_that_was_let_in_meanwhile_does_not_wait() -> None:
    """He has waited in the kernel, and the connection has cost more than the request will."""

    def scene(stage: Stage) -> None:
        crowd = Crowd(stage)
        before = crowd.ask()
        stage.now[0] += 0.001
        upstream = stage.pooled()
        fresh = stage.client()
        fresh.data_received(REQUEST + REQUEST)
        assert stage.sent(upstream).count(b"GET /x ") == 1
        assert before.queued
        upstream.data_received(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert fresh.queued, "his second one waits like others"

    play(scene)


def test_the_door_is_shut_when_the_eldest_has_waited_long_and_opened_when_nobody_has_for_a_while() -> None:
    def scene(stage: Stage) -> None:
        crowd = Crowd(stage)
        doors: list[bool] = []
        crowd.overload._shorten = doors.append
        crowd.ask()
        crowd.turns(1)
        assert doors == []
        stage.now[0] += PATIENCE_S - LONG_S
        crowd.turns(2)
        assert doors == [True]
        stage.pooled()
        crowd.turns(1, serving=1)
        crowd.overload.look(0.0, 0)
        assert doors == [True, True], "another worker may have opened it, for the queue is that of all"
        stage.now[0] += REST_S
        crowd.overload.look(0.0, 0)
        crowd.overload.look(0.0, 0)
        assert doors == [True, True, False]

    play(scene)


def test_while_others_wait_connections_are_let_in_at_a_share_of_the_requests() -> None:
    def scene(stage: Stage) -> None:
        crowd = Crowd(stage)
        overload = crowd.overload
        for _ in range(100):
            overload.opened(1.0)
        assert overload.may_open(), "nobody waits"
        crowd.ask()
        assert not overload.may_open()
        opened = 0
        for _ in range(100):
            overload._served = PER_TURN
            overload._turn()
            while overload.may_open():
                overload.opened(1.0)
                opened += 1
        expected = 100 * PER_TURN / REQUESTS_PER_OPENING
        assert expected * 0.9 <= opened <= expected, "and not how many came before anybody waited"

    play(scene)


def test_who_has_waited_longest_is_told_to_come_back() -> None:
    def scene(stage: Stage) -> None:
        crowd = Crowd(stage)
        eldest = crowd.ask()
        crowd.wait()
        latest = crowd.ask()
        crowd.turns(PATIENCE_TURNS)
        answer = crowd.answer(eldest)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in answer
        assert b"\r\nConnection: close\r\n" not in answer
        assert latest.queued
        assert stage.worker.counters.shed == 1
        crowd.turns(1, serving=1)
        stage.worker.shedding = None
        upstream = stage.pooled()
        eldest.data_received(REQUEST)
        assert stage.sent(upstream), "the connection goes on"

    play(scene)


def test_nobody_is_refused_after_a_pause() -> None:
    """The time has passed, but nobody else was served in it."""

    def scene(stage: Stage) -> None:
        crowd = Crowd(stage)
        client = crowd.ask()
        stage.now[0] += 60.0
        crowd.cpu_s += 10.0
        crowd.turns(PATIENCE_TURNS - 1)
        assert client.queued

    play(scene)


def test_refusing_takes_a_small_share_of_the_time() -> None:
    def scene(stage: Stage) -> None:
        crowd = Crowd(stage)
        clients = [crowd.ask() for _ in range(10)]
        stage.now[0] += PATIENCE_S
        crowd.turns(PATIENCE_TURNS)
        assert all(client.queued for client in clients), "no CPU time has been used, so there is none for refusals"
        crowd.cpu_s += 0.01
        clock = iter(range(1000))
        crowd.overload.cpu = lambda: crowd.cpu_s + next(clock) / 10_000  # Each look at it takes 0.1 ms.
        crowd.turns(1)
        assert 0 < sum(not client.queued for client in clients) < 10
        assert clients[-1].queued

    play(scene)


def test_a_body_that_is_on_the_way_ends_the_connection() -> None:
    def scene(stage: Stage) -> None:
        crowd = Crowd(stage)
        client = crowd.ask(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab")
        crowd.wait()
        crowd.turns(PATIENCE_TURNS)
        answer = crowd.answer(client)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nConnection: close\r\n" in answer

    play(scene)


def test_what_follows_a_refused_request_is_answered_behind_it() -> None:
    def scene(stage: Stage) -> None:
        crowd = Crowd(stage)
        client = crowd.ask(REQUEST + NO_ROUTE)
        crowd.wait()
        crowd.turns(PATIENCE_TURNS)
        answer = crowd.answer(client)
        assert (answer.count(b"HTTP/1.1 503 "), answer.count(b"HTTP/1.1 400 ")) == (1, 1)
        assert answer.index(b"HTTP/1.1 503 ") < answer.index(b"HTTP/1.1 400 ")

    play(scene)


def test_a_request_is_whole_before_it_waits() -> None:
    def scene(stage: Stage) -> None:
        crowd = Crowd(stage)
        client = crowd.ask(REQUEST[:10])
        assert not client.queued
        client.data_received(REQUEST[10:])
        assert client.queued
        upstream = stage.pooled()
        crowd.turns(1, serving=1)
        assert stage.sent(upstream).startswith(b"GET /x ")

    play(scene)


def test_probes_of_load_balancers_do_not_wait() -> None:
    def scene(stage: Stage) -> None:
        crowd = Crowd(stage)
        client = crowd.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert not client.queued

    play(scene)


def test_who_leaves_while_he_waits_is_forgotten() -> None:
    def scene(stage: Stage) -> None:
        crowd = Crowd(stage)
        gone = crowd.ask()
        gone.connection_lost(None)
        crowd.wait()
        crowd.turns(PATIENCE_TURNS)
        assert gone.transport.written == b""
        assert not crowd.overload._waiting

    play(scene)


def test_a_request_that_waited_too_long_for_its_deadline_is_refused() -> None:
    def scene(stage: Stage) -> None:
        crowd = Crowd(stage)
        client = crowd.ask()
        client.on_deadline(stage.now[0])
        assert crowd.answer(client).startswith(b"HTTP/1.1 503 ")

    play(scene)


def test_it_is_over_when_nobody_has_waited_for_a_while() -> None:
    def scene(stage: Stage) -> None:
        crowd = Crowd(stage)
        crowd.ask()
        crowd.turns(1)
        stage.now[0] += REST_S
        crowd.overload.look(0.0, 0)
        crowd.turns(1, serving=1)
        stage.now[0] += REST_S
        crowd.overload.look(0.0, 0)
        assert stage.worker.shedding is None

    play(scene)


def test_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    def scene(stage: Stage) -> None:
        crowd = Crowd(stage)
        for _ in range(3):
            crowd.ask()
        crowd.wait()
        crowd.turns(PATIENCE_TURNS)
        assert stage.worker.counters.shed == 3

    with caplog.at_level(logging.WARNING, "ingressd.overload"):
        play(scene)
    assert len(caplog.records) == 1


def test_a_request_that_breaks_something_does_not_stop_the_turns() -> None:
    """Without turns nobody would be served any more, and nothing would end that."""

    def scene(stage: Stage) -> None:
        crowd = Crowd(stage)
        behind = crowd.ask()
        overload = crowd.overload
        overload._waiting.clear()

        class Broken:
            queued = True

            def go_on(self) -> None:
                raise ZeroDivisionError

        for one in (Broken(), behind):
            overload._waiting.append((one, stage.now[0], 0))
        with pytest.raises(ZeroDivisionError):
            crowd.turns(1, serving=2)
        assert (overload._served, overload._turning, overload._passing) == (0, True, None)
        stage.pooled()
        crowd.turns(1, serving=1)
        assert not behind.queued

    play(scene)


def test_a_flood_that_looks_like_probes_waits_like_any_other() -> None:
    """Or one client would hold the loop for as long as it takes to answer all that it has sent in one piece."""

    def scene(stage: Stage) -> None:
        crowd = Crowd(stage)
        probe = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
        client = crowd.ask(probe * 3 * PER_TURN)
        answered = crowd.answer(client).count(b"HTTP/1.1 ")
        assert answered <= PER_TURN + 1
        assert client.queued
        balancer = crowd.ask(probe)
        assert balancer.queued
        crowd.turns(1)
        assert not crowd.ask(probe).queued, "in the next turn some pass again"

    play(scene, more=[VirtualHost("", ())])


def test_pieces_of_heads_take_nobodys_turn() -> None:
    """Who sends a head byte by byte would use up all that a turn serves, and who waits would wait for ever."""

    def scene(stage: Stage) -> None:
        crowd = Crowd(stage)
        waits = crowd.ask()
        stage.pooled()
        crowd.overload._served = 0
        stage.now[0] += 0.01
        slow = stage.client()  # Let in meanwhile: whose first request is served at once.
        for piece in (b"GET /", *[b"x"] * 2 * PER_TURN):
            slow.data_received(piece)
        assert crowd.overload._served == 0
        crowd.overload._turn()
        assert not waits.queued

    play(scene)
