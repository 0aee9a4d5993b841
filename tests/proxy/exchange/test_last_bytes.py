"""What has been written to a connection that ends: a slow client gets it, one that takes nothing is let go."""

from __future__ import annotations

import pytest
from stage.played import Stage, play

from ingressd.proxy.http.client import ClientConnection

GET = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SEND_TIMEOUT_S = 60.0


def answered(stage: Stage, *, half_closed: bool, unsent_bytes: int) -> ClientConnection:
    upstream, client = stage.pooled(), stage.client()
    client.data_received(GET)
    if half_closed:
        client.eof_received()
    client.transport.unsent_bytes = unsent_bytes
    upstream.data_received(OK)
    return client


def later(stage: Stage, seconds: float) -> None:
    stage.now[0] += seconds
    stage.worker.wheel.advance(stage.now[0])


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_client_that_takes_nothing_is_let_go_after_the_send_timeout(half_closed: bool) -> None:
    def scene(stage: Stage) -> None:
        client = answered(stage, half_closed=half_closed, unsent_bytes=5000)
        ended = client.transport.ended
        later(stage, SEND_TIMEOUT_S - 1)
        assert client.transport.ended == ended
        later(stage, 2)
        assert client.transport.ended == "aborted"

    play(scene)


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_client_that_takes_some_gets_as_long_again(half_closed: bool) -> None:
    def scene(stage: Stage) -> None:
        client = answered(stage, half_closed=half_closed, unsent_bytes=5000)
        for left in (4000, 3000):
            client.transport.unsent_bytes = left
            later(stage, SEND_TIMEOUT_S + 1)
            assert client.transport.ended in ("eof", "closed")
        client.transport.unsent_bytes = 0
        later(stage, SEND_TIMEOUT_S + 1)
        assert client.transport.ended == "closed"

    play(scene)


def test_the_end_of_the_patience_for_a_client_is_no_reset() -> None:
    """The kernel may still hold megabytes that a slow client has not read: a reset would take them back."""

    def scene(stage: Stage) -> None:
        client = answered(stage, half_closed=False, unsent_bytes=0)
        assert client.transport.ended == "eof"
        later(stage, 3)
        assert client.transport.ended == "closed"

    play(scene)
