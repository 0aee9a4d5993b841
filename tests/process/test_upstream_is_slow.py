"""Upstreams that do not answer, or not to the end, in time."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from stage.ports import spelled
from stage.running import PATIENCE_S, running
from stage.scripted import OK, Played
from stage.wire import Client, ask, request_bytes

pytestmark = pytest.mark.process


def test_no_response_head_in_time_is_504(behind):
    def script(connection: Played) -> None:
        connection.head()
        connection.gone()

    ingressd, upstream = behind(script, {"proxy-read-timeout": "1", "proxy-next-upstream-tries": "1"})
    began = time.monotonic()
    reply = ask(ingressd.http, host="api.test", method="POST", body=b"x")
    assert (reply.status, "504 Gateway Time-out" in reply.text) == (504, True)
    assert time.monotonic() - began > 0.9
    assert len(upstream.connections) == 1
    line = ingressd.access_lines(path="/")[0]
    assert (line["status"], bool(line["error"])) == (504, True)


def test_a_stalled_response_body_is_cut_off(behind):
    def script(connection: Played) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        connection.gone()

    ingressd, _ = behind(script, {"proxy-read-timeout": "1"})
    reply = ask(ingressd.http, host="api.test")
    assert (reply.status, reply.body, reply.complete) == (200, b"hello", False)


def test_an_event_stream_passes_line_by_line(behind):
    """Server-sent events are nothing but a slow response: no buffering, no time-out while lines keep coming."""

    def script(connection: Played) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(4):
            connection.send(b"9\r\ndata: %d\n\n\r\n" % number)
            assert heard.wait(PATIENCE_S), "the first event was held back"
            time.sleep(1.2)
        connection.send(b"0\r\n\r\n")

    heard = threading.Event()
    ingressd, _ = behind(script, {"proxy-read-timeout": "4"})
    with Client(ingressd.http) as client:
        client.send(request_bytes("/events", host="api.test"))
        client.wait_for(b"data: 0\n\n")
        heard.set()
        reply = client.reply()
    assert (reply.complete, reply.body) == (True, b"data: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\n")


def test_a_connect_that_gets_no_answer_is_504(tmp_path):
    """A full accept queue drops the SYN, as a firewall does."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        time.sleep(0.1)
        upstreams = {"api": {"endpoints": [spelled(full.getsockname())]}}
        routes = [{"host": "api.test", "path": "/", "upstream": "api"}]
        settings = {"proxy-connect-timeout": "1", "proxy-next-upstream-tries": "2"}
        with running(tmp_path, routes=routes, upstreams=upstreams, settings=settings) as ingressd:
            began = time.monotonic()
            assert ask(ingressd.http, host="api.test").status == 504
            assert 0.9 < time.monotonic() - began < 10, "as long as twice the default"


def test_other_requests_do_not_wait_for_a_slow_one(behind):
    go = threading.Event()

    def script(connection: Played) -> None:
        while head := connection.head():
            if b"/slow" in head:
                go.wait(2 * PATIENCE_S)
            connection.send(OK)

    ingressd, upstream = behind(script)
    with Client(ingressd.http, timeout_s=2 * PATIENCE_S) as slow:
        slow.send(request_bytes("/slow", host="api.test"))
        ingressd.wait_until(lambda: b"/slow" in upstream.received)
        assert [ask(ingressd.http, host="api.test").status for _ in range(20)] == [200] * 20
        go.set()
        assert slow.reply().status == 200
