"""Clients that go away, half or wholly."""

from __future__ import annotations

import threading
import time

import pytest
from stage.scripted import OK, Played, answering
from stage.wire import Client, ask, request_bytes

pytestmark = pytest.mark.process


def test_a_client_that_resets_cancels_its_upstream_request(behind):
    """A reset says it at once; a FIN alone may be a half-closed client that still wants its answer."""
    gone = []

    def script(connection: Played) -> None:
        connection.head()
        gone.append(connection.gone())

    ingressd, upstream = behind(script)
    client = Client(ingressd.http)
    client.send(request_bytes("/left", host="api.test"))
    ingressd.wait_until(lambda: b"/left" in upstream.received)
    client.reset()
    ingressd.wait_until(lambda: gone == [True])
    assert ingressd.access_lines(path="/left")[0]["status"] == 499


def test_a_client_that_closes_cancels_its_upstream_request(behind):
    """Its FIN looks like a half-close; the answer of its kernel to the interim response tells the difference."""
    gone = []

    def script(connection: Played) -> None:
        connection.head()
        gone.append(connection.gone())

    ingressd, upstream = behind(script)
    client = Client(ingressd.http)
    client.send(request_bytes("/left", host="api.test"))
    ingressd.wait_until(lambda: b"/left" in upstream.received)
    client.close()
    ingressd.wait_until(lambda: gone == [True])
    assert ingressd.access_lines(path="/left")[0]["status"] == 499


def test_a_client_that_goes_away_inside_a_download_stops_it(behind):
    gone = []

    def script(connection: Played) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 400000000\r\n\r\n")
        try:
            for _ in range(4000):
                connection.send(b"x" * 100_000)
        except OSError:
            gone.append(True)
            raise

    ingressd, _ = behind(script)
    with Client(ingressd.http) as client:
        client.send(request_bytes("/big", host="api.test"))
        assert client.take(500_000)
    ingressd.wait_until(lambda: gone == [True])
    line = ingressd.access_lines(path="/big")[0]
    assert line["bytes_sent"] < 100_000_000


def test_a_client_that_leaves_inside_its_body_leaves_no_whole_request_upstream(behind):
    gone = []

    def script(connection: Played) -> None:
        connection.head()
        gone.append(connection.gone())

    ingressd, upstream = behind(script)
    with Client(ingressd.http) as client:
        client.send(request_bytes("/half", host="api.test", method="POST", lines=["Content-Length: 10"]) + b"hello")
        ingressd.wait_until(lambda: b"hello" in upstream.received)
    ingressd.wait_until(lambda: gone == [True])
    assert upstream.received.endswith(b"hello")


def test_a_half_closed_client_still_gets_its_answer(behind):
    """RFC 9112, section 9.6 allows it, and simple clients (`printf … | nc`) do it."""

    def script(connection: Played) -> None:
        connection.head()
        time.sleep(0.2)
        connection.send(OK)

    ingressd, _ = behind(script)
    with Client(ingressd.http) as client:
        client.send(request_bytes("/", host="api.test", keep_alive=True))
        client.half_close()
        reply = client.reply()
        assert (reply.status, reply.body) == (200, b"ok")
        assert client.until_end() == b""


def test_a_connection_cancelled_by_its_client_is_not_used_again(behind):
    cancelled = threading.Event()

    def script(connection: Played) -> None:
        while head := connection.head():
            if b"/slow" in head:
                cancelled.wait(60)
            connection.send(OK.replace(b"ok", head.split()[1][-2:]))

    ingressd, upstream = behind(script)
    with Client(ingressd.http) as client:
        client.send(request_bytes("/slow/11", host="api.test"))
        ingressd.wait_until(lambda: b"/slow" in upstream.received)
    assert ask(ingressd.http, "/21", host="api.test").body == b"21"
    cancelled.set()
    for number in range(22, 30):
        assert ask(ingressd.http, f"/{number}", host="api.test").body == b"%d" % number


def test_a_port_scan_is_not_an_error(behind):
    """Connections without a byte are neither logged as requests nor answered."""
    ingressd, _ = behind(answering())
    for _ in range(20):
        Client(ingressd.http).close()
    assert ask(ingressd.http, "/after", host="api.test").status == 200
    ingressd.access_lines(path="/after")
    assert [line["path"] for line in ingressd.access_lines()] == ["/after"]
