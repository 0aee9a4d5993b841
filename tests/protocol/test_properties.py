"""Round trips over generated messages, and agreement with httptools and h11 on all that we accept."""

from hypothesis import given, settings
from hypothesis import strategies as st
from protocol.oracles import h11_request, h11_response, httptools_request, httptools_response
from protocol.reading import accepted, accepted_response, read

from ingressd.protocol.chunked import LAST_CHUNK, ChunkedDecoder, chunk
from ingressd.protocol.h1 import HeadLimits

LIMITS = HeadLimits(head_bytes=65536)


def text(alphabet: str, *, smallest: int = 0, largest: int = 20) -> st.SearchStrategy[bytes]:
    return st.text(alphabet, min_size=smallest, max_size=largest).map(lambda chosen: chosen.encode("latin-1"))


ALNUM = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
VALUE = "".join(map(chr, [9, *range(0x20, 0x7F), *range(0x80, 0x100)]))
methods = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"PROPFIND", b"COPY"])
paths = text(VISIBLE.replace("#", "").replace("\\", "").replace("?", "")).map(lambda rest: b"/" + rest)
queries = st.none() | text(VISIBLE.replace("#", "")).map(lambda rest: b"?" + rest)
hosts = st.sampled_from([b"a.example", b"A.b-c.example:8080", b"[::1]:443", b"localhost", b"10.0.0.1"])
names = text(ALNUM + "-", smallest=1).map(lambda name: b"X-" + name)
blanks = text(" \t", largest=3)
fields = st.lists(
    st.builds(
        lambda name, before, value, after: name + b":" + before + value + after, names, blanks, text(VALUE), blanks
    ),
    max_size=12,
)
bodies = st.none() | st.binary(max_size=60) | st.lists(st.binary(min_size=1, max_size=30), max_size=5)
"""None: no body; bytes: by length; a list: by chunks."""


def framed(body: bytes | list[bytes] | None) -> tuple[list[bytes], bytes, bytes]:
    """(framing lines, body on the wire, payload)."""
    if body is None:
        return [], b"", b""
    if isinstance(body, bytes):
        return [b"Content-Length: %d" % len(body)], body, body
    return [b"Transfer-Encoding: chunked"], b"".join(map(chunk, body)) + LAST_CHUNK, b"".join(body)


@settings(max_examples=150, deadline=None)
@given(methods, paths, queries, hosts, fields, bodies)
def test_request_says_what_was_written(
    method: bytes, path: bytes, query: bytes | None, host: bytes, lines: list[bytes], body: bytes | list[bytes] | None
) -> None:
    framing, wire, payload = framed(body)
    target = path + (query or b"")
    start = b"%b %b HTTP/1.1" % (method, target)
    data = b"\r\n".join([start, *lines, b"Host: " + host, *framing, b"", wire])
    head, read_body = accepted(data, LIMITS)
    assert (head.method, head.target, head.path, head.host) == (method, target, path, host)
    assert head.fields == [
        line for line in lines if not (head.special and line.partition(b":")[0].lower() in head.special)
    ]
    assert read_body == payload
    assert (head.content_length, head.chunked) == (
        len(payload) if isinstance(body, bytes) else None,
        isinstance(body, list),
    )
    for theirs in (httptools_request(data), h11_request(data)):
        assert theirs[0] == target
        assert theirs[2:] == (payload, 1)
        assert [value for name, value in theirs[1] if name.startswith(b"x-")] == [
            line.partition(b":")[2].strip(b" \t") for line in lines
        ]


@settings(max_examples=150, deadline=None)
@given(st.integers(200, 599).filter(lambda status: status not in (204, 304)), text(VALUE), fields, bodies)
def test_response_says_what_was_written(
    status: int, reason: bytes, lines: list[bytes], body: bytes | list[bytes] | None
) -> None:
    framing, wire, payload = framed(b"" if body is None else body)
    data = b"\r\n".join([b"HTTP/1.1 %d %b" % (status, reason), *framing, *lines, b"", wire])
    head, read_body = accepted_response(data, LIMITS)
    assert (head.status, head.reason) == (status, reason)
    assert head.fields == [
        line for line in lines if not (head.special and line.partition(b":")[0].lower() in head.special)
    ]
    assert read_body == payload
    for theirs in (httptools_response(data), h11_response(data, b"GET")):
        assert theirs[0] == b"%d" % status
        assert theirs[2:] == (payload, 1)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=8), st.data())
def test_chunks_survive_any_cut(payloads: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(map(chunk, payloads)) + LAST_CHUNK
    decoder = ChunkedDecoder()
    decoded = b""
    position = 0
    while position < len(wire):
        size = data.draw(st.integers(1, len(wire) - position))
        part, consumed = decoder.feed(wire[position : position + size])
        assert consumed == size
        decoded += part
        position += size
    assert decoder.done
    assert decoded == b"".join(payloads)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Whatever comes, the stream of requests behind a good one is untouched by it, and no other error escapes."""
    good = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
    stream = read([good, data], LIMITS)
    assert stream.messages[0][0]["target"] == b"/"
    assert stream.refused in (None, 400, 405, 414, 417, 431, 501, 505)
