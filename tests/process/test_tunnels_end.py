"""Tunnels end when both sides have ended, in whatever order, and a drain does not wait for one that is over."""

from __future__ import annotations

import signal
import threading

import pytest
from stage.running import PATIENCE_S
from stage.scripted import Played
from stage.wire import Client, request_bytes

pytestmark = pytest.mark.process

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
UPGRADE = request_bytes("/ws", host="api.test", lines=["Connection: Upgrade", "Upgrade: websocket"])


def tunnel(ingressd) -> Client:
    client = Client(ingressd.http)
    client.send(UPGRADE)
    assert client.reply().status == 101
    return client


def drains(ingressd) -> None:
    """At once: for a tunnel that is open it would wait for a minute."""
    ingressd.send_signal(signal.SIGTERM)
    assert ingressd.process.wait(PATIENCE_S) == 0


def test_the_upstream_ends_first_then_the_client(behind):
    """Both directions are over: what was not closed then stayed until `proxy-read-timeout`, and held up every drain."""
    gone = []

    def script(connection: Played) -> None:
        connection.head()
        connection.send(SWITCH + b"last words")
        connection.half_close()
        gone.append(connection.gone())

    ingressd, upstream = behind(script)
    with tunnel(ingressd) as client:
        assert client.until_end() == b"last words"
        client.send(b"and mine")
        client.half_close()
        ingressd.wait_until(lambda: gone == [True])
    assert upstream.received.endswith(b"and mine")
    line = ingressd.access_lines(path="/ws")[0]
    assert (line["status"], line["error"]) == (101, None)
    drains(ingressd)


def test_the_client_ends_first_then_the_upstream(behind):
    ended = threading.Event()

    def script(connection: Played) -> None:
        connection.head()
        connection.send(SWITCH)
        assert connection.gone()
        ended.set()
        connection.send(b"last words")

    ingressd, _ = behind(script)
    with tunnel(ingressd) as client:
        client.half_close()
        assert ended.wait(PATIENCE_S)
        assert client.until_end() == b"last words"
    line = ingressd.access_lines(path="/ws")[0]
    assert (line["status"], line["error"]) == (101, None)
    drains(ingressd)


def test_both_end_at_once(behind):
    go = threading.Event()

    def script(connection: Played) -> None:
        connection.head()
        connection.send(SWITCH)
        go.wait(2 * PATIENCE_S)

    ingressd, _ = behind(script)
    clients = [tunnel(ingressd) for _ in range(50)]
    go.set()
    for client in clients:
        client.close()
    drains(ingressd)
