"""A response that ends too early must look truncated: after its first byte the only honest end is an abort."""

from __future__ import annotations

import pytest
from stage.scripted import OK, Played
from stage.wire import Client, ask, request_bytes

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello",
    ],
    ids=["length", "chunks without the last", "inside a chunk"],
)
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_truncated_response_stays_visibly_truncated(behind, answer, how):
    def script(connection: Played) -> None:
        connection.head()
        connection.send(answer)
        if how == "reset":
            connection.reset()

    ingressd, upstream = behind(script)
    with Client(ingressd.http) as client:
        client.send(request_bytes("/cut", host="api.test", keep_alive=True))
        reply = client.reply()
        assert (reply.status, reply.complete) in [(200, False), (502, True)]
        assert client.at_end or reply.status == 502
    assert len(upstream.connections) == 1, "asked again after response bytes had come"
    assert ingressd.access_lines(path="/cut")[0]["error"]


def test_a_response_to_the_end_of_the_connection_is_whole(behind):
    def script(connection: Played) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")

    ingressd, _ = behind(script)
    reply = ask(ingressd.http, host="api.test")
    assert (reply.status, reply.body, reply.complete) == (200, b"until the end", True)


def test_what_comes_after_the_end_of_a_response_is_not_the_next_one(behind):
    """RFC 9112, section 6.3: surplus bytes belong to no response, and the connection is not used again."""

    def script(connection: Played) -> None:
        while connection.head():
            connection.send(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL")

    ingressd, upstream = behind(script)
    with Client(ingressd.http) as client:
        for _ in range(4):
            client.send(request_bytes("/", host="api.test", keep_alive=True))
            assert client.reply().body == b"ok"
    assert len(upstream.connections) == 4


def test_a_truncated_response_under_http_1_0_closes_without_a_length(behind):
    def script(connection: Played) -> None:
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")

    ingressd, _ = behind(script)
    reply = ask(ingressd.http, host="api.test", version="1.0")
    assert not (reply.complete and reply.ends_with_connection), "a truncated answer must not look whole"
