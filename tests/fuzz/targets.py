"""What must hold for any bytes at all. Each check takes bytes and fails only when the codec broke a promise.

- Nothing but HeadError and BodyError comes out, with a status of the contract.
- How the bytes are cut into reads changes nothing.
- What is accepted leaves as one message of a strict grammar written here once more, independently of the codec.
- httptools and h11 read what is accepted just as we do: same fields, same body, same end.
"""

from __future__ import annotations

import random
import re
from ipaddress import ip_address

from protocol.oracles import (
    LLHTTP_METHODS,
    Read,
    h11_request,
    h11_response,
    httptools_request,
    httptools_response,
)
from protocol.reading import Message, Stream

from ingressd.protocol.chunked import LAST_CHUNK, BodyError, ChunkedDecoder, chunk
from ingressd.protocol.client_hello import parse_client_hello
from ingressd.protocol.h1 import UNTIL_CLOSE, HeadLimits
from ingressd.protocol.proxy_protocol import ProxyHeaderError, parse_proxy_header

REQUEST_STATUSES = frozenset({400, 405, 414, 417, 431, 501, 505})
_REQUEST_LINE = re.compile(rb"[A-Z_-]+ (\*|/[\x21\x22\x24-\x7e]*) HTTP/1\.1").fullmatch
_STATUS_LINE = re.compile(rb"HTTP/1\.1 [1-9][0-9]{2} [\t\x20-\x7e\x80-\xff]*").fullmatch
_FIELD_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*").fullmatch
_HOST = re.compile(rb"([0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?|").fullmatch
_MENDED = re.compile(rb"\r\n[ \t]|[ \t]:|\r\n[0-9A-Fa-f]+[ \t]").search
# llhttp does not take a tab behind "chunked" for the optional whitespace that it is (RFC 9110, 5.5).
_LLHTTP_FAULT = re.compile(rb"chunked[ \t]*\t", re.IGNORECASE).search
_FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding|upgrade|connection):", re.IGNORECASE).findall
_NEVER = frozenset(
    b"content-length transfer-encoding connection keep-alive proxy-connection te trailer upgrade".split()
)


