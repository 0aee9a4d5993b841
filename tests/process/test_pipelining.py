"""Several requests sent at once are answered in order, each with its own answer."""

from __future__ import annotations

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
