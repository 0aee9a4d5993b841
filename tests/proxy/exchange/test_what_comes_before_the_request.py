"""Bytes of an endpoint that were there before the request left it answer nobody (RFC 9112, 9.2), in any method."""

from __future__ import annotations

import pytest
from stage.played import Stage, play

from ingressd.proxy.upstream.pool import DISTRUST_S

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
LATE_408 = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("request_bytes", [GET, POST], ids=["GET", "POST"])
@pytest.mark.parametrize("said", [EVIL, LATE_408, b"E"])
def test_what_came_in_the_turn_of_the_request_is_thrown_away_and_no_try_counted(
    request_bytes: bytes, said: bytes
) -> None:
    def scene(stage: Stage) -> None:
        second, first, client = stage.pooled(), stage.pooled(), stage.client()
        client.data_received(request_bytes)
        first.said_in_this_turn(said)
        stage.worker.outbox.flush()
        assert (first.transport.ended, first.transport.written) == ("aborted", b"")
        assert stage.sent(second).startswith(request_bytes[:7])
        second.data_received(OK)
        assert stage.sent(client).endswith(b"ok")
        assert stage.worker.counters.retries == 0
        assert stage.worker.column[stage.endpoint.base] == 0

    play(scene)


@pytest.mark.parametrize("request_bytes", [GET, POST], ids=["GET", "POST"])
def test_an_end_in_the_turn_of_the_request_costs_nothing(request_bytes: bytes) -> None:
    """A POST too: none of its bytes had left."""

    def scene(stage: Stage) -> None:
        second, first, client = stage.pooled(), stage.pooled(), stage.client()
        client.data_received(request_bytes)
        first.eof_received()
        stage.worker.outbox.flush()
        assert first.transport.written == b""
        assert stage.sent(second).startswith(request_bytes[:7])
        second.data_received(OK)
        assert stage.sent(client).endswith(b"ok")
        assert stage.worker.counters.framing_faults == 0

    play(scene)


def test_a_body_goes_again_with_its_head() -> None:
    def scene(stage: Stage) -> None:
        second, first, client = stage.pooled(), stage.pooled(), stage.client()
        client.data_received(POST[:-2])
        client.data_received(POST[-2:])
        first.said_in_this_turn(EVIL)
        sent = stage.sent(second)
        assert sent.startswith(b"POST /p ")
        assert sent.endswith(b"\r\n\r\nbody")
        assert first.transport.written == b""

    play(scene)


def test_what_comes_after_the_request_is_its_answer() -> None:
    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        client.data_received(GET)
        stage.worker.outbox.flush()
        upstream.said_in_this_turn(EVIL)
        assert stage.sent(client).endswith(b"EVIL")

    play(scene)


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"EVIL",
        b"HTTP/1.1 204 No Content\r\n\r\nEVIL",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nEVIL",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
    ],
)
def test_an_endpoint_that_broke_the_framing_gets_one_request_a_connection_for_a_while(answer: bytes) -> None:
    """What it surplus-sent once may come a moment later the next time, behind the request of somebody else."""

    def scene(stage: Stage) -> None:
        other, faulty, client = stage.pooled(), stage.pooled(), stage.client()
        client.data_received(GET)
        faulty.data_received(answer)
        faulty.connection_lost(None)
        assert faulty.transport.ended
        assert other.transport.ended, "what was idle is closed"
        assert stage.worker.counters.framing_faults == 1
        once = stage.pooled()
        assert once.transport.ended, "nothing is kept"
        stage.now[0] += DISTRUST_S - 0.1
        assert stage.pooled().transport.ended
        stage.now[0] += 0.2
        assert not stage.pooled().transport.ended
        assert repr(stage.endpoint.pool) == "<IdlePool 1 idle>"

    play(scene)


@pytest.mark.parametrize(("said", "faults"), [(LATE_408, 0), (EVIL, 1), (b"\0", 1)])
def test_an_idle_connection_that_speaks_is_closed_and_only_a_408_is_no_fault(said: bytes, faults: int) -> None:
    def scene(stage: Stage) -> None:
        other, idle = stage.pooled(), stage.pooled()
        idle.data_received(said)
        idle.connection_lost(None)
        assert idle.transport.ended == "aborted"
        assert stage.worker.counters.framing_faults == faults
        assert bool(other.transport.ended) == bool(faults)

    play(scene)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nok",
        b"",
    ],
)
def test_an_endpoint_that_only_closes_is_trusted_as_before(answer: bytes) -> None:
    def scene(stage: Stage) -> None:
        other, closing, client = stage.pooled(), stage.pooled(), stage.client()
        client.data_received(GET)
        closing.data_received(answer)
        closing.eof_received()
        closing.connection_lost(None)
        assert stage.worker.counters.framing_faults == 0
        assert not other.transport.ended

    play(scene)
