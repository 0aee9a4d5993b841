"""RFC 9112, section 7.1: the chunked coding, read strictly and written canonically."""

import pytest
from protocol.reading import single_bytes

from ingressd.protocol.chunked import (
    EXCESS_BYTES,
    LAST_CHUNK,
    SIZE_LINE_BYTES,
    TRAILER_BYTES,
    BodyError,
    ChunkedDecoder,
    chunk,
)

BEHIND = b"GET /second HTTP/1.1\r\nHost: second.example\r\n\r\n"


def decode(body: bytes, *, response: bool = False) -> bytes:
    """The payload of one whole body: in one piece, in single bytes, with a request behind it."""
    decoder = ChunkedDecoder(response=response)
    payload, consumed = decoder.feed(b"head" + body + BEHIND, 4)
    assert decoder.done
    assert consumed == 4 + len(body)
    slow = ChunkedDecoder(response=response)
    parts = []
    for i, byte in enumerate(single_bytes(body)):
        assert not slow.done
        part, consumed = slow.feed(byte)
        assert consumed == 1, i
        parts.append(part)
    assert slow.done
    assert b"".join(parts) == payload
    assert slow.feed(BEHIND) == (b"", 0)
    return payload


def refused(body: bytes, *, response: bool = False) -> int:
    statuses = set()
    for pieces in ([body], [body + BEHIND], single_bytes(body)):
        decoder = ChunkedDecoder(response=response)
        with pytest.raises(BodyError) as error:
            for piece in pieces:
                decoder.feed(piece)
        assert not decoder.done
        statuses.add(error.value.status)
    (status,) = statuses
    return status


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"0a\r\n0123456789\r\n00\r\n\r\n", b"0123456789"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b"000000000000001\r\nx\r\n0\r\n\r\n", b"x"),
    ],
)
def test_chunks(body: bytes, payload: bytes) -> None:
    """chunked-body = *chunk last-chunk trailer-section CRLF."""
    assert decode(body) == payload


@pytest.mark.parametrize(
    "size",
    [
        b"+5",
        b"-5",
        b"",
        b"5.",
        b" 5",
        b"\t5",
        b"5 ",
        b"5\t",
        b"0x5",
        b"5\r",
        b"\n5",
        b"5h",
        b"INVALID!!!",
        b"0_5",
        b"\xd9\xa5",
        b"fffffffffffffffff",
        b"00000000000000005",
        b"1000000000000001",
    ],
)
def test_malformed_size_is_400(size: bytes) -> None:
    """chunk-size = 1*HEXDIG; RFC 9112, 7.1: "recipients MUST anticipate potentially large hexadecimal numerals"."""
    assert refused(size + b"\r\nhello\r\n0\r\n\r\n") == 400


def test_largest_size() -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b"1000000000000000\r\nhello") == (b"hello", 23)
    assert not decoder.done


@pytest.mark.parametrize("end", [b"\n", b"\rX", b"", b"XX", b"\r\n\r\n", b"X\r\n", b"\r\r\n", b" \r\n", b"\n\r\n"])
def test_data_without_crlf_behind_is_400(end: bytes) -> None:
    """chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF."""
    assert refused(b"5\r\nhello" + end + b"0\r\n\r\n") == 400


@pytest.mark.parametrize("line", [b"5\n", b"5\rX", b"5\r\r\n", b"5;\n", b"5;a\nb\r\n", b"5;a\rb\r\n", b"\n", b"\r\n"])
def test_bare_cr_or_lf_in_a_size_line_is_400(line: bytes) -> None:
    """RFC 9112, 2.2: "A sender MUST NOT generate a bare CR"; a lone LF ends a line for some parsers only."""
    assert refused(line + b"hello\r\n0\r\n\r\n") == 400


@pytest.mark.parametrize(
    "end",
    [
        b"0\n\r\n",
        b"0\r\n\n",
        b"0\r\nXXGET / HTTP/1.1\r\n",
        b"0\r\n\rX",
        b"0\r\r\n\r\n",
        b"0;\x00\r\n\r\n",
        b"0 \r\n\r\n",
    ],
)
def test_malformed_end_is_400(end: bytes) -> None:
    assert refused(b"5\r\nhello\r\n" + end) == 400


@pytest.mark.parametrize(
    "extension", [b";a", b";a=b", b';a="b c"', b';a="\\""', b";a=b;c;d=e", b';a=""', b';a="\xc3\xa9;\t"']
)
def test_extensions_are_dropped(extension: bytes) -> None:
    """RFC 9112, 7.1.1: "A recipient MUST ignore unrecognized chunk extensions"."""
    assert decode(b"5" + extension + b"\r\nhello\r\n0" + extension + b"\r\n\r\n") == b"hello"


@pytest.mark.parametrize(
    "extension",
    [
        b";",
        b";=b",
        b";a=",
        b";a[=b",
        b';a="b',
        b';a="b"c',
        b";a\x7f=b",
        b";a\x00b",
        b';a="\x00"',
        b';a="\r"',
        b";a b",
        b" ;a",
        b"; a",
        b";a =b",
        b";a= b",
        b";a;",
        b"g",
        b",a",
    ],
)
def test_malformed_extension_is_400(extension: bytes) -> None:
    """chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] ), and "bad" whitespace is refused."""
    assert refused(b"5" + extension + b"\r\nhello\r\n0\r\n\r\n") == 400


