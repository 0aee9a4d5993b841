"""RFC 9112, sections 4 to 6: responses of upstreams. What is ambiguous is a 502."""

import pytest
from protocol.reading import accepted_response, read, refused_response, single_bytes

from ingressd.protocol.h1 import (
    CHUNKED,
    LENGTH,
    NO_BODY,
    UNTIL_CLOSE,
    HeadError,
    HeadLimits,
    ResponseHead,
    find_head_end,
    parse_response_head,
)

OK = b"HTTP/1.1 200 OK\r\n"
TWO = b"Content-Length: 2\r\n"


def get(lines: bytes, *, start: bytes = OK + TWO) -> ResponseHead:
    return accepted_response(start + lines + b"\r\nok")[0]


def head_of(data: bytes, *, method: bytes = b"GET") -> ResponseHead:
    """A head whose body the stream would have to wait for."""
    assert find_head_end(data, response=True) == len(data)
    return parse_response_head(data, method=method, limits=HeadLimits())


@pytest.mark.parametrize(
    "line",
    [
        b"ELEPHANT",
        b"SSH-2.0-OpenSSH_9",
        b"HTTP/2.0 200 OK",
        b"HTTP/1.2 200 OK",
        b"HTTP/0.9 200 OK",
        b"http/1.1 200 OK",
        b"ICY 200 OK",
        b"HTTP/1.1 abc OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 000 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 -200 OK",
        b"HTTP/1.1 +200 OK",
        b"HTTP/1.1  OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1\t200 OK",
        b"HTTP/1.1 200\tOK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1 200 O\x01K",
        b"HTTP/1.1 200 O\x7fK",
        b"HTTP/1.1 200 O\rK",
        b"HTTP/1.1 200 O\nK",
        b"HTTP/1.1 200 O\0K",
        b" HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK\r\n X: folded",
        b"",
    ],
)
def test_malformed_status_line_is_502(line: bytes) -> None:
    """RFC 9112, 4: status-line = HTTP-version SP status-code SP [ reason-phrase ]."""
    assert refused_response(line + b"\r\n" + TWO + b"\r\nok") == 502


@pytest.mark.parametrize(
    ("line", "status", "reason", "version"),
    [
        (b"HTTP/1.1 200 OK", 200, b"OK", 11),
        (b"HTTP/1.0 404 Not Found", 404, b"Not Found", 10),
        (b"HTTP/1.1 200", 200, b"", 11),
        (b"HTTP/1.1 200 ", 200, b"", 11),
        (b"HTTP/1.1 999 \xc3\xa9\t!", 999, b"\xc3\xa9\t!", 11),
    ],
)
def test_status_line(line: bytes, status: int, reason: bytes, version: int) -> None:
    head, body = accepted_response(line + b"\r\n" + TWO + b"\r\nok")
    assert (head.status, head.reason, head.version) == (status, reason, version)
    assert body == b"ok"


@pytest.mark.parametrize(
    "start", [b"SSH", b"HTTP/2", b"\x15\x03\x01", b"<html>", b"HTTP/1.1 abc\r\n", b"HTTP/1.1 200 OK\n", b"\x00"]
)
def test_upstream_that_speaks_something_else_is_told_at_once(start: bytes) -> None:
    assert read([start], method=b"GET").refused == 502
    assert read(single_bytes(start), method=b"GET").refused == 502


@pytest.mark.parametrize(
    "line",
    [
        b"X-A: a\x00b",
        b"X-A: a\rSet-Cookie: evil=1",
        b"X-A: a\nb",
        b"X-A: a\x01b",
        b"X(A: 1",
        b": 1",
        b"NoColon",
        b"X A: 1",
        b"X\xe9: 1",
        b"X A : 1",
    ],
)
def test_malformed_field_line_is_502(line: bytes) -> None:
    assert refused_response(OK + line + b"\r\n" + TWO + b"\r\nok") == 502


def test_whitespace_before_colon_is_removed() -> None:
    """RFC 9112, 5.1: "A proxy MUST remove any such whitespace from a response message before forwarding"."""
    head = get(b"X-A : 1\r\nX-B\t : 2\r\nContent-Type : text/plain\r\n")
    assert head.fields == [b"X-A: 1", b"X-B: 2", b"Content-Type: text/plain"]
    assert head.content_type == b"text/plain"
    assert get(b"Server : x\r\n").special == {b"server": [b"x"]}


