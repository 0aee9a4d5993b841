"""Answers that are none, that are too much, or that come too early."""

from __future__ import annotations

import pytest
from stage.scripted import OK, Played
from stage.wire import Client, ask, request_bytes

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        b"HTTP/1.1 200 OK\r\nBad Name: x\r\nContent-Length: 2\r\n\r\nok",
    ],
    ids=["ssh", "tls", "version", "status", "two lengths", "field name"],
)
def test_what_is_no_response_is_502(behind, garbage):
    def script(connection: Played) -> None:
        connection.head()
        connection.send(garbage)

    ingressd, _ = behind(script)
    reply = ask(ingressd.http, host="api.test")
    assert (reply.status, reply.complete, "502 Bad Gateway" in reply.text) == (502, True, True)


def test_a_response_head_without_end_is_502_and_bounded(behind):
    def script(connection: Played) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\n")
        for _ in range(10_000):
            connection.send(b"X-More: " + b"x" * 1000 + b"\r\n")

    ingressd, _ = behind(script)
    before = ingressd.memory_kib()
    assert ask(ingressd.http, host="api.test").status == 502
    assert ingressd.memory_kib() - before < 4096


def test_a_storm_of_1xx_ends_in_the_answer_or_502(behind):
    def script(connection: Played) -> None:
        connection.head()
        for _ in range(20):
            connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 1000)
        connection.send(OK)

    ingressd, _ = behind(script)
    before = ingressd.memory_kib()
    assert ask(ingressd.http, host="api.test").status in (200, 502)
    assert ingressd.memory_kib() - before < 4096
    assert ask(ingressd.http, "/healthz", host="nobody.test").status == 200


def test_an_early_answer_reaches_a_client_that_is_still_sending(behind):
    """RFC 9112, section 9.3: an error may come before the whole request; what is left of the body is not forwarded."""

    def script(connection: Played) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 422 No\r\nContent-Length: 7\r\n\r\ntoo bad")
        connection.gone()

    ingressd, upstream = behind(script, {"proxy-body-size": "0"})
    with Client(ingressd.http) as client:
        client.send(request_bytes("/", host="api.test", method="POST", lines=["Content-Length: 50000000"]))
        client.send(b"x" * 100_000)
        reply = client.reply("POST")
        assert (reply.status, reply.body) == (422, b"too bad")
    assert ask(ingressd.http, host="api.test").status == 422
    assert len(upstream.connections) == 2, "a connection with an unfinished request was used again"


def test_an_early_answer_then_a_reset_is_still_the_answer(behind):
    def script(connection: Played) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        connection.body(1)

    ingressd, _ = behind(script, {"proxy-body-size": "0"})
    reply = ask(ingressd.http, host="api.test", method="POST", body=b"x" * 500_000)
    assert (reply.status, reply.body) == (413, b"big")
