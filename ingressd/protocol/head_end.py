"""Where a head ends, and early refusal of what can never become one (RFC 9112, section 2)."""

from typing import Final

from ingressd.protocol.limits import HeadError, HeadLimits
from ingressd.protocol.start_line import REQUEST_LINE, STATUS_LINE, check_length, unusual_request_line

_CRLF: Final = b"\r\n"
END_OF_HEAD: Final = b"\r\n\r\n"
_TOKEN_BYTES: Final = frozenset(b"!#$%&'*+.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-")


def find_head_end(
    data: bytes | bytearray,
    start: int = 0,
    *,
    scanned: int = 0,
    limits: HeadLimits | None = None,
    response: bool = False,
) -> int:
    """The offset just past the empty line that ends the head beginning at `start`, or -1 when more is needed.

    `scanned` is how much of `data` an earlier call has seen (its `len(data)`), so a slow sender costs only what is new.
    Raises HeadError at once for what can never become a head: a bare CR, LF or NUL, a malformed first line, or one of
    the limits passed; with `response` the status is always 502.
    """
    end = data.find(END_OF_HEAD, start if scanned < start + 3 else scanned - 3)
    if end >= 0:
        if end == start:
            # RFC 9112, 2.2: "SHOULD ignore at least one empty line (CRLF) received prior to the request-line". One.
            raise HeadError(502 if response else 400, "empty lines before the first line")
        return end + 4
    if len(data) > start:
        try:
            _check_unfinished(data, start, scanned=scanned, limits=limits, response=response)
        except HeadError as error:
            if response and error.status != 502:
                raise HeadError(502, error.reason) from None
            raise
    return -1


def _check_unfinished(
    data: bytes | bytearray, start: int, *, scanned: int, limits: HeadLimits | None, response: bool
) -> None:
    size = len(data)
    low = max(start, scanned)
    if low > start and data[low - 1] == 13:
        low -= 1
    feeds = data.count(b"\n", low)
    returns = data.count(b"\r", low) - (data[size - 1] == 13)
    if feeds != returns or data.count(_CRLF, low) != feeds or data.find(b"\0", low) >= 0:
        raise HeadError(400, "bare CR, LF or NUL")
    first = start + 2 if data.startswith(_CRLF, start) else start
    line_start = max(data.rfind(b"\n", first) + 1, first)
    if line_start <= first:
        _check_first_bytes(data, first, response=response)
    elif feeds:
        line_end = data.find(_CRLF, first)
        if line_end + 2 > low:
            _check_first_line(bytes(data[first:line_end]), limits, response=response)
    if limits is None:
        return
    line_size = size - (data[size - 1] == 13) - line_start
    if line_start <= first:
        if line_size > limits.request_line_bytes:
            check_length(bytes(data[first:]), limits)
    elif line_size > limits.field_line_bytes:
        raise HeadError(431, "field line too long")
    if size - start > limits.head_bytes:
        raise HeadError(431, "head too large")


def _check_first_bytes(data: bytes | bytearray, first: int, *, response: bool) -> None:
    """Refuse a peer that speaks another protocol (TLS on a plain port, say) without waiting for its line to end."""
    if first < len(data):
        if response:
            if not b"HTTP/1.".startswith(bytes(data[first : first + 7])):
                raise HeadError(502, "malformed status line")
        elif data[first] not in _TOKEN_BYTES and data[first] != 13:
            raise HeadError(400, "malformed request line")


def _check_first_line(line: bytes, limits: HeadLimits | None, *, response: bool) -> None:
    if limits is not None:
        check_length(line, limits)
    if response:
        if STATUS_LINE(line) is None:
            raise HeadError(502, "malformed status line")
    elif REQUEST_LINE(line) is None:
        unusual_request_line(line)
