"""RFC 9110, section 5 and RFC 9112, section 5: field names and values."""

import pytest
from protocol.reading import accepted, refused

from ingressd.protocol.h1 import HeadLimits, RequestHead

START = b"GET / HTTP/1.1\r\nHost: a.example\r\n"


def get(lines: bytes, limits: HeadLimits | None = None) -> RequestHead:
    return accepted(START + lines + b"\r\n", limits)[0]


@pytest.mark.parametrize("blank", [b" ", b"\t", b"  "])
@pytest.mark.parametrize("name", [b"X-A", b"Content-Length", b"Transfer-Encoding", b"Host", b"X_A"])
def test_whitespace_before_colon_is_400(name: bytes, blank: bytes) -> None:
    """RFC 9112, 5.1: "A server MUST reject, with a 400, any received request message that contains whitespace between
    a header field name and colon"."""
    assert refused(START + name + blank + b": 1\r\n\r\n") == 400


@pytest.mark.parametrize("fold", [b"X-A: a\r\n b", b"X-A: a\r\n\tb", b" X-A: a", b" ", b"X-A:\r\n b"])
def test_obs_fold_is_400(fold: bytes) -> None:
    """RFC 9112, 5.2: "A server that receives an obs-fold in a request message ... MUST either reject the message"."""
    assert refused(START + fold + b"\r\n\r\n") == 400


@pytest.mark.parametrize(
    "line", [b"NoColonHere", b":", b": v", b"Content-\r\nLength: 5", b"Content-Length 5", b"\0: a"]
)
def test_line_without_name_and_colon_is_400(line: bytes) -> None:
    """RFC 9112, 5: field-line = field-name ":" OWS field-value OWS."""
    assert refused(START + line + b"\r\n\r\n") == 400


@pytest.mark.parametrize("byte", sorted(set(range(256)) - set(b"!#$%&'*+-.^_`|~:\r\n") - set(range(0x30, 0x3A))))
def test_name_is_a_token(byte: int) -> None:
    """RFC 9110, 5.6.2: token = 1*tchar."""
    name = b"X" + bytes([byte]) + b"A"
    if bytes([byte]).isalpha():
        assert get(name + b": v\r\n").fields == [name + b": v"]
    else:
        assert refused(START + name + b": v\r\n\r\n") == 400


@pytest.mark.parametrize("byte", [*range(9), *range(10, 32), 127])
def test_control_character_in_value_is_400(byte: int) -> None:
    """RFC 9110, 5.5: "Field values containing CR, LF, or NUL characters are invalid and dangerous"."""
    assert refused(START + b"X-A: a" + bytes([byte]) + b"b\r\n\r\n") == 400
    assert refused(START + b"X-A: a" + bytes([byte]) + b"\r\n\r\n") == 400
    assert refused(START + b"X-A:" + bytes([byte]) + b"b\r\n\r\n") == 400
    assert refused(START + b"User-Agent: a" + bytes([byte]) + b"\r\n\r\n") == 400


def test_lines_are_forwarded_as_they_came_and_in_order() -> None:
    """RFC 9110, 5.3: "A proxy MUST NOT change the order of these field line values when forwarding a message"."""
    lines = [b"X-A: 1", b"x-b:2", b"X-A:\t3 ", b"X-Empty:", b"X-Text: \xc3\xa9 \t\xff", b"X: :: a: b", b"A: \x80"]
    assert get(b"".join(line + b"\r\n" for line in lines)).fields == lines


def test_underscore_names_are_dropped_unless_enabled() -> None:
    """nginx, underscores_in_headers: off by default, such names are invalid and ignored."""
    lines = b"X_Under: 1\r\nX-Ok: 2\r\n"
    assert get(lines).fields == [b"X-Ok: 2"]
    assert get(lines, HeadLimits(underscores=True)).fields == [b"X_Under: 1", b"X-Ok: 2"]


def test_invalid_names_are_dropped_or_forwarded() -> None:
    """nginx, ignore_invalid_headers: names of other tokens than letters, digits and hyphens."""
    lines = b"X.Dot: 1\r\nX!: 2\r\nX_U: 3\r\nX-Ok: 4\r\n"
    assert get(lines).fields == [b"X-Ok: 4"]
    assert get(lines, HeadLimits(underscores=True)).fields == [b"X_U: 3", b"X-Ok: 4"]
    kept = HeadLimits(drop_invalid=False)
    assert get(lines, kept).fields == [b"X.Dot: 1", b"X!: 2", b"X_U: 3", b"X-Ok: 4"]


@pytest.mark.parametrize("limits", [HeadLimits(), HeadLimits(underscores=True), HeadLimits(drop_invalid=False)])
@pytest.mark.parametrize("name", [b"Transfer_Encoding", b"Content_Length", b"transfer.encoding", b"content_length"])
def test_twin_of_a_framing_name_is_400_under_every_policy(name: bytes, limits: HeadLimits) -> None:
    """CGI and WSGI turn "-" into "_": the twin would reach an application as the framing field itself."""
    assert refused(START + name + b": chunked\r\n\r\n", limits) == 400


@pytest.mark.parametrize(
    "name", [b"X_Forwarded_For", b"x_real_ip", b"X-Forwarded_Proto", b"Ssl_Client_Verify", b"Proxy_"]
)
def test_twin_of_a_name_the_proxy_sets_never_passes(name: bytes) -> None:
    limits = HeadLimits(underscores=True)
    fields = get(name + b": evil\r\n", limits).fields
    assert fields == ([name + b": evil"] if name == b"Proxy_" else [])


def test_special_names_are_set_aside_by_lowercase_name() -> None:
    head = get(
        b"X-Forwarded-For: 6.6.6.6\r\nA: b\r\nx-forwarded-for:\t7.7.7.7 \r\nX-REQUEST-ID: r\r\nVia: 1.1 x\r\n"
        b"Forwarded: for=x\r\nX-Original-URL: /admin\r\nssl-client-verify: SUCCESS\r\n"
    )
    assert head.fields == [b"A: b"]
    assert head.special == {
        b"x-forwarded-for": [b"6.6.6.6", b"7.7.7.7"],
        b"x-request-id": [b"r"],
        b"via": [b"1.1 x"],
        b"forwarded": [b"for=x"],
        b"x-original-url": [b"/admin"],
        b"ssl-client-verify": [b"SUCCESS"],
    }
    assert get(b"A: b\r\n").special is None


def test_noted_fields_are_forwarded_too_and_the_first_counts() -> None:
    lines = [b"User-Agent: one", b"user-agent: two", b"Referer:  r ", b"Accept-Encoding: gzip", b"accept-encoding: br"]
    head = get(b"".join(line + b"\r\n" for line in lines))
    assert head.fields == lines
    assert (head.user_agent, head.referer, head.accept_encoding) == (b"one", b"r", b"gzip")
    bare = get(b"")
    assert (bare.user_agent, bare.referer, bare.accept_encoding) == (None, None, None)


def test_max_forwards_is_set_aside_for_options_only() -> None:
    """RFC 9110, 7.6.2: Max-Forwards "provides a mechanism with the TRACE and OPTIONS request methods"."""
    lines = b"Host: a.example\r\nMax-Forwards: 5\r\n\r\n"
    options, _ = accepted(b"OPTIONS /x HTTP/1.1\r\n" + lines)
    assert (options.fields, options.special) == ([], {b"max-forwards": [b"5"]})
    other, _ = accepted(b"GET /x HTTP/1.1\r\n" + lines)
    assert (other.fields, other.special) == ([b"Max-Forwards: 5"], None)
