"""Plain HTTP on the TLS port is told so in HTTP."""

from __future__ import annotations

import pytest
from proxy.tls.peers import DATE, Connection, client_context

TOLD = b"The plain HTTP request was sent to HTTPS port"


@pytest.mark.parametrize("step", [1, 65536])
def test_a_request_is_answered_with_400_and_nginx_words(store, step):
    connection = Connection(store, client_context())
    connection.raw.feed(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", step)
    head, body = connection.raw.take().split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n" + DATE)
    assert b"\r\nConnection: close" in head
    assert b"\r\nContent-Length: %d\r\n" % len(body) in head
    assert b"<title>400 " + TOLD in body and b"<center>" + TOLD in body
    assert connection.raw.closed
    connection.settle()
    assert connection.app.calls == []


def test_the_answer_waits_for_the_end_of_the_head(store):
    connection = Connection(store, client_context())
    connection.raw.feed(b"GET / HTTP/1.1\r\nHost: a.t")
    assert not connection.raw.writes
    connection.raw.feed(b"est\r\n\r\n")
    assert TOLD in connection.raw.take()


def test_a_head_without_end_is_answered_all_the_same(store):
    connection = Connection(store, client_context())
    connection.raw.feed(b"GET / HTTP/1.1\r\nX: " + b"x" * 9000)
    assert TOLD in connection.raw.take()
    assert connection.raw.closed


@pytest.mark.parametrize("garbage", [b"\x00", b"SSH-2.0-x\r\n", b"\x80\x2e\x01\x00\x02"])
def test_what_is_neither_gets_a_bare_400(store, garbage):
    connection = Connection(store, client_context())
    connection.raw.feed(garbage)
    answer = connection.raw.take()
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert TOLD not in answer
    assert connection.raw.closed
