"""RFC 9112, section 3: the request line and the forms of its target."""

import pytest
from protocol.reading import accepted, refused

HOST = b"\r\nHost: a.example\r\n\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"GET /x\r\n\r\n",  # HTTP/0.9.
        b"GET /a b HTTP/1.1",
        b"GET /a HTTP/1.1 HTTP/1.1",
        b"GET  /a HTTP/1.1",
        b"GET /a  HTTP/1.1",
        b"GET /a HTTP/1.1 ",
        b"GET\t/a HTTP/1.1",
        b"GET\x0b/a HTTP/1.1",
        b" GET /a HTTP/1.1",
        b" /a HTTP/1.1",
        b"GET /a\nHTTP/1.1",
        b"BAD",
    ],
)
def test_request_line_is_three_parts_and_two_single_spaces(line: bytes) -> None:
    """RFC 9112, 3: request-line = method SP request-target SP HTTP-version."""
    assert refused(line + HOST) == 400


@pytest.mark.parametrize(
    "version",
    [
        b"http/1.1",
        b"HTTP/1",
        b"HTTP/01.01",
        b"HTTP/ 1.1",
        b"HTTP/4294967297.1",
        b"HTTP/-1.1",
        b"HTTP/1.10",
        b"HTTP/2.0",
        b"HTTP/3.0",
        b"HTTP/0.0",
        b"HTTP/0.9",
        b"ICE/1.0",
        b"HTTQ/1.1",
        b"HTTP/1.x",
        b"HTTP/1,1",
    ],
)
def test_version_is_http_1_0_or_1_1(version: bytes) -> None:
    """RFC 9112, 2.3: HTTP-version = HTTP-name "/" DIGIT "." DIGIT, and it is case-sensitive."""
    assert refused(b"GET / " + version + HOST) == 400


def test_minor_version_that_does_not_exist_is_505() -> None:
    assert refused(b"GET / HTTP/1.2" + HOST) == 505
    assert refused(b"GET / HTTP/1.9" + HOST) == 505


@pytest.mark.parametrize("method", [b"GE(T", b"GE\x00T", b"get", b"Get", b"G\xc3\x89T", b"GET1", b'"GET"', b"GET,"])
def test_method_is_capitals_dash_or_underscore(method: bytes) -> None:
    """Methods are case-sensitive tokens (RFC 9110, 9.1); as in nginx, of tokens only capitals, "-" and "_"."""
    assert refused(method + b" / HTTP/1.1" + HOST) == 400


@pytest.mark.parametrize("method", [b"GET", b"M-SEARCH", b"VERSION_CONTROL", b"FROB", b"COPY", b"TEST", b"A" * 64])
def test_unknown_method_is_passed_on(method: bytes) -> None:
    head, _ = accepted(method + b" / HTTP/1.1" + HOST)
    assert head.method == method


@pytest.mark.parametrize("method", [b"A" * 65, b"A" * 8000, b"A" * 100_000])
def test_method_longer_than_any_is_501(method: bytes) -> None:
    """RFC 9112, 3: "A server that receives a method longer than any that it implements SHOULD respond with a 501"."""
    assert refused(method + b" / HTTP/1.1" + HOST) == 501


def test_trace_is_405() -> None:
    """RFC 9110, 9.3.8: a client "MUST NOT" put secrets in TRACE; what proxies add would be one."""
    assert refused(b"TRACE / HTTP/1.1" + HOST) == 405


@pytest.mark.parametrize(
    ("target", "status"), [(b"a.example:443", 405), (b"[::1]:443", 405), (b"/x", 400), (b"*", 400)]
)
def test_connect_opens_no_tunnel(target: bytes, status: int) -> None:
    """RFC 9112, 3.2.3: "authority-form ... is only used for CONNECT"."""
    assert refused(b"CONNECT " + target + b" HTTP/1.1" + HOST) == status


