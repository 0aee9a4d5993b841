"""RFC 9112, section 6: where a request's body ends. All that two parsers could read differently is refused."""

import pytest
from protocol.reading import accepted, read, refused

START = b"POST /p HTTP/1.1\r\nHost: a.example\r\n"


@pytest.mark.parametrize("value", [b"5", b"  5  ", b"\t5"])
def test_content_length(value: bytes) -> None:
    head, body = accepted(START + b"content-LENGTH:" + value + b"\r\n\r\nhello")
    assert (head.content_length, head.chunked, body) == (5, False, b"hello")
    assert head.fields == []


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"DELETE"])
def test_any_method_may_have_a_body(method: bytes) -> None:
    """RFC 9112, 6: "Request message framing is independent of method semantics"."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"
    length = b"%d" % len(smuggled)
    head, body = accepted(
        method + b" / HTTP/1.1\r\nHost: a.example\r\nContent-Length: " + length + b"\r\n\r\n" + smuggled
    )
    assert (head.content_length, body) == (len(smuggled), smuggled)


def test_no_framing_is_no_body() -> None:
    """RFC 9112, 6.3: "If this is a request message and none of the above are true, then the message body length is
    zero"."""
    head, body = accepted(START + b"\r\n")
    assert (head.content_length, head.chunked, body) == (None, False, b"")
    head, body = accepted(START + b"Content-Length: 0\r\n\r\n")
    assert (head.content_length, body) == (0, b"")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"-5",
        b"-0",
        b"+5",
        b"0x5",
        b"0o5",
        b"1_0",
        b"5e0",
        b"5.0",
        b"5x",
        b"5 5",
        b"5,",
        b"5,5",
        b"5, 5",
        b'"5"',
        b"05",
        b"00",
        b"0000000000000000000005",
        b"\xa05",
        b"\xd9\xa5",
        b"\xef\xbc\x95",
        b"\x0b5",
        b"5\x00",
        b"18446744073709551621",
        b"1" * 19,
        b"9" * 400,
        b"five",
    ],
)
def test_malformed_content_length_is_400(value: bytes) -> None:
    """RFC 9112, 6.3: a message with "an invalid Content-Length ... the recipient MUST treat it as an unrecoverable
    error"."""
    assert refused(START + b"Content-Length: " + value + b"\r\n\r\nhello") == 400


def test_largest_content_length() -> None:
    stream = read([START + b"Content-Length: " + b"9" * 18 + b"\r\n\r\n"])
    assert stream.refused is None
    assert not stream.clean


@pytest.mark.parametrize("second", [b"5", b"6", b""])
def test_second_content_length_is_400(second: bytes) -> None:
    """RFC 9112, 6.3 lets equal ones be merged; refusing leaves nothing to disagree about."""
    assert refused(START + b"Content-Length: 5\r\nContent-Length: " + second + b"\r\n\r\nhello") == 400
    assert refused(START + b"Content-Length: " + second + b"\r\ncontent-length: 5\r\n\r\nhello") == 400


@pytest.mark.parametrize(
    "line", [b"Transfer-Encoding: chunked", b"tRANSFER-eNCODING:cHuNkEd", b"Transfer-Encoding:\tchunked\t "]
)
def test_chunked(line: bytes) -> None:
    """RFC 9112, 7: "All transfer-coding names are case-insensitive"."""
    head, body = accepted(START + line + b"\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
    assert (head.content_length, head.chunked, body) == (None, True, b"hello world")
    assert head.fields == []


@pytest.mark.parametrize(
    "order", [b"Content-Length: 4\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 4"]
)
def test_content_length_and_transfer_encoding_is_400(order: bytes) -> None:
    """RFC 9112, 6.1: "A server MAY reject a request that contains both"."""
    assert refused(START + order + b"\r\n\r\n0\r\n\r\n") == 400


@pytest.mark.parametrize(
    "value", [b"xchunked", b"chunkedx", b"chunk", b"identity", b"cow", b"gzip, chunked", b"gzip", b""]
)
@pytest.mark.parametrize("length", [b"", b"Content-Length: 5\r\n"])
def test_unknown_transfer_coding_is_501(value: bytes, length: bytes) -> None:
    """RFC 9112, 6.1: "a transfer coding it does not understand SHOULD respond with 501 (Not Implemented)"."""
    assert refused(START + b"Transfer-Encoding: " + value + b"\r\n" + length + b"\r\n0\r\n\r\n") == 501


@pytest.mark.parametrize(
    "value",
    [
        b'"chunked"',
        b"chunked, identity",
        b"chunked, chunked",
        b"cow chunked bar",
        b"chunked;q=1",
        b"chunk\\ed",
        b"ch\x96nked",
        b"\xa0chunked",
        b"\xffchunked",
        b"chunked,",
        b",chunked",
        b"\x00chunked",
        b"chunked\x08",
        b"\x0cchunked",
        b"\rchunked",
        b"chunked\r",
        b"chunked\x1f",
        b"chunked\x7f",
        b"\r\n chunked",
    ],
)
@pytest.mark.parametrize("length", [b"", b"Content-Length: 5\r\n"])
def test_malformed_transfer_coding_is_400(value: bytes, length: bytes) -> None:
    """RFC 9112, 6.3: chunked "is not the final encoding, the message body length cannot be determined reliably; the
    server MUST respond with the 400 (Bad Request) status code and then close the connection"."""
    assert refused(START + b"Transfer-Encoding: " + value + b"\r\n" + length + b"\r\n0\r\n\r\n") == 400


@pytest.mark.parametrize("first", [b"chunked", b"identity"])
def test_second_transfer_encoding_is_400(first: bytes) -> None:
    assert refused(START + b"Transfer-Encoding: " + first + b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") == 400


@pytest.mark.parametrize("length", [b"", b"Content-Length: 5\r\n"])
def test_transfer_encoding_in_http_1_0_is_400(length: bytes) -> None:
    """RFC 9112, 6.1: "MUST treat the message as if the framing is faulty"."""
    start = b"POST /p HTTP/1.0\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n"
    assert refused(start + length + b"\r\n0\r\n\r\n") == 400


@pytest.mark.parametrize(
    "name",
    [
        b"Transfer Encoding",
        b"Transfer\\Encoding",
        b"Transfer-Encoding\x85",
        b"Transfer-Encoding\r",
        b"X: y\rTransfer-Encoding",
    ],
)
def test_disguised_transfer_encoding_is_400(name: bytes) -> None:
    assert refused(START + name + b": chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n") == 400


def test_body_that_looks_like_a_request_is_a_body() -> None:
    """A body ends by its length only; what follows is the next request, here a malformed one."""
    start = b"GET /m HTTP/1.1\r\nHost: a.example\r\nContent-Length: 23\r\n\r\n"
    stream = read([start + b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"])
    assert [body for _, body in stream.messages] == [b"GET /smuggled HTTP/1.1\r"]
    assert stream.refused == 400
