"""RFC 9112, section 2: where a head ends; limits and impossible bytes are told at once, not at the deadline."""

import pytest
from protocol.reading import SECOND, read, refused, single_bytes

from ingressd.protocol.h1 import HeadError, HeadLimits, find_head_end, parse_request_head

GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"


def test_end_is_just_past_the_empty_line() -> None:
    assert find_head_end(GET + b"rest") == len(GET)
    assert find_head_end(b"xx" + GET + GET, 2) == 2 + len(GET)
    assert find_head_end(bytearray(GET)) == len(GET)


def test_more_is_needed_until_then() -> None:
    for size in range(len(GET)):
        assert find_head_end(GET[:size]) == -1
        assert find_head_end(GET[:size], scanned=size) == -1


@pytest.mark.parametrize("start", [0, 3])
def test_hint_never_changes_the_answer(start: int) -> None:
    """Whatever was seen before, and wherever a read ended, the end found is the same."""
    data = b"\r\n\n"[:start] + GET
    for scanned in range(len(data)):
        assert find_head_end(data, start, scanned=scanned) == len(data)


def test_one_empty_line_before_a_request_is_skipped() -> None:
    """RFC 9112, 2.2: "a server ... SHOULD ignore at least one empty line (CRLF) received prior to the request-line"."""
    head = parse_request_head(b"\r\n" + GET, HeadLimits())
    assert head.target == b"/"
    for pieces in ([b"\r\n" + GET + b"\r\n" + SECOND], single_bytes(b"\r\n" + GET + b"\r\n" + SECOND)):
        stream = read(pieces)
        assert (len(stream.messages), stream.clean) == (2, True)


@pytest.mark.parametrize("lines", [b"\r\n\r\n", b"\r\n" * 2000, b"\n", b"\r\n\n", b"\r\r\n", b"\r\n\r\r"])
def test_more_before_a_request_is_400(lines: bytes) -> None:
    assert refused(lines + GET) == 400


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/1.1\nHost: a.example\n\n",
        b"GET / HTTP/1.1\r\nHost: a.example\r\n\n",
        b"GET / HTTP/1.1\r\nHost: a\n",
        b"GET / HTTP/1.1\rH",
        b"GET / HTTP/1.1\r\nA: b\r\r",
        b"GET / HTTP/1.1\r\nA: \x00",
        b"GET /x\r\n",
        b"\x16\x03\x01",
        b"\x00",
        b" ",
        b"\x81\x85",
        b"BAD\r\n",
        b"\r\nBAD\r\n",
        b"get / HTTP/1.1\r\n",
    ],
)
def test_what_can_never_become_a_head_is_refused_at_once(start: bytes) -> None:
    """A peer that speaks another protocol must not wait for the head deadline to be told."""
    assert read([start]).refused == 400
    assert read(single_bytes(start)).refused == 400
    assert read([GET, start]).refused == 400


def test_carriage_return_at_the_end_may_still_be_half_of_a_line_end() -> None:
    assert find_head_end(b"GET / HTTP/1.1\r") == -1
    assert find_head_end(b"GET / HTTP/1.1\r\n\r") == -1


LIMITS = HeadLimits(request_line_bytes=100, field_line_bytes=200, head_bytes=400, max_fields=3)


def line_of(size: int) -> bytes:
    return b"GET /" + b"a" * (size - 14) + b" HTTP/1.1"


def field_of(size: int) -> bytes:
    return b"X: " + b"a" * (size - 3)


@pytest.mark.parametrize(("size", "status"), [(99, None), (100, None), (101, 414), (5000, 414)])
def test_request_line_limit(size: int, status: int | None) -> None:
    """RFC 9112, 3: "a request-target longer than any URI it wishes to parse MUST respond with a 414"."""
    data = line_of(size) + b"\r\nHost: a\r\n\r\n"
    for pieces in ([data], single_bytes(data)):
        assert read(pieces, LIMITS).refused == status


@pytest.mark.parametrize(("size", "status"), [(199, None), (200, None), (201, 431), (5000, 431)])
def test_field_line_limit(size: int, status: int | None) -> None:
    """RFC 6585, 5: 431 "when a single header field is at fault"."""
    data = b"GET / HTTP/1.1\r\nHost: a\r\n" + field_of(size) + b"\r\n\r\n"
    for pieces in ([data], single_bytes(data)):
        assert read(pieces, LIMITS).refused == status


@pytest.mark.parametrize(("size", "status"), [(399, None), (400, None), (401, 431)])
def test_head_limit(size: int, status: int | None) -> None:
    """RFC 6585, 5: 431 "when the total size of request header fields is too large"."""
    start = b"GET / HTTP/1.1\r\nHost: a\r\n" + field_of(190) + b"\r\n"
    data = start + field_of(size - len(start) - 4) + b"\r\n\r\n"
    assert len(data) == size
    for pieces in ([data], single_bytes(data)):
        assert read(pieces, LIMITS).refused == status


@pytest.mark.parametrize(("count", "status"), [(2, None), (3, None), (4, 431)])
def test_field_count_limit(count: int, status: int | None) -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * (count - 1) + b"\r\n"
    for pieces in ([data], single_bytes(data)):
        assert read(pieces, LIMITS).refused == status


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"a" * 1_000_000, 414),
        (b"A" * 1_000_000, 501),
        (b"GET / HTTP/1.1\r\n" + b"a" * 1_000_000, 431),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 1_000_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100_000, 431),
    ],
)
def test_endless_head_is_refused_when_its_limit_is_passed(data: bytes, status: int) -> None:
    assert read([data], HeadLimits()).refused == status
    stream = read((data[i : i + 1000] for i in range(0, 50_000, 1000)), HeadLimits())
    assert stream.refused == status


def test_limits_of_an_unfinished_response_are_502() -> None:
    with pytest.raises(HeadError) as error:
        find_head_end(b"HTTP/1.1 200 OK\r\nA: " + b"a" * 1000, limits=LIMITS, response=True)
    assert error.value.status == 502


def test_slow_sender_is_looked_at_once() -> None:
    """With the hint, each byte of a head is counted once: the work is a few looks a byte, not one at all before it."""

    class Counting(bytes):
        looked_at = 0

        def count(self, sub, start=0, end=None):  # type: ignore[no-untyped-def,override]
            Counting.looked_at += len(self) - start
            return super().count(sub, start)

        def find(self, sub, start=0, end=None):  # type: ignore[no-untyped-def,override]
            found = super().find(sub, start)
            Counting.looked_at += (len(self) if found < 0 else found) - start
            return found

    data = b"GET / HTTP/1.1\r\n" + b"A: bcdefgh\r\n" * 90
    limits = HeadLimits()
    for size in range(1, len(data) + 1):
        assert find_head_end(Counting(data[:size]), scanned=size - 1, limits=limits) == -1
    assert Counting.looked_at < 20 * len(data)
