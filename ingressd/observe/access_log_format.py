"""From a record to a line of the access log: JSON, or an nginx-style template.

A record is one plain tuple, made once an exchange and read here, in batches, after the answer is out. What a client
sent is bytes and is escaped here, so that no client can end a line, open a field or send a terminal an escape sequence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from time import gmtime, localtime
from typing import Any, Final, Literal
from urllib.parse import unquote_to_bytes

import msgspec

Header = Callable[[bytes], bytes | None]
"""From a lowercased field name of the request to its value."""

Record = tuple[
    float,  # TIME
    bytes,  # REQUEST_ID
    str,  # REMOTE_ADDR
    bytes,  # HOST
    bytes,  # METHOD
    bytes,  # PATH
    bytes,  # PROTOCOL
    int,  # STATUS
    int,  # BYTES_SENT
    int,  # BYTES_RECEIVED
    float,  # DURATION_S
    str | None,  # UPSTREAM
    str | None,  # UPSTREAM_ADDR
    int | None,  # UPSTREAM_STATUS
    float | None,  # UPSTREAM_DURATION_S
    str | None,  # ROUTE
    bytes | None,  # USER_AGENT
    bytes | None,  # REFERER
    str | None,  # TLS
    str | None,  # ERROR
    int,  # BODY_BYTES_SENT
    int | None,  # UPSTREAM_BYTES
    Header | None,  # HEADER
]

TIME: Final = 0
"""When the exchange ended, seconds since 1970."""
REQUEST_ID: Final = 1
REMOTE_ADDR: Final = 2
"""The client's address: the peer's, or the one a trusted proxy named."""
HOST: Final = 3
METHOD: Final = 4
PATH: Final = 5
"""The request target with its query, as it came."""
PROTOCOL: Final = 6
"""b"HTTP/1.1"."""
STATUS: Final = 7
BYTES_SENT: Final = 8
"""To the client, head included."""
BYTES_RECEIVED: Final = 9
"""From the client, head included."""
DURATION_S: Final = 10
UPSTREAM: Final = 11
UPSTREAM_ADDR: Final = 12
"""Endpoints tried, "address:port", separated by ", " when there were several (as nginx)."""
UPSTREAM_STATUS: Final = 13
UPSTREAM_DURATION_S: Final = 14
ROUTE: Final = 15
""""Ingress/default/shop": kind/namespace/name of the origin."""
USER_AGENT: Final = 16
REFERER: Final = 17
TLS: Final = 18
""""TLSv1.3"."""
ERROR: Final = 19
"""Why, when the answer is ours or the exchange ended early."""
BODY_BYTES_SENT: Final = 20
UPSTREAM_BYTES: Final = 21
HEADER: Final = 22
"""Looks up a request field for `$http_NAME`; None unless the writer says `wants_header`."""

DEFAULT_TEMPLATE: Final = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" '
    "$request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr "
    "$upstream_response_length $upstream_response_time $upstream_status $req_id"
)
"""ingress-nginx's default `log-format-upstream`; taken for a format without a variable ("text", "nginx")."""

Escape = Literal["default", "json", "none"]
Formatter = Callable[[Sequence[Record]], list[bytes]]

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


_CLIENT_FIELDS: Final = (REQUEST_ID, HOST, METHOD, PATH, USER_AGENT, REFERER)


def shortened(record: Record, length: int) -> Record:
    """The record with what the client sent cut to `length` bytes a field, for a line that would be too long."""
    fields: list[Any] = list(record)
    for index in _CLIENT_FIELDS:
        value = fields[index]
        if value is not None and len(value) > length:
            fields[index] = value[:length] + b"..."
    fields[HEADER] = None
    return tuple(fields)


class _Line(msgspec.Struct):
    """One line of JSON, in the order and with the names of the contract."""

    time: str
    request_id: Any
    remote_addr: str
    host: Any
    method: Any
    path: Any
    protocol: Any
    status: int
    bytes_sent: int
    bytes_received: int
    duration_s: float
    upstream: str | None
    upstream_addr: str | None
    upstream_status: int | None
    upstream_duration_s: float | None
    route: str | None
    user_agent: Any
    referer: Any
    tls: str | None
    error: str | None


