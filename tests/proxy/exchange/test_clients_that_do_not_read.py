"""A client that reads nothing, or next to nothing: what is held of it is bounded, and it is let go in time."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from stage.played import PlayedTransport, Stage, play

from ingressd.proxy.http.client import ClientConnection
from ingressd.proxy.http.ending import LAST_BYTES_TIMES
from ingressd.proxy.upstream.connection import UpstreamConnection

GET = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SEND_TIMEOUT_S = READ_TIMEOUT_S = 60.0
KEEP_ALIVE_S = 75.0


class Full(PlayedTransport):
    """A transport whose peer takes nothing: the first write fills it."""

    def __init__(self, client: ClientConnection) -> None:
        super().__init__()
        self._client = client

    def write(self, data: bytes) -> None:
        super().write(data)
        if not self._client.writing_paused:
            self._client.pause_writing()


def later(stage: Stage, seconds: float) -> None:
    stage.now[0] += seconds
    stage.worker.wheel.advance(stage.now[0])


def stuck(stage: Stage, upstream: UpstreamConnection, requests: bytes) -> ClientConnection:
    """A client that has sent these requests, and does not take the answer to the first."""
    client = stage.client()
    client.transport = Full(client)
    client.data_received(requests)
    assert stage.sent(upstream).startswith(b"GET /1 ")
    upstream.data_received(OK)
    assert stage.sent(client).endswith(b"ok")
    assert client.writing_paused
    return client


def test_the_next_request_waits_until_the_answer_is_taken() -> None:
    def scene(stage: Stage) -> None:
        upstream = stage.pooled()
        client = stuck(stage, upstream, GET % 1 + GET % 2)
        assert not client.transport.reading
        assert stage.sent(upstream) == b""
        client.resume_writing()
        assert client.transport.reading
        assert stage.sent(upstream).startswith(b"GET /2 ")

    play(scene)


def test_a_client_without_another_request_is_read_again_when_it_has_caught_up() -> None:
    def scene(stage: Stage) -> None:
        client = stuck(stage, stage.pooled(), GET % 1)
        assert not client.transport.reading
        client.resume_writing()
        assert client.transport.reading
        later(stage, KEEP_ALIVE_S - 1)
        assert client.transport.ended == ""
        later(stage, 2)
        assert client.transport.ended == "closed"

    play(scene)


@pytest.mark.parametrize("requests", [GET % 1, GET % 1 + GET % 2, GET % 1 + b"GET /half"])
def test_it_is_let_go_after_the_send_timeout(requests: bytes) -> None:
    def scene(stage: Stage) -> None:
        client = stuck(stage, stage.pooled(), requests)
        later(stage, SEND_TIMEOUT_S - 1)
        assert client.transport.ended == ""
        later(stage, 2)
        assert client.transport.ended == "aborted"

    play(scene)


def tunnel(stage: Stage) -> ClientConnection:
    upstream, client = stage.pooled(), stage.client()
    client.data_received(UPGRADE)
    stage.sent(upstream)
    upstream.data_received(SWITCH)
    assert stage.sent(client).startswith(b"HTTP/1.1 101 ")
    return client


@pytest.mark.parametrize("reads", [True, False])
def test_what_it_sends_prolongs_a_tunnel_only_while_it_reads(reads: bool) -> None:
    def scene(stage: Stage) -> None:
        client = tunnel(stage)
        if not reads:
            client.pause_writing()
        for _ in range(4):
            later(stage, READ_TIMEOUT_S / 3)
            client.data_received(b"ping")
        later(stage, 1)
        assert client.transport.ended == ("" if reads else "aborted")

    play(scene)


def test_what_it_sends_prolongs_no_answer() -> None:
    """An endpoint that answers before it has the whole request, and then takes that as slowly as it likes."""

    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        client.data_received(b"PUT /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nfirst")
        stage.sent(upstream)
        upstream.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nfirst")
        stage.sent(client)
        client.pause_writing()
        for _ in range(4):
            later(stage, SEND_TIMEOUT_S / 3)
            upstream.pause_writing()
            upstream.resume_writing()
            if client.transport.ended:
                break
        later(stage, 1)
        assert client.transport.ended == "aborted"

    play(scene)


def test_a_byte_now_and_then_does_not_keep_what_has_ended() -> None:
    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        client.data_received(b"GET /1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        client.transport.unsent_bytes = 50_000
        upstream.data_received(OK)
        for _ in range(3 * LAST_BYTES_TIMES):
            assert client.transport.ended == "eof"
            client.transport.unsent_bytes -= 1
            later(stage, SEND_TIMEOUT_S / 3)
        later(stage, 1)
        assert client.transport.ended == "aborted"

    play(scene)


class Connected(PlayedTransport):
    """A transport over a real socket, for what the kernel knows of it."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._sock = sock

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._sock if name == "socket" else super().get_extra_info(name, default)


def test_an_idle_client_whose_request_has_just_come_is_not_closed() -> None:
    def scene(stage: Stage) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            upstream, client = stage.pooled(), stage.client()
            client.transport = Connected(ours)
            client.data_received(GET % 1)
            stage.sent(upstream)
            upstream.data_received(OK)
            theirs.send(b"GET ")
            later(stage, KEEP_ALIVE_S + 1)
            assert client.transport.ended == ""
            ours.recv(4)
            later(stage, KEEP_ALIVE_S + 1)
            assert client.transport.ended == "closed"

    play(scene)
