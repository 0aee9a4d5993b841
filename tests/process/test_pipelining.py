"""Several requests sent at once are answered in order, each with its own answer."""

from __future__ import annotations

import threading
import time

import pytest
from stage.ports import spelled
from stage.running import running
from stage.scripted import Played, scripted
from stage.wire import Client, request_bytes

pytestmark = pytest.mark.process


def echo_target(connection: Played) -> None:
    while head := connection.head():
        target = head.split()[1]
        time.sleep(0.05 if b"slow" in target else 0)
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(target), target))


def test_pipelined_answers_come_in_order_from_several_upstreams(tmp_path):
    with scripted(echo_target) as one, scripted(echo_target) as two:
        routes = [{"host": "api.test", "path": path, "upstream": path[1:]} for path in ("/one", "/two")]
        upstreams = {name: {"endpoints": [spelled(u.address)]} for name, u in (("one", one), ("two", two))}
        with running(tmp_path, routes=routes, upstreams=upstreams) as ingressd, Client(ingressd.http) as client:
            targets = [f"/{('one/slow', 'two')[n % 2]}/{n}" for n in range(20)]
            client.send(b"".join(request_bytes(target, host="api.test", keep_alive=True) for target in targets))
            assert [client.reply().text for _ in targets] == targets


def test_a_bad_request_behind_good_ones_is_refused_after_their_answers(behind):
    ingressd, upstream = behind(echo_target)
    with Client(ingressd.http) as client:
        good = [request_bytes(f"/{n}", host="api.test", keep_alive=True) for n in range(3)]
        client.send(b"".join(good) + b"GET /bad HTTP/1.1\r\nHost : api.test\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n")
        assert [client.reply().status for _ in range(4)] == [200, 200, 200, 400]
        assert client.until_end() == b""
    assert b"/bad" not in upstream.received
    assert b"/smuggled" not in upstream.received


def test_connection_close_ends_the_pipeline(behind):
    ingressd, upstream = behind(echo_target)
    with Client(ingressd.http) as client:
        client.send(request_bytes("/last", host="api.test") + request_bytes("/never", host="api.test"))
        assert client.reply().text == "/last"
        assert client.until_end() == b""
    assert b"/never" not in upstream.received


def test_a_client_that_writes_no_more_gets_every_answer(behind):
    ingressd, _upstream = behind(echo_target)
    with Client(ingressd.http) as client:
        targets = [f"/slow/{n}" for n in range(3)]
        client.send(b"".join(request_bytes(target, host="api.test", keep_alive=True) for target in targets))
        client.half_close()
        assert [client.reply().text for _ in targets] == targets
        assert client.until_end() == b""


@pytest.mark.parametrize("torn", [b"GET /torn HTTP/1.1\r\nHost: api", b"\r\n"])
def test_a_torn_head_at_the_end_of_a_clients_stream_ends_the_connection(behind, torn):
    ingressd, upstream = behind(echo_target)
    with Client(ingressd.http) as client:
        client.send(request_bytes("/slow/whole", host="api.test", keep_alive=True) + torn)
        client.half_close()
        assert client.reply().text == "/slow/whole"
        assert client.until_end() == b""
    assert b"/torn" not in upstream.received


def test_a_torn_body_at_the_end_of_a_clients_stream_is_refused(behind):
    ingressd, _upstream = behind(echo_target)
    with Client(ingressd.http) as client:
        torn = b"POST /torn HTTP/1.1\r\nHost: api.test\r\nContent-Length: 10\r\n\r\nabc"
        client.send(request_bytes("/slow/whole", host="api.test", keep_alive=True) + torn)
        client.half_close()
        assert client.reply().text == "/slow/whole"
        assert client.reply().status == 400
        assert client.until_end() == b""


def test_a_client_that_ends_in_the_middle_of_an_answer_is_not_waited_for_behind_it(behind):
    """The head said keep-alive before the end of its stream came: that must not hold the connection for 75 s."""

    def in_two_halves(connection: Played) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        half_is_out.wait(30)
        connection.send(b"67890")

    half_is_out = threading.Event()
    ingressd, _upstream = behind(in_two_halves)
    with Client(ingressd.http) as client:
        client.send(request_bytes("/", host="api.test", keep_alive=True))
        client.wait_for(b"12345")
        client.half_close()
        time.sleep(0.2)
        half_is_out.set()
        assert client.until_end().endswith(b"67890")