def test_blanks_after_the_size_are_forgiven_in_responses() -> None:
    """Old servers pad the size. We are the only reader, so nobody can disagree with us."""
    assert decode(b"5  \r\nhello\r\n0\t\r\n\r\n", response=True) == b"hello"
    assert decode(b"5 ; a = b \r\nhello\r\n0\r\n\r\n", response=True) == b"hello"
    for size in (b" 5", b"5\n", b"5 5", b"0x5", b"5 ;", b"5 a"):
        assert refused(size + b"\r\nhello\r\n0\r\n\r\n", response=True) == 400


def test_size_line_is_bounded() -> None:
    fits = b"5;" + b"a" * (SIZE_LINE_BYTES - 4) + b"\r\n"
    assert len(fits) == SIZE_LINE_BYTES
    assert decode(fits + b"hello\r\n0\r\n\r\n") == b"hello"
    assert refused(b"5;" + b"a" * (SIZE_LINE_BYTES - 3) + b"\r\nhello\r\n0\r\n\r\n") == 400
    assert refused(b"5;" + b"a" * 1_000_000) == 400


def test_framing_may_not_outweigh_the_payload() -> None:
    """Else a peer makes us parse a kilobyte for each byte it delivers."""
    one = b"1;" + b"a" * 500 + b"\r\nx\r\n"
    few = EXCESS_BYTES // 500
    assert decode(one * few + b"0\r\n\r\n") == b"x" * few
    assert refused(one * (few + 2)) == 400
    assert decode(b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n") == b"x" * 20_000


@pytest.mark.parametrize(
    "trailers",
    [
        b"X: a\r\n",
        b"Connection: close\r\n",
        b"Authorization: Bearer evil\r\nCookie: a\r\n",
        b"X-Forwarded-For: 6.6.6.6\r\n",
        b"X:\r\nY: \xc3\xa9\t\r\n",
        b"X_Y.Z: a\r\n",
    ],
)
def test_trailers_are_dropped(trailers: bytes) -> None:
    """RFC 9110, 6.5.1: "a recipient MUST NOT merge trailer fields into the header section" unless it knows them."""
    assert decode(b"5\r\nhello\r\n0\r\n" + trailers + b"\r\n") == b"hello"


@pytest.mark.parametrize(
    "trailer",
    [
        b"X: a\r\n b\r\n",
        b"X : a\r\n",
        b"X: a\n",
        b"X\r\n",
        b": a\r\n",
        b" \r\n",
        b"X: \x00\r\n",
        b"X: a\rb\r\n",
        b"\xe9: a\r\n",
    ],
)
def test_malformed_trailer_is_400(trailer: bytes) -> None:
    assert refused(b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n") == 400


@pytest.mark.parametrize("trailer", [b"Transfer-Encoding: chunked\r\n", b"content-LENGTH: 5\r\n"])
def test_framing_in_trailers_is_400_in_a_request_and_dropped_in_a_response(trailer: bytes) -> None:
    """RFC 9110, 6.5.1: trailers must not be "necessary for message framing"; llhttp and h11 refuse them too."""
    assert refused(b"5\r\nhello\r\n0\r\nX: a\r\n" + trailer + b"\r\n") == 400
    assert decode(b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n", response=True) == b"hello"


def test_trailers_are_bounded() -> None:
    fits = b"X: " + b"a" * (TRAILER_BYTES - 5) + b"\r\n"
    assert decode(b"0\r\n" + fits + b"\r\n") == b""
    assert refused(b"0\r\nX" + fits + b"\r\n") == 400
    assert refused(b"0\r\n" + b"X: a\r\n" * TRAILER_BYTES) == 400
    assert refused(b"0\r\n" + b"X" * 100_000) == 400


def test_payload_is_handed_on_before_its_chunk_ends() -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b"5\r\nhe") == (b"he", 5)
    assert decoder.feed(b"ll") == (b"ll", 2)
    assert decoder.feed(b"o\r\n0\r") == (b"o", 5)
    assert decoder.feed(b"\n") == (b"", 1)
    assert not decoder.done
    assert decoder.feed(b"\r\nnext") == (b"", 2)
    assert decoder.done


def test_large_chunk_is_not_held() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"100000\r\n")
    piece = b"a" * 65536
    for _ in range(16):
        assert decoder.feed(piece)[0] is piece
    assert decoder.feed(b"\r\n0\r\n\r\n") == (b"", 7)


def test_chunk_is_canonical() -> None:
    """No leading zeros, no extensions, and never the chunk that would end the message."""
    assert chunk(b"hello") == b"5\r\nhello\r\n"
    assert chunk(b"a" * 26) == b"1a\r\n" + b"a" * 26 + b"\r\n"
    assert chunk(b"") == b""
    assert decode(chunk(b"hello") + chunk(b"") + chunk(b" world") + LAST_CHUNK) == b"hello world"
