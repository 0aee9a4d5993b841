"""What a record of the access log holds, and its line of JSON.

A record is one plain tuple, made once an exchange and read here, in batches, after the answer is out. What a client
sent is bytes and is escaped here, so that no client can end a line, open a field or send a terminal an escape sequence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from time import gmtime
from typing import Any, Final

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

Formatter = Callable[[Sequence[Record]], list[bytes]]

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
            agent, referer = record[16], record[17]
            sent = b"".join((record[1], record[3], record[4], record[5], record[6], agent or b"", referer or b""))
            # One look at all the client sent, instead of one at each, when there is nothing in it to escape.
            value = _ascii if sent.isascii() and b"\x7f" not in sent else _json_value
            upstream_s = record[14]
            line = _Line(
                self._rfc3339(record[0]),
                value(record[1]),
                record[2],
                value(record[3]),
                value(record[4]),
                value(record[5]),
                value(record[6]),
                record[7],
                record[8],
                record[9],
                int(record[10] * 1e6 + 0.5) / 1e6,
                record[11],
                record[12],
                record[13],
                None if upstream_s is None else int(upstream_s * 1e6 + 0.5) / 1e6,
                record[15],
                None if agent is None else value(agent),
                None if referer is None else value(referer),
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


_ascii: Final[Callable[[bytes], Any]] = bytes.decode


def _json_value(value: bytes) -> Any:
    if value.isascii() and b"\x7f" not in value:
        return value.decode("ascii")
    text = json.dumps(value.decode("utf-8", "backslashreplace")).replace("\x7f", "\\u007f")
    return msgspec.Raw(text.encode("ascii"))
