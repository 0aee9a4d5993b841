"""A client that takes nothing of what it is sent, whatever it says meanwhile, is let go."""

from __future__ import annotations

import contextlib
import select
import threading

import pytest
from stage.scripted import Played
from stage.wire import Client, request_bytes

pytestmark = pytest.mark.process

SETTINGS = {"client-send-timeout": "1", "proxy-read-timeout": "120"}
PING = b"\x89\x80\0\0\0\0"
UPGRADE = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
]
PATIENCE_S = 30.0
"""A tunnel that pings prolong would last longer than this."""


def test_a_websocket_that_only_pings_is_ended(behind):
    ended = threading.Event()

    def script(connection: Played) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                connection.send(bytes(65536))
        ended.set()

    ingressd, _ = behind(script, SETTINGS)
    with Client(ingressd.http, receive_buffer=4096, timeout_s=2 * PATIENCE_S) as client:
        client.send(request_bytes("/", host="api.test", lines=UPGRADE))
        client.take(12)
        for _ in range(int(PATIENCE_S / 0.1)):
            if ended.wait(0.1):
                break
            with contextlib.suppress(OSError):
                client.send(PING)
        assert ended.is_set()
    assert "idle too long" in ingressd.access_lines()[0]["error"]


def test_answers_that_are_not_taken_ask_the_endpoint_for_no_more(behind):
    """A hundred requests at once, each answer small enough to be taken whole: only the first few reach the endpoint."""
    heads = 0

    def script(connection: Played) -> None:
        nonlocal heads
        while connection.head():
            heads += 1
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + bytes(50000))

    ingressd, _ = behind(script, SETTINGS)
    with Client(ingressd.http, receive_buffer=4096, timeout_s=2 * PATIENCE_S) as client:
        client.send(request_bytes("/", host="api.test", keep_alive=True) * 100)
        look = select.poll()
        look.register(client.sock, 0)  # A reset is told unasked, in front of what was not read.
        assert look.poll(1000 * PATIENCE_S)
    assert 1 <= heads < 50
    ingressd.wait_until(lambda: len(ingressd.access_lines()) == heads)
