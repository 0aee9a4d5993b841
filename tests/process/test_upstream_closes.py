"""Upstreams that close or reset when they should not: what is tried again, and what never is."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest
from stage.running import PATIENCE_S, Ingressd, running
from stage.scripted import OK, Played, scripted
from stage.wire import Client, ask, request_bytes

pytestmark = pytest.mark.process

INGRESS = """\
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: ingressd}}
spec: {{controller: ingressd.dev/ingress-controller}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  annotations: {{nginx.ingress.kubernetes.io/connection-proxy-header: {value}}}
spec:
  ingressClassName: ingressd
  defaultBackend: {{service: {{name: a, port: {{number: 80}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: a}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: a, labels: {{kubernetes.io/service-name: a}}}}
addressType: IPv4
endpoints: [{{addresses: [{host}]}}]
ports: [{{port: {port}}}]
"""
REQUESTS, LANES = 10_000, 10
GET = request_bytes("/", host="api.test", keep_alive=True)


def another_is_answered(ingressd: Ingressd) -> None:
    """Return when the one worker has read what arrived before."""
    for _ in range(2):
        assert ask(ingressd.http, host="nobody.test").status == 404


def close_at_once(connection: Played) -> None:
    connection.head()


def test_a_get_is_tried_three_times_then_502(behind):
    ingressd, upstream = behind(close_at_once)
    reply = ask(ingressd.http, host="api.test")
    assert (reply.status, "502 Bad Gateway" in reply.text) == (502, True)
    assert len(upstream.connections) == 3


def test_a_post_whose_bytes_left_is_never_sent_again(behind):
    ingressd, upstream = behind(close_at_once)
    assert ask(ingressd.http, host="api.test", method="POST", body=b"once").status == 502
    assert upstream.received.count(b"POST / ") == 1


def test_a_reset_inside_the_response_head_is_502(behind):
    def script(connection: Played) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")
        connection.reset()

    ingressd, upstream = behind(script)
    reply = ask(ingressd.http, host="api.test")
    assert (reply.status, reply.complete) == (502, True)
    assert ask(ingressd.http, host="api.test", method="POST", body=b"once").status == 502
    assert upstream.received.count(b"POST / ") == 1
    assert ingressd.access_lines(path="/")[0]["status"] == 502


def in_lanes(ingressd: Ingressd, message: Callable[[int], bytes], method: str) -> list[int]:
    """10,000 requests: `LANES` clients, each of which sends one after the other. The statuses."""
    statuses: list[int] = []

    def lane(first: int) -> None:
        with Client(ingressd.http, timeout_s=300) as client:
            for number in range(first, REQUESTS, LANES):
                client.send(message(number))
                statuses.append(client.reply(method).status)
                if number % 500 == first:
                    client.give_up_in(300)

    threads = [threading.Thread(target=lane, args=(first,)) for first in range(LANES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def moment_s(connection: Played) -> float:
    """0 to 5 ms, another one for each connection."""
    return connection.number * 7 % 51 / 10_000


SETTINGS = {"keep-alive-requests": "1000000"}


def test_an_upstream_that_closes_after_each_answer_fails_no_get(behind):
    """RFC 9112, section 9.3.1: a client must expect a persistent connection to close at any moment."""

    def script(connection: Played) -> None:
        if connection.head():
            connection.send(OK)
            time.sleep(moment_s(connection))

    ingressd, upstream = behind(script, SETTINGS)
    assert Counter(in_lanes(ingressd, lambda _: GET, "GET")) == {200: REQUESTS}
    assert len(upstream.connections) >= REQUESTS


def test_posts_to_an_upstream_that_closes_after_each_answer_are_never_duplicated(behind):
    """What comes before it closes is read, counted, and not answered: that a POST may not be sent again."""

    def script(connection: Played) -> None:
        if connection.head():
            connection.body(1)
            connection.send(OK)
            connection.head_within(moment_s(connection))

    def post(number: int) -> bytes:
        return request_bytes(f"/{number}", host="api.test", method="POST", body=b"x", keep_alive=True)

    ingressd, upstream = behind(script, SETTINGS)
    statuses = Counter(in_lanes(ingressd, post, "POST"))
    assert set(statuses) <= {200, 502}
    assert statuses.total() == REQUESTS
    assert statuses[200] > REQUESTS / 10
    came = Counter(re.findall(rb"POST (/\d+) ", upstream.received))
    assert [target for target, times in came.items() if times > 1] == [], "the same POST came twice"
    assert len(came) >= statuses[200]


def test_408_on_an_idle_connection_is_thrown_away_with_it(behind):
    """Some servers say 408 when they close an idle connection; it answers no request."""

    def script(connection: Played) -> None:
        connection.head()
        connection.send(OK)
        answered.acquire()
        connection.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\nConnection: close\r\n\r\nslow")
        said.release()

    answered, said = threading.Semaphore(0), threading.Semaphore(0)
    ingressd, upstream = behind(script)
    with Client(ingressd.http) as client:
        for _ in range(3):
            client.send(GET)
            reply = client.reply()
            assert (reply.status, reply.body) == (200, b"ok")
            answered.release()
            assert said.acquire(timeout=PATIENCE_S)
            another_is_answered(ingressd)
    assert len(upstream.connections) == 3


def test_bytes_on_an_idle_connection_never_answer_the_next_request(behind):
    def script(connection: Played) -> None:
        while connection.head():
            connection.send(OK)
            answered.acquire()
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL")
            said.release()

    answered, said = threading.Semaphore(0), threading.Semaphore(0)
    ingressd, _ = behind(script)
    with Client(ingressd.http) as client:
        for _ in range(5):
            client.send(GET)
            assert client.reply().body == b"ok"
            answered.release()
            assert said.acquire(timeout=PATIENCE_S)
            another_is_answered(ingressd)


def test_an_upstream_that_refuses_costs_only_the_connect(behind):
    ingressd, upstream = behind(close_at_once)
    upstream.close()
    reply = ask(ingressd.http, host="api.test", method="POST", body=b"x")
    assert reply.status == 502
    line = ingressd.access_lines(path="/")[0]
    assert line["error"]
    assert line["bytes_received"] >= 1


@pytest.mark.parametrize(("value", "connections"), [("close", 5), ("keep-alive", 1)])
def test_a_connection_that_was_told_close_is_not_used_again_whatever_the_upstream_says(tmp_path, value, connections):
    """RFC 9112, section 9.6: "A client that sends a close connection option MUST NOT send further requests"."""

    def script(connection: Played) -> None:
        while head := connection.head():
            assert f"connection: {value}".encode() in head.lower()
            connection.send(OK)

    with scripted(script) as upstream:
        (tmp_path / "k8s").mkdir()
        host, port = upstream.address
        (tmp_path / "k8s" / "a.yaml").write_text(INGRESS.format(value=value, host=host, port=port))
        with running(tmp_path, manifests=["k8s"], workers=1) as ingressd, Client(ingressd.http) as client:
            for _ in range(5):
                client.send(GET)
                assert client.reply().status == 200
        assert len(upstream.connections) == connections
