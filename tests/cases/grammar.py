"""The strict grammar that everything we send upstream must have, and the laxest readings a backend might take.

`read_requests` splits a byte stream as a careful server would and lists every departure from the one canonical form.
`possible_requests` counts the requests that a careless server could see in the same bytes: body framed by either of two
contradicting fields, lines ended by a bare LF. More requests there than the client sent is request smuggling.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_END = b"\r\n\r\n"
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ((?:/|\*)[\x21\x22\x24-\x7e\x80-\xff]*) (HTTP/1\.1)")
_NAME = re.compile(_TOKEN)
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_LENGTH = re.compile(rb"0|[1-9][0-9]*")
_CHUNK_SIZE = re.compile(rb"0|[1-9a-fA-F][0-9a-fA-F]{0,15}")
_HOP_BY_HOP = (b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"http2-settings")

Fields = list[tuple[bytes, bytes]]


def values(fields: Fields, name: str) -> list[str]:
    """The values of a field, in order."""
    return [value.decode("latin-1") for key, value in fields if key.lower() == name.lower().encode()]


@dataclass
class Request:
    """One request as a strict server reads it."""

    method: str
    target: str
    fields: Fields
    body: bytes = b""
    complete: bool = True

    def all(self, name: str) -> list[str]:
        """The values of a field, in order."""
        return values(self.fields, name)


@dataclass
class Reading:
    """What a strict server made of a byte stream."""

    requests: list[Request] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read_requests(data: bytes, *, upgrades: bool = False) -> Reading:
    """Split a stream into requests; `upgrades` allows the field `Upgrade: websocket`."""
    reading = Reading()
    position = 0
    while (end := data.find(_END, position)) >= 0:
        request = _read_head(data[position:end].split(b"\r\n"), reading.faults, upgrades=upgrades)
        reading.requests.append(request)
        position = _read_body(data, end + 4, request, reading.faults)
        if not request.complete:
            break
    return reading


def _read_head(lines: list[bytes], faults: list[str], *, upgrades: bool) -> Request:
    match = _REQUEST_LINE.fullmatch(lines[0])
    if match is None:
        faults.append(f"request line {lines[0][:80]!r}")
        method, _, rest = lines[0].partition(b" ")
        target = rest.rpartition(b" ")[0]
    else:
        method, target, _ = match.groups()
    fields: Fields = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        value = value.strip(b" \t")
        if not colon or not _NAME.fullmatch(name):
            faults.append(f"field name {line[:60]!r}")
        if not _VALUE.fullmatch(value):
            faults.append(f"field value {line[:60]!r}")
        fields.append((name, value))
    request = Request(method.decode("latin-1"), target.decode("latin-1"), fields)
    if len(request.all("host")) != 1:
        faults.append(f"Host {request.all('host')}")
    lengths, codings = request.all("content-length"), request.all("transfer-encoding")
    if len(lengths) > 1 or any(not _LENGTH.fullmatch(length.encode("latin-1")) for length in lengths):
        faults.append(f"Content-Length {lengths}")
    if codings and (lengths or codings != ["chunked"]):
        faults.append(f"Transfer-Encoding {codings} with Content-Length {lengths}")
    for name in _HOP_BY_HOP:
        found = request.all(name.decode())
        allowed = [["websocket"]] if name == b"upgrade" and upgrades else [["trailers"]] if name == b"te" else []
        if found and [value.lower() for value in found] not in allowed:
            faults.append(f"hop-by-hop field {name.decode()}: {found}")
    return request


def _read_body(data: bytes, start: int, request: Request, faults: list[str]) -> int:
    if request.all("transfer-encoding"):
        return _read_chunks(data, start, request, faults)
    lengths = request.all("content-length")
    size = int(lengths[0]) if lengths and lengths[0].isascii() and lengths[0].isdigit() else 0
    request.body = data[start : start + size]
    request.complete = len(request.body) == size
    return start + len(request.body)


def _read_chunks(data: bytes, position: int, request: Request, faults: list[str]) -> int:
    request.complete = False
    while (end := data.find(b"\r\n", position)) >= 0:
        line = data[position:end]
        if not _CHUNK_SIZE.fullmatch(line):
            faults.append(f"chunk size {line[:60]!r}")
            return len(data)
        size = int(line, 16)
        if size == 0:
            if (last := data.find(_END, end)) != end and len(data) >= end + 4:
                faults.append("trailers")
            request.complete = last >= 0
            return last + 4 if request.complete else len(data)
        request.body += data[end + 2 : end + 2 + size]
        position = end + 2 + size + 2
        if len(data) >= position and data[position - 2 : position] != b"\r\n":
            faults.append("chunk without its CRLF")
            return len(data)
    return len(data)


# --- the laxest readings ----------------------------------------------------------------------------------------------

_LAX_LINE = re.compile(rb"\s*" + _TOKEN + rb"[ \t]+\S+[ \t]+HTTP/\d")
_LAX_LENGTH = re.compile(rb"(?im)^content-length[\x00-\x20]*:[\x00-\x20]*[+]?(\d+)")
_LAX_CHUNKED = re.compile(rb"(?im)^transfer.encoding[\x00-\x20]*:[^\n]*chunked")


def possible_requests(data: bytes) -> int:
    """The most request heads that any of the careless readings finds."""
    ends = (re.compile(rb"\r\n\r\n"), re.compile(rb"\r?\n\r?\n"))
    return max(_count_heads(data, end, chunked_first=first) for end in ends for first in (True, False))


def _count_heads(data: bytes, end: re.Pattern[bytes], *, chunked_first: bool) -> int:
    count = position = 0
    while match := end.search(data, position):
        head = data[position : match.start()]
        if not _LAX_LINE.match(head):
            break
        count, position = count + 1, match.end()
        length, chunked = _LAX_LENGTH.search(head), _LAX_CHUNKED.search(head)
        if chunked and (chunked_first or not length):
            position = _skip_chunks(data, position)
        elif length:
            position += int(length[1][:18])
    return count


def _skip_chunks(data: bytes, position: int) -> int:
    while (end := data.find(b"\n", position)) >= 0:
        match = re.match(rb"[ \t]*(?:0x)?([0-9a-fA-F]+)", data[position:end])
        if match is None:
            return position
        size = int(match[1][:15], 16)
        if size == 0:
            blank = re.compile(rb"\n\r?\n").search(data, end)
            return blank.end() if blank else len(data)
        position = end + 1 + size
        position += 2 if data[position : position + 2] == b"\r\n" else data[position : position + 1] == b"\n"
    return len(data)


# --- what the client got ----------------------------------------------------------------------------------------------


@dataclass
class Answer:
    """One response as the client saw it; `status` -1 is something that is no response."""

    status: int
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    complete: bool = False
    until_close: bool = False

    def all(self, name: str) -> list[str]:
        """The values of a field, in order."""
        return values(self.fields, name)


def read_answers(data: bytes, methods: list[str]) -> list[Answer]:
    """The responses in a byte stream, 1xx included, given the methods that were asked in order."""
    answers: list[Answer] = []
    asked = iter(methods)
    while data:
        head, end, rest = data.partition(_END)
        match = re.match(rb"HTTP/1\.[01] (\d{3})(?: .*)?$", head.split(b"\r\n")[0])
        if not match:
            return [*answers, Answer(-1, body=data)]
        pairs = (line.partition(b":") for line in head.split(b"\r\n")[1:])
        answer = Answer(int(match[1]), [(name, value.strip(b" \t")) for name, _, value in pairs])
        answers.append(answer)
        if not end:
            return answers
        final = answer.status >= 200
        data = _answer_body(answer, rest, bodiless=final and next(asked, "GET") == "HEAD")
    return answers


def _answer_body(answer: Answer, rest: bytes, *, bodiless: bool) -> bytes:
    """Fill in the body; what is left for the next answer."""
    answer.complete = True
    if answer.status == 101:
        answer.body = rest
        return b""
    if bodiless or answer.status < 200 or answer.status in (204, 304):
        return rest
    if answer.all("transfer-encoding"):
        answer.complete = False
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            if not re.fullmatch(rb"[0-9a-fA-F]+", size):
                return b""
            if int(size, 16) == 0:
                answer.complete = rest.startswith(b"\r\n")
                return rest[2:] if answer.complete else b""
            answer.body += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]
        return b""
    if lengths := answer.all("content-length"):
        size = int(lengths[0])
        answer.body = rest[:size]
        answer.complete = len(answer.body) == size
        return rest[size:]
    answer.body, answer.until_close = rest, True
    return b""
