"""The memory of classified lines changes speed only, and stays small."""

import pytest
from protocol.reading import describe

from ingressd.protocol.h1 import HeadError, HeadLimits, parse_request_head, parse_response_head
from ingressd.protocol.limits import CACHE_ENTRIES, CACHE_LINE_BYTES

START = b"GET / HTTP/1.1\r\nHost: a.example\r\n"


def test_warm_and_cold_say_the_same() -> None:
    head = START + b"Connection: X, keep-alive\r\nX: 1\r\nAccept-Encoding: gzip\r\nX-Forwarded-For: 1\r\nX_U: 2\r\n\r\n"
    limits = HeadLimits()
    first = describe(parse_request_head(head, limits))
    assert describe(parse_request_head(head, limits)) == first
    limits.requests.clear()
    assert describe(parse_request_head(head, limits)) == first


def test_warm_head_does_not_share_what_a_caller_may_change() -> None:
    head = START + b"A: b\r\nVia: x\r\n\r\n"
    limits = HeadLimits()
    first = parse_request_head(head, limits)
    first.fields.append(b"C: d")
    assert first.special is not None
    first.special[b"via"].append(b"y")
    second = parse_request_head(head, limits)
    assert second.fields == [b"A: b"]
    assert second.special == {b"via": [b"x"]}


def test_many_different_lines_and_names_do_not_grow_it() -> None:
    limits = HeadLimits()
    for i in range(3 * CACHE_ENTRIES):
        parse_request_head(START + b"X-%d: %d\r\n\r\n" % (i, i), limits)
        parse_response_head(b"HTTP/1.1 200 OK\r\nX-%d: %d\r\n\r\n" % (i, i), method=b"GET", limits=limits)
        assert len(limits.requests) <= CACHE_ENTRIES
        assert len(limits.responses) <= CACHE_ENTRIES
        assert len(limits.names) <= CACHE_ENTRIES


def test_long_lines_and_names_are_not_kept() -> None:
    limits = HeadLimits()
    parse_request_head(START + b"A: " + b"b" * CACHE_LINE_BYTES + b"\r\n" + b"C" * 100 + b": d\r\n\r\n", limits)
    assert max(len(line) for line in limits.requests) <= CACHE_LINE_BYTES
    assert max(len(name) for name in limits.names) <= 64


@pytest.mark.parametrize("line", [b"Cookie: a=secret", b"Authorization: Bearer secret", b"X-Request-ID: secret"])
def test_secrets_and_lines_that_never_come_again_are_not_kept(line: bytes) -> None:
    limits = HeadLimits()
    head = parse_request_head(START + line + b"\r\n\r\n", limits)
    assert head.fields == [line] or head.special is not None
    assert not any(b"secret" in kept for kept in limits.requests)
    parse_response_head(b"HTTP/1.1 200 OK\r\nSet-Cookie: secret\r\n\r\n", method=b"GET", limits=limits)
    assert not any(b"secret" in kept for kept in limits.responses)


def test_refused_lines_are_not_kept() -> None:
    limits = HeadLimits()
    for _ in range(2):
        with pytest.raises(HeadError):
            parse_request_head(START + b"A: \x01\r\n\r\n", limits)
    assert not any(b"\x01" in kept for kept in limits.requests)


def test_line_too_long_for_the_policy_is_refused_although_short_enough_for_the_cache() -> None:
    limits = HeadLimits(field_line_bytes=50)
    for _ in range(2):
        with pytest.raises(HeadError) as error:
            parse_request_head(START + b"A: " + b"b" * 50 + b"\r\n\r\n", limits)
        assert error.value.status == 431


def test_requests_and_responses_do_not_share_meaning() -> None:
    """ "Server" is nobody's business in a request, "Host" is nothing special in a response."""
    limits = HeadLimits()
    response = parse_response_head(b"HTTP/1.1 200 OK\r\nServer: s\r\nHost: h\r\n\r\n", method=b"GET", limits=limits)
    request = parse_request_head(b"GET / HTTP/1.1\r\nServer: s\r\nHost: h\r\n\r\n", limits)
    assert (request.host, request.fields) == (b"h", [b"Server: s"])
    assert (response.special, response.fields) == ({b"server": [b"s"]}, [b"Host: h"])