@pytest.mark.parametrize("name", [b"Transfer-Encoding", b"Content-Length", b"Connection", b"Upgrade"])
def test_whitespace_before_the_colon_of_a_framing_field_is_502(name: bytes) -> None:
    """Our reading would differ from that of whoever saw the message before us."""
    assert refused_response(OK + name + b" : chunked\r\n\r\n") == 502


def test_obs_fold_becomes_a_space() -> None:
    """RFC 9112, 5.2: a proxy "MUST either discard the message ... or replace each received obs-fold with one or more SP
    octets"."""
    assert get(b"X-A: 1\r\n 2\r\n\t 3\r\nX-B: 4\r\n").fields == [b"X-A: 1 2 3", b"X-B: 4"]
    assert get(b"X-A:\r\n 1\r\n").fields == [b"X-A: 1"]


def test_status_line_is_not_continued() -> None:
    assert refused_response(b"HTTP/1.1 200 a:\r\n b\r\n" + TWO + b"\r\nok") == 502


@pytest.mark.parametrize("lines", [b"Content-Length:\r\n 2", b"Transfer-Encoding:\r\n chunked", b"Connection: a\r\n b"])
def test_obs_fold_in_a_framing_field_is_502(lines: bytes) -> None:
    assert refused_response(OK + lines + b"\r\n\r\n") == 502


def test_obs_fold_of_nothing_is_502() -> None:
    assert refused_response(OK + b" X-A: 1\r\n" + TWO + b"\r\n") == 502
    assert refused_response(OK + b"nocolon\r\n a: b\r\n" + TWO + b"\r\n") == 502


def test_length() -> None:
    head, body = accepted_response(OK + TWO + b"\r\nok")
    assert (head.framing, head.content_length, head.chunked, body) == (LENGTH, 2, False, b"ok")
    assert head.fields == []


def test_equal_content_lengths_are_one() -> None:
    """RFC 9112, 6.3: "... unless the field value can be successfully parsed as ... all values in the list are the
    same"."""
    assert get(TWO + b"content-length:2\r\n").content_length == 2


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 2\r\nContent-Length: 3",
        b"Content-Length: +2",
        b"Content-Length: two",
        b"Content-Length:",
        b"Content-Length: 2, 2",
        b"Content-Length: 999999999999999999999999999999",
        b"Content-Length: 02",
        b"Transfer-Encoding: xchunked\r\nContent-Length: 2",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding:",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2",
    ],
)
def test_ambiguous_framing_is_502(lines: bytes) -> None:
    """RFC 9112, 6.3: a proxy "MUST close the connection to the server, discard the received response, and send a
    502"."""
    assert refused_response(OK + lines + b"\r\n\r\nok") == 502


def test_transfer_encoding_in_http_1_0_is_502() -> None:
    """RFC 9112, 6.1: "MUST treat the message as if the framing is faulty"."""
    assert refused_response(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") == 502


def test_chunked_body() -> None:
    head, body = accepted_response(OK + b"transfer-encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\nX: dropped\r\n\r\n")
    assert (head.framing, head.content_length, head.chunked, body) == (CHUNKED, None, True, b"ok")


def test_without_framing_the_body_ends_with_the_connection() -> None:
    """RFC 9112, 6.3: "a response message without a declared message body length, so the message body length is
    determined by the number of octets received prior to the server closing the connection"."""
    head = head_of(OK + b"\r\n")
    assert (head.framing, head.keep_alive) == (UNTIL_CLOSE, False)
    assert head_of(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n").keep_alive is False


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 304), (b"HEAD", 304), (b"HEAD", 404)])
def test_answers_to_head_and_304_have_no_body_but_say_its_length(method: bytes, status: int) -> None:
    """RFC 9112, 6.3: "Any response to a HEAD request and any response with a ... 304 status code is always
    terminated by the first empty line after the header fields"."""
    start = b"HTTP/1.1 %d X\r\n" % status
    head, body = accepted_response(start + b"Content-Length: 4\r\n\r\n", method=method)
    assert (head.framing, head.content_length, body) == (NO_BODY, 4, b"")
    head, _ = accepted_response(start + b"Transfer-Encoding: chunked\r\n\r\n", method=method)
    assert (head.framing, head.chunked) == (NO_BODY, True)
    head, _ = accepted_response(start + b"\r\n", method=method)
    assert (head.framing, head.keep_alive) == (NO_BODY, True)


