"""Clients that send or read too slowly."""

from __future__ import annotations

import contextlib
import select
import threading
import time

import pytest
from stage.running import PATIENCE_S
from stage.scripted import Played, answering
from stage.wire import Client, ask, request_bytes

pytestmark = pytest.mark.process


def test_a_head_that_does_not_end_is_408(behind):
    ingressd, upstream = behind(answering(), {"client-header-timeout": "1"})
    began = time.monotonic()
    with Client(ingressd.http) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: api.test\r\nX-")
        reply = client.reply()
        assert (reply.status, reply.all("connection")) == (408, ["close"])
        assert time.monotonic() - began > 0.8
        assert client.until_end() == b""
    assert upstream.received == b""


def test_a_head_that_drips_has_one_deadline(behind):
    """A byte now and then must not move the deadline (slowloris)."""
    ingressd, _ = behind(answering(), {"client-header-timeout": "1"})
    with Client(ingressd.http, timeout_s=2 * PATIENCE_S) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: api.test\r\n")
        until = time.monotonic() + PATIENCE_S
        with contextlib.suppress(ConnectionError):
            while not select.select([client.sock], [], [], 0.2)[0]:
                assert time.monotonic() < until, "every byte moved it"
                client.send(b"X-A: b\r\n")
        assert client.reply().status == 408


def test_a_body_that_stops_is_408(behind):
    def script(connection: Played) -> None:
        connection.head()
        connection.gone()

    ingressd, upstream = behind(script, {"client-body-timeout": "1"})
    with Client(ingressd.http) as client:
        client.send(request_bytes("/", host="api.test", method="POST", lines=["Content-Length: 10"]) + b"hello")
        reply = client.reply("POST")
        assert reply.status == 408
        assert client.until_end() == b""
    ingressd.wait_until(lambda: len(upstream.connections) == 1)
    assert not upstream.received.endswith(b"\r\n\r\nhellohello")
    assert ingressd.access_lines(path="/")[0]["status"] == 408


def test_an_idle_kept_connection_is_closed_in_time(behind):
    ingressd, _ = behind(answering(), {"keep-alive": "1"})
    with Client(ingressd.http) as client:
        client.send(request_bytes("/", host="api.test", keep_alive=True))
        assert client.reply().status == 200
        assert client.closed_within(PATIENCE_S)  # Without the setting it would be 75 s.


def test_a_client_that_does_not_read_costs_bounded_memory(behind):
    """Back-pressure: what the client does not take is not read from the upstream."""
    sent = 0

    def script(connection: Played) -> None:
        nonlocal sent
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 400000000\r\n\r\n")
        for _ in range(4000):
            connection.send(b"x" * 100_000)
            sent += 100_000

    ingressd, _ = behind(script)
    assert ask(ingressd.http, "/healthz", host="nobody.test").status == 200
    before = ingressd.memory_kib()
    with Client(ingressd.http, receive_buffer=4096) as client:
        client.send(request_bytes("/big", host="api.test"))
        ingressd.wait_until(lambda: sent > 0)
        seen = -1
        while seen != sent:
            seen = sent
            time.sleep(1.0)
        assert sent < 30_000_000, "the upstream was read although the client was not reading"
        assert ingressd.memory_kib() - before < 4096


@pytest.mark.parametrize("size", [1_500_000, 6_000_000])
def test_a_slow_client_gets_its_last_answer_whole(behind, size):
    """The end of our patience for what it still sends (2 s) is no reason to take back what it has not read yet."""

    def script(connection: Played) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        connection.gone()

    ingressd, _ = behind(script)
    with Client(ingressd.http, receive_buffer=32768) as client:
        client.send(request_bytes("/big", host="api.test"))
        began, got = time.monotonic(), 0
        while data := client.sock.recv(size // 50):
            got += len(data)
            time.sleep(0.06)
        assert time.monotonic() - began > 3
        assert got > size


def test_an_upstream_that_does_not_read_costs_bounded_memory(behind):
    ended = threading.Event()

    def script(connection: Played) -> None:
        connection.head()
        ended.wait(60)

    ingressd, _ = behind(script, {"proxy-body-size": "0"})
    assert ask(ingressd.http, "/healthz", host="nobody.test").status == 200
    before = ingressd.memory_kib()
    with Client(ingressd.http) as client:
        client.send(request_bytes("/", host="api.test", method="POST", lines=["Content-Length: 400000000"]))
        client.give_up_in(1.5)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 100_000_000:
                client.send(b"x" * 100_000)
                sent += 100_000
        assert ingressd.memory_kib() - before < 4096
    ended.set()