class JsonFormat:
    """One JSON object a line. ASCII of a client goes out as it came; anything else as JSON escapes of its UTF-8.

    Bytes that are not UTF-8 become the text `\\xNN`, so a line is valid JSON and shows what was there.
    """

    wants_header: Final = False

    def __init__(self) -> None:
        self._encode = msgspec.json.Encoder().encode
        self._time_ms = -1
        self._second = -1
        self._prefix = ""
        self._time = ""

    def __call__(self, records: Sequence[Record]) -> list[bytes]:
        """One line for each record, with its newline."""
        encode = self._encode
        lines = []
        for record in records:
            line = _Line(
                self._rfc3339(record[0]),
                _json_value(record[1]),
                record[2],
                _json_value(record[3]),
                _json_value(record[4]),
                _json_value(record[5]),
                _json_value(record[6]),
                record[7],
                record[8],
                record[9],
                round(record[10], 6),
                record[11],
                record[12],
                record[13],
                None if record[14] is None else round(record[14], 6),
                record[15],
                _json_value(record[16]),
                _json_value(record[17]),
                record[18],
                record[19],
            )
            lines.append(encode(line) + b"\n")
        return lines

    def _rfc3339(self, time_s: float) -> str:
        time_ms = int(time_s * 1000)
        if time_ms != self._time_ms:
            self._time_ms = time_ms
            second, milliseconds = divmod(time_ms, 1000)
            if second != self._second:
                self._second = second
                at = gmtime(second)
                self._prefix = (
                    f"{at.tm_year:04}-{at.tm_mon:02}-{at.tm_mday:02}T{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}."
                )
            self._time = f"{self._prefix}{milliseconds:03}Z"
        return self._time


def _json_value(value: bytes | None) -> Any:
    if value is None:
        return None
    if value.isascii() and b"\x7f" not in value:
        return value.decode("ascii")
    text = json.dumps(value.decode("utf-8", "backslashreplace")).replace("\x7f", "\\u007f")
    return msgspec.Raw(text.encode("ascii"))


_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_PLAIN: Final = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')


class TextFormat:
    """An nginx-style template, compiled. `unknown` holds the variables that it does not know; they show as "-".

    `escape` is nginx's `log_format … escape=`: "default" writes `\\xNN` for what is not printable ASCII and for quotes
    and backslashes, and "-" for what is not there; "json" escapes as in JSON strings; "none" passes all but line ends
    and other control bytes, which nobody may put into a log.
    """

    def __init__(self, template: str, *, escape: Escape = "default") -> None:
        if "$" not in template:
            template = DEFAULT_TEMPLATE
        escaped = _ESCAPES[escape]
        missing = b"-" if escape == "default" else b""
        self._zone = _ZoneTimes()
        self.unknown: list[str] = []
        self.wants_header = False
        self._parts: list[tuple[bytes, Callable[[Record], bytes]]] = []
        position = 0
        for match in _VARIABLE.finditer(template):
            literal = template[position : match.start()].encode().replace(b"\n", b" ")
            self._parts.append((literal, self._variable(match[1] or match[2], escaped, missing)))
            position = match.end()
        self._tail = template[position:].encode().replace(b"\n", b" ") + b"\n"

    def __call__(self, records: Sequence[Record]) -> list[bytes]:
        """One line for each record, with its newline."""
        lines = []
        for record in records:
            pieces = []
            for literal, value in self._parts:
                pieces.append(literal)
                pieces.append(value(record))
            pieces.append(self._tail)
            lines.append(b"".join(pieces))
        return lines

    def _variable(self, name: str, escaped: Callable[[bytes], bytes], missing: bytes) -> Callable[[Record], bytes]:
        if name in ("time_local", "time_iso8601"):
            return self._zone.local if name == "time_local" else self._zone.iso8601
        read = _VARIABLES.get(name)
        if read is None and name.startswith("http_"):
            self.wants_header = True
            read = _header_reader(name)
        if read is None:
            self.unknown.append(name)
            return lambda record: missing
        if name in _OURS:
            return lambda record: read(record) or missing

        def value(record: Record) -> bytes:
            raw = read(record)
            return escaped(raw) if raw else missing

        return value


