"""RFC 9110, 7.6.1 and 7.8, RFC 9112, 9: what concerns this connection only."""

import pytest
from protocol.reading import SECOND, accepted, read, refused

from ingressd.protocol.h1 import RequestHead

START = b"GET / HTTP/1.1\r\nHost: a.example\r\n"
START_10 = b"GET / HTTP/1.0\r\nHost: a.example\r\n"
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


def get(lines: bytes, start: bytes = START) -> RequestHead:
    return accepted(start + lines + b"\r\n")[0]


def test_hop_by_hop_fields_are_not_forwarded() -> None:
    """RFC 9110, 7.6.1: "intermediaries SHOULD remove or replace fields that are known to require removal"."""
    head = get(
        b"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: X\r\nA: b\r\n"
        b"Proxy-Authorization: Basic eDp5\r\nHTTP2-Settings: AAMAAABk\r\nUpgrade: h2c\r\nProxy: evil\r\n"
        b"Connection: keep-alive\r\n"
    )
    assert head.fields == [b"A: b"]
    assert head.special is None
    assert head.te_trailers
    assert head.upgrade is None


def test_nominated_fields_are_not_forwarded() -> None:
    """RFC 9110, 7.6.1: "remove any header or trailer field(s) ... with the same name as the connection-option"."""
    head = get(b"Connection: X-A, x-c\r\nX-A: 1\r\nX-Keep: k\r\nConnection: X-B\r\nx-b: 2\r\nX-C: 3\r\nx-a: 4\r\n")
    assert head.fields == [b"X-Keep: k"]
    assert get(b"Connection: Authorization, Cookie\r\nAuthorization: x\r\nCookie: a=1\r\n").fields == []


@pytest.mark.parametrize(
    "name", [b"X-Forwarded-For", b"X-Real-IP", b"X-Request-ID", b"X-Forwarded-Proto", b"Forwarded", b"Via"]
)
def test_what_the_proxy_reads_or_sets_cannot_be_nominated_away(name: bytes) -> None:
    """ "intended for all recipients of the content" (RFC 9110, 7.6.1), hence no connection option."""
    head = get(b"Connection: " + name + b", Host\r\n" + name + b": v\r\n")
    assert head.special == {name.lower(): [b"v"]}
    assert head.host == b"a.example"


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_nominated_framing_is_400(framing: bytes) -> None:
    name = framing.partition(b":")[0]
    post = b"POST / HTTP/1.1\r\nHost: a.example\r\n"
    assert refused(post + framing + b"\r\nConnection: " + name.upper() + b"\r\n\r\n") == 400
    assert refused(START + b"Connection: close, " + name + b"\r\n\r\n") == 400


def test_what_is_no_token_in_connection_is_nobodys_option() -> None:
    head = get(b"Connection: ,, ;foo , keep-alive,\r\nfoo: 1\r\n")
    assert head.fields == [b"foo: 1"]
    assert head.keep_alive


def test_many_nominations_cost_linear_time() -> None:
    lines = b"".join(b"x-%d: 1\r\n" % i for i in range(90))
    head = get(b"Connection: " + b"a," * 3500 + b"close\r\n" + lines)
    assert len(head.fields) == 90
    assert not head.keep_alive


@pytest.mark.parametrize(
    ("start", "connection", "keep_alive"),
    [
        (START, b"", True),
        (START, b"Connection: keep-alive\r\n", True),
        (START, b"Connection: close\r\n", False),
        (START, b"Connection: CLOSE\r\n", False),
        (START, b"Connection: close, keep-alive\r\n", False),
        (START, b"Connection: keep-alive\r\nConnection: close\r\n", False),
        (START, b"Connection: x-close\r\n", True),
        (START_10, b"", False),
        (START_10, b"Connection: keep-alive\r\n", True),
        (START_10, b"Connection: Keep-Alive\r\n", True),
        (START_10, b"Connection: keep-alive, close\r\n", False),
        (START_10, b"Connection: x\r\n", False),
    ],
)
def test_persistence(start: bytes, connection: bytes, keep_alive: bool) -> None:
    """RFC 9112, 9.3: close decides first, then the version, then keep-alive."""
    assert get(connection, start).keep_alive is keep_alive