@pytest.mark.parametrize("status", [100, 101, 102, 103, 199, 204])
@pytest.mark.parametrize(
    "lines", [b"", b"Content-Length: 0\r\n", b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n"]
)
def test_1xx_and_204_have_neither_body_nor_framing(status: int, lines: bytes) -> None:
    """RFC 9112, 6.1: "A server MUST NOT send a Transfer-Encoding header field in any response with a status code of 1xx
    or 204"; RFC 9110, 8.6 says so of Content-Length."""
    head, _ = accepted_response(b"HTTP/1.1 %d X\r\n" % status + lines + b"\r\n")
    assert (head.framing, head.content_length, head.chunked) == (NO_BODY, None, False)


def test_interim_and_final_response_are_two_heads() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>; rel=preload\r\n\r\n"
    data = b"HTTP/1.1 100 Continue\r\n\r\n" + hints + OK + TWO + b"\r\nok"
    for pieces in ([data], single_bytes(data)):
        stream = read(pieces, method=b"GET")
        assert [message["status"] for message, _ in stream.messages] == [100, 103, 200]
        assert stream.messages[1][0]["fields"] == [b"Link: </s.css>; rel=preload"]
        assert stream.messages[2][1] == b"ok"


def test_hop_by_hop_fields_are_removed() -> None:
    head = get(
        b"Connection: X-Secret, close\r\nX-Secret: 1\r\nKeep-Alive: timeout=9\r\nProxy-Connection: x\r\nTrailer: X\r\n"
        b"TE: x\r\nUpgrade: h2c\r\nx-secret: 2\r\nX-Keep: 3\r\nProxy-Authenticate: Basic\r\n"
    )
    assert head.fields == [b"X-Keep: 3", b"Proxy-Authenticate: Basic"]
    assert head.upgrade is None
    assert not head.keep_alive


def test_framing_nominated_by_a_response_still_counts() -> None:
    """Servers exist that send "Connection: Transfer-Encoding"; the message is framed anew in any case."""
    assert get(b"Connection: content-length\r\n").framing == LENGTH


def test_special_fields_are_set_aside() -> None:
    head = get(
        b"Server: s\r\nDate: d\r\nX-Accel-Redirect: /admin\r\nX-Accel-Buffering: no\r\nX-Accel-Expires: 5\r\n"
        b"Strict-Transport-Security: max-age=1\r\nstrict-transport-security: max-age=2\r\nX-Sendfile: /etc/passwd\r\n"
    )
    assert head.fields == [b"X-Sendfile: /etc/passwd"]
    assert head.special == {
        b"server": [b"s"],
        b"date": [b"d"],
        b"x-accel-redirect": [b"/admin"],
        b"x-accel-buffering": [b"no"],
        b"x-accel-expires": [b"5"],
        b"strict-transport-security": [b"max-age=1", b"max-age=2"],
    }
    assert get(b"").special is None


def test_noted_fields_are_forwarded_too() -> None:
    lines = [
        b"Content-Type: text/html",
        b"content-encoding:gzip",
        b"X_Under.score!: 1",
        b"Set-Cookie: a",
        b"Set-Cookie: b",
    ]
    head = get(b"".join(line + b"\r\n" for line in lines))
    assert head.fields == lines
    assert (head.content_type, head.content_encoding) == (b"text/html", b"gzip")


@pytest.mark.parametrize(
    ("start", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n", True),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n", True),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\n", False),
    ],
)
def test_persistence(start: bytes, keep_alive: bool) -> None:
    """RFC 9112, 9.3."""
    assert get(b"", start=start + TWO).keep_alive is keep_alive


def test_upgrade_is_told_when_nominated() -> None:
    head = head_of(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
    assert (head.status, head.upgrade, head.fields) == (101, b"websocket", [b"Sec-WebSocket-Accept: x"])
    assert head_of(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n").upgrade is None


def test_limits_are_502() -> None:
    limits = HeadLimits(request_line_bytes=50, field_line_bytes=100, head_bytes=300, max_fields=3)
    for lines in (b"A: b\r\n" * 4, b"A: " + b"b" * 98 + b"\r\n", (b"A: " + b"b" * 90 + b"\r\n") * 3):
        assert refused_response(OK + lines + b"\r\n", limits) == 502
    assert refused_response(b"HTTP/1.1 204 " + b"x" * 100 + b"\r\n\r\n", limits) == 502


def test_unfinished_head_is_an_error_not_a_guess() -> None:
    for data in (b"", b"\r\n", OK, OK + TWO, OK + TWO + b"\r"):
        with pytest.raises(HeadError):
            parse_response_head(data, method=b"GET", limits=HeadLimits())
