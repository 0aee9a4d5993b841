"""RFC 9110, 7.2 and RFC 9112, 3.2: one Host, and a valid one."""

import pytest
from protocol.reading import accepted, refused


@pytest.mark.parametrize(
    "host",
    [
        b"a.example",
        b"A.Example",
        b"a.example.",
        b"a.example:8080",
        b"a.example:",
        b"x-y_z.example",
        b"localhost",
        b"127.0.0.1:80",
        b"[::1]",
        b"[::1]:80",
        b"[2001:DB8::a]",
        b"[1:2:3:4:5:6:7:8]",
        b"[::ffff:192.0.2.1]",
        b"[::]",
        b"a" * 255,
        b"a.example:65535",
    ],
)
def test_valid_host_is_given_as_it_came(host: bytes) -> None:
    head, _ = accepted(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\nX: y\r\n\r\n")
    assert head.host == host
    assert head.fields == [b"X: y"]


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b" ",
        b"a.example, b.example",
        b"a.example,b.example",
        b"a.example\tb.example",
        b"a.example b.example",
        b"user@a.example",
        b"http://a.example",
        b"a.example/x",
        b"a.example\\b",
        b"a.example?x",
        b"a.example#x",
        b"a.example:8a",
        b"a.example:99999",
        b"a.example:65536",
        b"a.example:-1",
        b"a.example:80:81",
        b":80",
        b"a..example",
        b".a.example",
        b".",
        b"*.example",
        b"a%2eexample",
        b"a\xc3\xa9.example",
        b"a;b",
        b"a" * 256,
        b"[::1",
        b"::1",
        b"[::1]x",
        b"[::1]:x",
        b"[]",
        b"[:]",
        b"[:::]",
        b"[1::2::3]",
        b"[1:2:3:4:5:6:7]",
        b"[1:2:3:4:5:6:7:8:9]",
        b"[12345::]",
        b"[::256.1.1.1]",
        b"[::1.1.1]",
        b"[1.2.3.4::]",
        b"[fe80::1%25eth0]",
        b"[v1.x]",
        b"[a.example]",
    ],
)
def test_malformed_host_is_400(host: bytes) -> None:
    """RFC 9112, 3.2: 400 "to any request message that contains ... a Host header field with an invalid field value"."""
    assert refused(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n") == 400


def test_missing_host_is_400_in_http_1_1_only() -> None:
    """RFC 9112, 3.2: "any HTTP/1.1 request message that lacks a Host header field"."""
    assert refused(b"GET / HTTP/1.1\r\n\r\n") == 400
    assert refused(b"GET / HTTP/1.1\r\nX: y\r\n\r\n") == 400
    head, _ = accepted(b"GET / HTTP/1.0\r\n\r\n")
    assert head.host == b""


@pytest.mark.parametrize("second", [b"Host: b.example", b"hOST: b.example", b"Host: a.example"])
def test_second_host_is_400(second: bytes) -> None:
    """RFC 9112, 3.2: "... or that contains more than one Host header field line"."""
    assert refused(b"GET / HTTP/1.1\r\nHost: a.example\r\n" + second + b"\r\n\r\n") == 400


@pytest.mark.parametrize("name", [b"Host ", b"Host\t", b"\tHost"])
def test_disguised_host_is_no_host(name: bytes) -> None:
    assert refused(b"GET / HTTP/1.1\r\nHost: a.example\r\n" + name + b": b.example\r\n\r\n") == 400