def test_upgrade_needs_both_fields() -> None:
    """RFC 9110, 7.8: "A sender of Upgrade MUST also send an "Upgrade" connection option"."""
    assert get(WEBSOCKET).upgrade == b"websocket"
    assert get(b"Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n").upgrade == b"websocket"
    assert get(b"Upgrade: websocket\r\n").upgrade is None
    assert get(b"Connection: Upgrade\r\n").upgrade is None
    assert get(b"Connection: upgrade\r\nUpgrade: foo/9\r\n").upgrade == b"foo/9"
    assert get(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c, websocket\r\n").upgrade == b"websocket"


@pytest.mark.parametrize(
    "value", [b"", b"web socket", b"websocket,", b"a/b/c", b'"websocket"', b"websocket\r\nUpgrade: x"]
)
def test_malformed_upgrade_is_ignored(value: bytes) -> None:
    head = get(b"Connection: Upgrade\r\nUpgrade: " + value + b"\r\n")
    assert head.upgrade is None
    assert head.fields == []


def test_upgrade_is_ignored_in_http_1_0() -> None:
    """RFC 9110, 7.8: "A server MUST ignore an Upgrade header field that is received in an HTTP/1.0 request"."""
    assert get(WEBSOCKET, START_10).upgrade is None


def test_handshake_fields_stay() -> None:
    head = get(WEBSOCKET + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n")
    assert head.fields == [b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Version: 13"]


def test_websocket_handshake_with_body_is_400() -> None:
    """Else one peer would take the body for a body and the other for the first bytes of the tunnel."""
    for start in (START, b"POST / HTTP/1.1\r\nHost: a.example\r\n"):
        assert refused(start + WEBSOCKET + b"Content-Length: 40\r\n\r\n") == 400
        assert refused(start + WEBSOCKET + b"Transfer-Encoding: chunked\r\n\r\n") == 400
    assert get(WEBSOCKET + b"Content-Length: 0\r\n").upgrade == b"websocket"


def test_websocket_handshake_is_a_get() -> None:
    """RFC 6455, 4.1: "The method of the request MUST be GET"."""
    assert get(WEBSOCKET, b"POST / HTTP/1.1\r\nHost: a.example\r\n").upgrade is None


@pytest.mark.parametrize("value", [b"100-continue", b"100-Continue", b" 100-continue\t"])
def test_expect_continue(value: bytes) -> None:
    """RFC 9110, 10.1.1: Expect is case-insensitive, and not forwarded: we answer it."""
    head, body = accepted(
        b"POST / HTTP/1.1\r\nHost: a.example\r\nExpect:" + value + b"\r\nContent-Length: 5\r\n\r\nhello"
    )
    assert head.expect_continue
    assert head.fields == []
    assert body == b"hello"
    assert not get(b"").expect_continue


@pytest.mark.parametrize(
    "value", [b"200-maybe", b"y 100-continue", b"", b"100-continue, x", b"100-continue\r\nExpect: x"]
)
def test_unknown_expectation_is_417(value: bytes) -> None:
    """RFC 9110, 10.1.1: an expectation "other than 100-continue MAY respond with a 417"."""
    assert refused(START + b"Expect: " + value + b"\r\n\r\n") == 417


@pytest.mark.parametrize("value", [b"100-continue", b"200-maybe"])
def test_expect_is_ignored_in_http_1_0(value: bytes) -> None:
    """RFC 9110, 10.1.1: "in an HTTP/1.0 request MUST ignore that expectation"."""
    head = get(b"Expect: " + value + b"\r\n", START_10)
    assert not head.expect_continue
    assert head.fields == []


def test_nothing_leaks_into_the_next_request() -> None:
    """Hop-by-hop state belongs to one message: the second one must look as if it had come alone."""
    first = START + WEBSOCKET + b"TE: trailers\r\nX-Forwarded-For: 1.2.3.4\r\nConnection: X\r\nX: y\r\n\r\n"
    alone = read([SECOND]).messages
    assert read([first + SECOND]).messages[1:] == alone
