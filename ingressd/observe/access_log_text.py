"""From a record to a line of the access log by an nginx-style template."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from time import localtime
from typing import Final, Literal, cast
from urllib.parse import unquote_to_bytes

from ingressd.observe.access_log_format import (
    BODY_BYTES_SENT,
    BYTES_RECEIVED,
    BYTES_SENT,
    DURATION_S,
    ERROR,
    HEADER,
    HOST,
    METHOD,
    PATH,
    PROTOCOL,
    REFERER,
    REMOTE_ADDR,
    REQUEST_ID,
    ROUTE,
    STATUS,
    TIME,
    TLS,
    UPSTREAM,
    UPSTREAM_ADDR,
    UPSTREAM_BYTES,
    UPSTREAM_DURATION_S,
    UPSTREAM_STATUS,
    USER_AGENT,
    Record,
)

DEFAULT_TEMPLATE: Final = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" '
    "$request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr "
    "$upstream_response_length $upstream_response_time $upstream_status $req_id"
)
"""ingress-nginx's default `log-format-upstream`; taken for a format without a variable ("text", "nginx")."""

Escape = Literal["default", "json", "none"]

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


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
        if isinstance(read, int):
            return _sent_value(read, escaped, missing)
        if name in _NEVER_MISSING:
            return cast("Callable[[Record], bytes]", read)
        made = read

        def made_value(record: Record) -> bytes:
            raw = made(record)
            if not raw:
                return missing
            return escaped(raw) if raw.translate(None, _PLAIN) else raw

        return made_value


def _sent_value(index: int, escaped: Callable[[bytes], bytes], missing: bytes) -> Callable[[Record], bytes]:
    """A variable that is an element of the record as it came."""

    def value(record: Record) -> bytes:
        raw = cast("bytes | None", record[index])
        if not raw:
            return missing
        return escaped(raw) if raw.translate(None, _PLAIN) else raw

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
    return b"".join(b"%c" % byte if byte in _PLAIN else b"\\x%02X" % byte for byte in value)


def _escape_json(value: bytes) -> bytes:
    text = json.dumps(value.decode("utf-8", "backslashreplace"))[1:-1]
    return text.replace("\x7f", "\\u007f").encode("ascii")


def _escape_none(value: bytes) -> bytes:
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


_VARIABLES: Final[dict[str, int | Callable[[Record], bytes | None]]] = {
    "args": lambda r: r[PATH].partition(b"?")[2],
    "body_bytes_sent": lambda r: _number(r[BODY_BYTES_SENT]),
    "bytes_sent": lambda r: _number(r[BYTES_SENT]),
    "error": lambda r: _text(r[ERROR]),
    "host": HOST,
    "http_host": HOST,
    "http_referer": REFERER,
    "http_user_agent": USER_AGENT,
    "ingress_name": lambda r: _origin_part(r, 2),
    "msec": lambda r: _seconds(r[TIME]),
    "namespace": lambda r: _origin_part(r, 1),
    "proxy_alternative_upstream_name": lambda r: b"",
    "proxy_upstream_name": lambda r: _text(r[UPSTREAM]),
    "query_string": lambda r: r[PATH].partition(b"?")[2],
    "remote_addr": lambda r: _text(r[REMOTE_ADDR]),
    "remote_user": lambda r: b"",
    "req_id": REQUEST_ID,
    "request": lambda r: b"%b %b %b" % (r[METHOD], r[PATH], r[PROTOCOL]) if r[METHOD] else b"",
    "request_id": REQUEST_ID,
    "request_length": lambda r: _number(r[BYTES_RECEIVED]),
    "request_method": METHOD,
    "request_time": lambda r: _seconds(r[DURATION_S]),
    "request_uri": PATH,
    "scheme": lambda r: b"https" if r[TLS] else b"http",
    "server_protocol": PROTOCOL,
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

_NEVER_MISSING: Final = frozenset(
    {"body_bytes_sent", "bytes_sent", "msec", "request_length", "request_time", "scheme", "status"}
)
"""Variables whose value we make, always, of digits and letters."""
