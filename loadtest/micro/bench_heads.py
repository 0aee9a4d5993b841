"""Heads: ours warm and cold against httptools, h11, and a plain regular expression, on the same bytes.

Run: python loadtest/micro/bench_heads.py
Goals, pure Python: small head 1.2 us, browser's head 3 us warm and 8 us cold, response head 2.5 us.
"""

from __future__ import annotations

import re
import timeit

import h11
import httptools

from ingressd.protocol import h1
from ingressd.protocol.chunked import LAST_CHUNK, ChunkedDecoder, chunk

SMALL = b"GET /bench HTTP/1.1\r\nHost: bench.example\r\n\r\n"
COLD_HEADS = 300
BROWSER_LINES = (
    b"GET /api/v1/items?page=%d&size=50 HTTP/1.1",
    b"Host: shop-%d.example.com",
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 Safari/537.36",
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8,x/%d",
    b"Accept-Language: en-GB,en;q=0.9,de;q=0.%d",
    b"Accept-Encoding: gzip, deflate, br, zstd, x-%d",
    b"Connection: keep-alive",
    b"Referer: https://shop.example.com/catalogue/%d",
    b"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=%d",
    b"Sec-Fetch-Dest: document-%d",
    b"Sec-Fetch-Mode: navigate-%d",
    b"Upgrade-Insecure-Requests: %d",
)
BROWSER = b"\r\n".join([line.replace(b", x-%d", b"").replace(b"%d", b"1") for line in BROWSER_LINES]) + b"\r\n\r\n"
RESPONSE_LINES = (
    b"HTTP/1.1 200 OK",
    b"Server: nginx/1.%d",
    b"Date: Mon, 24 Nov 2026 10:00:%d GMT",
    b"Content-Type: text/plain; v=%d",
    b"Content-Length: %d",
    b"Connection: keep-alive",
    b"Cache-Control: max-age=%d",
)
RESPONSE = b"\r\n".join([line.replace(b", x-%d", b"").replace(b"%d", b"1") for line in RESPONSE_LINES]) + b"\r\n\r\n"

_FIELDS = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*\r\n").findall


class Callbacks:
    """The least that httptools' callbacks can do: keep what they are given."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.url = b""

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))


def with_httptools(head: bytes) -> None:
    callbacks = Callbacks()
    httptools.HttpRequestParser(callbacks).feed_data(head)


def with_httptools_response(head: bytes) -> None:
    httptools.HttpResponseParser(Callbacks()).feed_data(head)


def with_httptools_named(head: bytes) -> None:
    """httptools, and then the names looked up, as anybody must who forwards: the values are still unchecked."""
    callbacks = Callbacks()
    httptools.HttpRequestParser(callbacks).feed_data(head)
    kinds = {}
    for name, value in callbacks.fields:
        kinds[name.lower()] = value


def with_h11(head: bytes) -> None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    connection.next_event()


def with_regex(head: bytes) -> None:
    _FIELDS(head, head.find(b"\r\n") + 2)


def per_call_us(statement: str, names: dict[str, object], *, number: int = 50_000) -> float:
    """Best of nine runs, in microseconds a call."""
    return min(timeit.repeat(statement, globals=names, number=number, repeat=9)) / number * 1e6


def cold_us(lines: tuple[bytes, ...], statement: str, names: dict[str, object]) -> float:
    """Heads of which no line was ever seen, only the names of the fields."""
    best = 1e9
    for round_number in range(9):
        first = 10 + round_number * COLD_HEADS
        heads = [
            b"\r\n".join([line.replace(b"%d", b"%d" % i) for line in lines]) for i in range(first, first + COLD_HEADS)
        ]
        own = dict(names, heads=[head + b"\r\n\r\n" for head in heads])
        loop = f"for head in heads: {statement}"
        own["limits"].requests.clear()  # type: ignore[attr-defined]
        own["limits"].responses.clear()  # type: ignore[attr-defined]
        best = min(best, timeit.timeit(loop, globals=own, number=1) / COLD_HEADS * 1e6)
    return best


def main() -> None:
    """Print one line a measurement."""
    limits = h1.HeadLimits()
    names: dict[str, object] = dict(vars(h1), **globals(), limits=limits)
    request = "parse_request_head(head, limits)"
    response = 'parse_response_head(head, method=b"GET", limits=limits)'
    kind = "compiled" if h1.__file__.endswith(".so") else "pure Python"
    print(f"protocol/h1: {kind}")
    for what, statement in {
        "small head (2 lines), ours warm": request.replace("head,", "SMALL,"),
        "small head, httptools": "with_httptools(SMALL)",
        "small head, h11": "with_h11(SMALL)",
        "browser's head (12 lines), ours warm": request.replace("head,", "BROWSER,"),
        "browser's head, find_head_end": "find_head_end(BROWSER, 0, limits=limits)",
        "browser's head, httptools": "with_httptools(BROWSER)",
        "browser's head, httptools and names": "with_httptools_named(BROWSER)",
        "browser's head, one regex, no names": "with_regex(BROWSER)",
        "browser's head, split on CRLF only": 'BROWSER.split(b"\\r\\n")',
        "browser's head, h11": "with_h11(BROWSER)",
        "response head (7 lines), ours warm": response.replace("head,", "RESPONSE,"),
        "response head, httptools": "with_httptools_response(RESPONSE)",
    }.items():
        number = 5_000 if "h11" in statement else 50_000
        print(f"{what:42} {per_call_us(statement, names, number=number):8.2f} us")
    print(f"{'browsers head, ours cold':42} {cold_us(BROWSER_LINES, request, names):8.2f} us")
    print(f"{'response head, ours cold':42} {cold_us(RESPONSE_LINES, response, names):8.2f} us")
    body = chunk(b"a" * 1024) * 64 + LAST_CHUNK
    names.update(body=body, ChunkedDecoder=ChunkedDecoder)
    print(
        f"{'64 chunks of 1 KiB, decoded':42} {per_call_us('ChunkedDecoder().feed(body)', names, number=2000):8.2f} us"
    )


if __name__ == "__main__":
    main()