class Checker:
    """One run of checks; keeps a policy, and so its cache, for as long as a process would."""

    def __init__(self, *, seed: int = 0, slow_oracle_every: int = 1) -> None:
        self.random = random.Random(seed)
        self.limits = HeadLimits(request_line_bytes=2000, field_line_bytes=2000, head_bytes=6000, max_fields=30)
        self.slow_oracle_every = slow_oracle_every
        self.accepted = 0
        self.refused = 0

    def close(self) -> None:
        """Nothing is held."""

    def pieces(self, data: bytes) -> list[bytes]:
        """`data` cut at random places."""
        if self.random.random() < 0.2:
            return [data[i : i + 1] for i in range(len(data))]
        cuts = sorted(self.random.randrange(len(data) + 1) for _ in range(self.random.randrange(4)))
        return [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    def read(self, data: bytes, *, method: bytes | None) -> Stream:
        """Whole, and once more in pieces."""
        whole = Stream(self.limits, method=method)
        whole.receive(data)
        cut = Stream(self.limits, method=method)
        for piece in self.pieces(data):
            cut.receive(piece)
        assert cut.messages == whole.messages
        # With two faults in one head, which of them is seen first depends on the pieces; and a line too long that is
        # complete in a head that is not, is told when the head ends.
        assert whole.refused is None or cut.refused is not None, whole.reason
        assert cut.refused is None or not whole.clean, cut.reason
        if whole.refused is None:
            self.accepted += len(whole.messages)
        else:
            self.refused += 1
        return whole

    # ------------------------------------------------------------------------------------------------ targets
    def request(self, data: bytes) -> None:
        stream = self.read(data, method=None)
        assert stream.refused is None or stream.refused in REQUEST_STATUSES
        for head, body in stream.messages:
            check_fields(head["fields"], never=_NEVER | {b"host", b"expect"})
            again = Stream(HeadLimits(drop_invalid=False, underscores=True))
            again.receive(forwarded_request(head, body))
            assert again.clean, again.reason
            ((seen, seen_body),) = again.messages
            for name in ("method", "target", "fields", "host", "content_length", "chunked"):
                assert seen[name] == head[name], name
            assert seen_body == body
        self.judge_requests(data, stream)

    def judge_requests(self, data: bytes, stream: Stream) -> None:
        """Each message that we read whole, read once more by others from exactly the bytes that it took."""
        position = 0
        for message in stream.messages:
            size = request_size(data[position:], self.limits)
            raw = data[position : position + size].removeprefix(b"\r\n")  # h11 takes no empty line before a request.
            position += size
            if message[0]["method"] in LLHTTP_METHODS and not _LLHTTP_FAULT(raw):
                same_as_ours(message, httptools_request(raw))
            if self.random.randrange(self.slow_oracle_every) == 0:
                same_as_ours(message, h11_request(raw))
            if not message[0]["keep_alive"]:
                break

    def response(self, data: bytes) -> None:
        method = self.random.choice((b"GET", b"GET", b"HEAD"))
        stream = self.read(data, method=method)
        assert stream.refused is None or stream.refused in (400, 502)
        for head, _ in stream.messages:
            check_fields(head["fields"])
            assert _STATUS_LINE(b"HTTP/1.1 %d %b" % (head["status"], head["reason"]))
        if stream.clean and len(stream.messages) == 1 and stream.messages[0][0]["status"] >= 200:
            message = stream.messages[0]
            framing_lines = len(_FRAMING(data))
            # What a proxy must mend (RFC 9112, 5.1 and 5.2) or may forgive, others refuse; and they take a trailer
            # named like a framing field for one.
            if _MENDED(data) or (message[0]["chunked"] and framing_lines > 1):
                return
            # llhttp does not know that the request was a HEAD, and takes no two equal lengths.
            if method != b"HEAD" and framing_lines < 2 and not _LLHTTP_FAULT(data):
                same_as_ours(message, httptools_response(data), response=True)
            if self.random.randrange(self.slow_oracle_every) == 0:
                same_as_ours(message, h11_response(data, method), response=True)

    def chunked(self, data: bytes) -> None:
        for response in (False, True):
            results = []
            for pieces in ([data], self.pieces(data)):
                decoder = ChunkedDecoder(response=response)
                payload = b""
                taken = 0
                status = None
                try:
                    for piece in pieces:
                        part, consumed = decoder.feed(piece)
                        assert 0 <= consumed <= len(piece)
                        assert decoder.done or consumed == len(piece)
                        payload += part
                        taken += consumed
                except BodyError as error:
                    status = error.status
                    assert not decoder.done
                    taken = -1
                    payload = b""
                results.append((payload, taken, status, decoder.done))
            assert results[0] == results[1]
            payload, taken, status, done = results[0]
            assert status in (None, 400)
            if done:
                self.accepted += 1
                canonical = chunk(payload) + LAST_CHUNK
                assert ChunkedDecoder().feed(canonical) == (payload, len(canonical))
                if not response:
                    start = b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"
                    assert httptools_request(start + data[:taken])[2:] == (payload, 1)
            elif status is not None:
                self.refused += 1

    def client_hello(self, data: bytes) -> None:
        seen: list[object] = []
        for end in {len(data), self.random.randrange(len(data) + 1)}:
            try:
                hello = parse_client_hello(data[:end])
            except ValueError:
                self.refused += 1
                continue
            if hello is not None:
                self.accepted += 1
                assert hello.sni is None or (hello.sni == hello.sni.lower() and hello.sni.isascii())
                assert all(hello.alpn)
                seen.append((hello.sni, hello.alpn, hello.versions))
        assert len(set(seen)) <= 1

    def proxy_header(self, data: bytes) -> None:
        """No beginning is refused when the whole is not, and none is taken for less."""
        try:
            whole = parse_proxy_header(data)
        except ProxyHeaderError:
            self.refused += 1
            return
        end = self.random.randrange(len(data) + 1)
        part = parse_proxy_header(data[:end])
        if whole is None:
            assert part is None
            return
        self.accepted += 1
        assert 0 < whole.size_bytes <= len(data)
        assert part == (whole if end >= whole.size_bytes else None)
        for address in (whole.source, whole.destination):
            assert address is None or (str(ip_address(address[0])) == address[0] and 0 <= address[1] <= 65535)


def check_fields(fields: list[bytes], *, never: frozenset[bytes] = _NEVER) -> None:
    for line in fields:
        assert _FIELD_LINE(line), line
        assert line.partition(b":")[0].lower() not in never, line


def forwarded_request(head: dict, body: bytes) -> bytes:
    """The request as a proxy would write it, each line held against the strict grammar."""
    line = b"%b %b HTTP/1.1" % (head["method"], head["target"])
    assert _REQUEST_LINE(line), line
    assert _HOST(head["host"]), head["host"]
    assert head["path"] == head["target"].partition(b"?")[0]
    lines = [line, b"Host: " + (head["host"] or b"unknown"), *head["fields"]]
    head["host"] = head["host"] or b"unknown"
    if head["chunked"]:
        assert head["content_length"] is None
        lines.append(b"Transfer-Encoding: chunked")
        body = chunk(body) + LAST_CHUNK
    elif head["content_length"] is not None:
        assert head["content_length"] == len(body)
        lines.append(b"Content-Length: %d" % len(body))
    else:
        assert body == b""
    return b"\r\n".join([*lines, b"", body])


def request_size(data: bytes, limits: HeadLimits) -> int:
    """How many bytes the first request in `data` takes."""
    stream = Stream(limits)
    stream.receive(data)
    low, high = 0, len(data)
    while low < high:
        middle = (low + high) // 2
        stream = Stream(limits)
        stream.receive(data[:middle])
        if stream.messages:
            high = middle
        else:
            low = middle + 1
    return low


def same_as_ours(message: Message, theirs: Read, *, response: bool = False) -> None:
    head, body = message
    start, fields, their_body, ended = theirs
    if response:
        assert start == b"%d" % head["status"]
    elif not start.lower().startswith(b"http"):
        assert start == head["target"]
    position = 0
    for line in head["fields"]:
        name, _, value = line.partition(b":")
        wanted = (name.lower(), value.strip(b" \t"))
        while fields[position] != wanted:
            position += 1
        position += 1
    if response and head["framing"] == UNTIL_CLOSE:
        assert ended == 0
    elif their_body is not None:
        assert their_body == body
        assert ended == 1