class _ZoneTimes:
    """nginx's two spellings of the local time, each made once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._local = b""
        self._iso8601 = b""

    def local(self, record: Record) -> bytes:
        self._update(int(record[TIME]))
        return self._local

    def iso8601(self, record: Record) -> bytes:
        self._update(int(record[TIME]))
        return self._iso8601

    def _update(self, second: int) -> None:
        if second == self._second:
            return
        self._second = second
        at = localtime(second)
        minutes = abs(at.tm_gmtoff) // 60
        hours, minutes, sign = minutes // 60, minutes % 60, "-" if at.tm_gmtoff < 0 else "+"
        clock = f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
        self._local = (
            f"{at.tm_mday:02}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year:04}:{clock} {sign}{hours:02}{minutes:02}".encode()
        )
        self._iso8601 = f"{at.tm_year:04}-{at.tm_mon:02}-{at.tm_mday:02}T{clock}{sign}{hours:02}:{minutes:02}".encode()


def _escape_default(value: bytes) -> bytes:
    if not value.translate(None, _PLAIN):
        return value
    return b"".join(b"%c" % byte if byte in _PLAIN else b"\\x%02X" % byte for byte in value)


def _escape_json(value: bytes) -> bytes:
    if not value.translate(None, _PLAIN):
        return value
    text = json.dumps(value.decode("utf-8", "backslashreplace"))[1:-1]
    return text.replace("\x7f", "\\u007f").encode("ascii")


def _escape_none(value: bytes) -> bytes:
    if not value.translate(None, _PLAIN):
        return value
    return b"".join(b"\\x%02X" % byte if byte < 0x20 or byte == 0x7F else b"%c" % byte for byte in value)


_ESCAPES: Final = {"default": _escape_default, "json": _escape_json, "none": _escape_none}


def _text(value: str | None) -> bytes:
    return b"" if value is None else value.encode()


def _number(value: int | None) -> bytes:
    return b"" if value is None else b"%d" % value


def _seconds(value: float | None) -> bytes:
    return b"" if value is None else b"%.3f" % value


def _origin_part(record: Record, index: int) -> bytes:
    route = record[ROUTE]
    parts = route.split("/") if route else []
    return parts[index].encode() if len(parts) == 3 else b""


def _upstream_part(record: Record, pattern: str) -> bytes:
    match = re.fullmatch(pattern, record[UPSTREAM] or "")
    return match[1].encode() if match else b""


def _header_reader(name: str) -> Callable[[Record], bytes | None]:
    field = name.removeprefix("http_").replace("_", "-").encode()

    def read(record: Record) -> bytes | None:
        find = record[HEADER]
        return find(field) if find is not None else None

    return read


_VARIABLES: Final[dict[str, Callable[[Record], bytes | None]]] = {
    "args": lambda r: r[PATH].partition(b"?")[2],
    "body_bytes_sent": lambda r: _number(r[BODY_BYTES_SENT]),
    "bytes_sent": lambda r: _number(r[BYTES_SENT]),
    "error": lambda r: _text(r[ERROR]),
    "host": lambda r: r[HOST],
    "http_host": lambda r: r[HOST],
    "http_referer": lambda r: r[REFERER],
    "http_user_agent": lambda r: r[USER_AGENT],
    "ingress_name": lambda r: _origin_part(r, 2),
    "msec": lambda r: _seconds(r[TIME]),
    "namespace": lambda r: _origin_part(r, 1),
    "proxy_alternative_upstream_name": lambda r: b"",
    "proxy_upstream_name": lambda r: _text(r[UPSTREAM]),
    "query_string": lambda r: r[PATH].partition(b"?")[2],
    "remote_addr": lambda r: _text(r[REMOTE_ADDR]),
    "remote_user": lambda r: b"",
    "req_id": lambda r: r[REQUEST_ID],
    "request": lambda r: b"%b %b %b" % (r[METHOD], r[PATH], r[PROTOCOL]) if r[METHOD] else b"",
    "request_id": lambda r: r[REQUEST_ID],
    "request_length": lambda r: _number(r[BYTES_RECEIVED]),
    "request_method": lambda r: r[METHOD],
    "request_time": lambda r: _seconds(r[DURATION_S]),
    "request_uri": lambda r: r[PATH],
    "scheme": lambda r: b"https" if r[TLS] else b"http",
    "server_protocol": lambda r: r[PROTOCOL],
    "service_name": lambda r: _upstream_part(r, r"[^/]*/(.+?)(?::[^:]*)?"),
    "service_port": lambda r: _upstream_part(r, r".*:([^:]*)"),
    "ssl_protocol": lambda r: _text(r[TLS]),
    "status": lambda r: _number(r[STATUS]),
    "the_real_ip": lambda r: _text(r[REMOTE_ADDR]),
    "upstream_addr": lambda r: _text(r[UPSTREAM_ADDR]),
    "upstream_response_length": lambda r: _number(r[UPSTREAM_BYTES]),
    "upstream_response_time": lambda r: _seconds(r[UPSTREAM_DURATION_S]),
    "upstream_status": lambda r: _number(r[UPSTREAM_STATUS]),
    "uri": lambda r: unquote_to_bytes(r[PATH].partition(b"?")[0]),
}

_OURS: Final = frozenset(
    {"body_bytes_sent", "bytes_sent", "msec", "request_length", "request_time", "scheme", "status", "upstream_addr"}
    | {"upstream_response_length", "upstream_response_time", "upstream_status", "ssl_protocol"}
)
"""Variables whose value we made, which therefore needs no escaping."""