@pytest.mark.parametrize(
    "target",
    [b"/", b"/a?b", b"/a?", b"//x/y", b"/http://b.example/", b"/x;v=1?a=1;b=2&c=%20+%2B", b"/%zz%2", b"/a?x=\\d"],
)
def test_origin_form_is_forwarded_byte_for_byte(target: bytes) -> None:
    """RFC 9112, 3.2: a proxy must not rewrite an absolute path it did not normalise."""
    head, _ = accepted(b"GET " + target + b" HTTP/1.1" + HOST)
    assert head.target == target
    assert head.path == target.partition(b"?")[0]
    assert head.host == b"a.example"


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"admin",
        b"?x=1",
        b"*",
        b"/a#b",
        b"/a?b#c",
        b"/a\x00b",
        b"/a\x01b",
        b"/a\x7fb",
        b"/\xc3\xa9",
        b"/a\\b",
        b"/..\\x",
        b"a.example:80",
    ],
)
def test_target_that_is_no_origin_form_is_400(target: bytes) -> None:
    """RFC 9112, 3.2: "Recipients of an invalid request-line SHOULD respond with either a 400 or a redirect"."""
    assert refused(b"GET " + target + b" HTTP/1.1" + HOST) == 400


def test_asterisk_form_is_for_options_only() -> None:
    """RFC 9112, 3.2.4: "asterisk-form ... is only used for a server-wide OPTIONS request"."""
    head, _ = accepted(b"OPTIONS * HTTP/1.1" + HOST)
    assert (head.target, head.path) == (b"*", b"*")
    assert refused(b"GET * HTTP/1.1" + HOST) == 400


@pytest.mark.parametrize(
    ("target", "host", "forwarded"),
    [
        (b"http://b.example/x", b"b.example", b"/x"),
        (b"http://b.example:8080/x?y", b"b.example:8080", b"/x?y"),
        (b"https://b.example/x", b"b.example", b"/x"),
        (b"HTTP://B.EXAMPLE/x", b"B.EXAMPLE", b"/x"),
        (b"http://b.example", b"b.example", b"/"),
        (b"http://b.example?q=1", b"b.example", b"/?q=1"),
        (b"http://[::1]:80/", b"[::1]:80", b"/"),
    ],
)
def test_authority_of_absolute_form_replaces_host(target: bytes, host: bytes, forwarded: bytes) -> None:
    """RFC 9112, 3.2.2: a proxy "MUST ignore the received Host header field (if any) and instead replace it"."""
    head, _ = accepted(b"GET " + target + b" HTTP/1.1" + HOST)
    assert (head.host, head.target) == (host, forwarded)
    assert head.path == forwarded.partition(b"?")[0]
    assert not any(line.lower().startswith(b"host") for line in head.fields)


def test_absolute_form_without_path_is_asterisk_for_options() -> None:
    """RFC 9112, 3.2.4: the last proxy "MUST send a request-target of "*"" for an empty path and no query."""
    head, _ = accepted(b"OPTIONS http://b.example:8001 HTTP/1.1" + HOST)
    assert (head.target, head.host) == (b"*", b"b.example:8001")


@pytest.mark.parametrize(
    "target",
    [
        b"http:/x",
        b"http://",
        b"http:///x",
        b"http://u:p@a.example/x",
        b"ftp://a.example/x",
        b"http://a.example:99999/",
        b"http://a.example/a\\b",
        b"http://a.example/#x",
        b"http://a_b,c/",
    ],
)
def test_malformed_absolute_form_is_400(target: bytes) -> None:
    assert refused(b"GET " + target + b" HTTP/1.1" + HOST) == 400


def test_absolute_form_still_needs_a_host() -> None:
    """RFC 9112, 3.2: "MUST respond with a 400 to any HTTP/1.1 request message that lacks a Host header field"."""
    assert refused(b"GET http://a.example/x HTTP/1.1\r\n\r\n") == 400
