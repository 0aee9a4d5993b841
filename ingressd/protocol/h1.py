"""HTTP/1 heads: what one says (RFC 9112). The strictest reading, once, on the hot path.

A head is split on CRLF and every line is looked up in the cache of lines already classified (`fields`); a line that
does not need touching is forwarded as the very bytes that came. Nothing is carried from one message to the next.
"""

import re
from typing import Any, Final

from ingressd.protocol.fields import (
    ACCEPT_ENCODING,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    DROP,
    EXPECT,
    FORWARD,
    HOPS,
    HOST,
    KEEP_ALIVE,
    NO_OPTIONS,
    SPECIAL,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    USER_AGENT,
    classify_request_line,
    classify_response_line,
)
from ingressd.protocol.head_end import END_OF_HEAD, find_head_end
from ingressd.protocol.limits import HeadError, HeadLimits
from ingressd.protocol.start_line import REQUEST_LINE, STATUS_LINE, check_length, unusual_request_line

__all__ = [
    "CHUNKED",
    "END_OF_HEAD",
    "LENGTH",
    "NO_BODY",
    "UNTIL_CLOSE",
    "HeadError",
    "HeadLimits",
    "RequestHead",
    "ResponseHead",
    "find_head_end",
    "parse_request_head",
    "parse_response_head",
]

# How a response's body ends (RFC 9112, 6.3).
NO_BODY: Final = 0
LENGTH: Final = 1
CHUNKED: Final = 2
UNTIL_CLOSE: Final = 3

_BLANKS: Final = (b" ", b"\t")
_CRLF: Final = b"\r\n"
_OK: Final = b"HTTP/1.1 200 OK"

_NOT_FOLDED: Final = frozenset({b"content-length", b"transfer-encoding", b"connection", b"upgrade"})
_FOLD = re.compile(rb"\r\n[ \t]+")


class RequestHead:
    """One request head, read. Byte strings are as they came unless said otherwise."""

    __slots__ = (
        "accept_encoding",
        "chunked",
        "content_length",
        "expect_continue",
        "fields",
        "host",
        "keep_alive",
        "method",
        "path",
        "referer",
        "special",
        "target",
        "te_trailers",
        "upgrade",
        "user_agent",
        "version",
    )

    method: bytes
    target: bytes  # to forward: origin form, or "*" for OPTIONS
    path: bytes  # target up to "?"
    host: bytes  # the authority with its port, validated; b"" for HTTP/1.0 without one
    version: int  # 10 or 11
    fields: list[bytes]  # lines without CRLF to forward untouched, in order
    special: dict[bytes, list[bytes]] | None  # values by lowercase name, which the proxy interprets or replaces
    content_length: int | None
    chunked: bool
    keep_alive: bool  # the client may send another request on this connection
    expect_continue: bool
    upgrade: bytes | None  # lowercase protocol, when Connection nominates it too
    user_agent: bytes | None
    referer: bytes | None
    accept_encoding: bytes | None
    te_trailers: bool

    def __repr__(self) -> str:
        body = "chunked" if self.chunked else self.content_length
        return f"<RequestHead {self.method!r} {self.target!r} host={self.host!r} body={body}>"


class ResponseHead:
    """One response head, read. `content_length` without a body (HEAD, 304) is what the body would have had."""

    __slots__ = (
        "chunked",
        "coding",
        "content_encoding",
        "content_length",
        "content_type",
        "fields",
        "framing",
        "keep_alive",
        "options",
        "reason",
        "special",
        "status",
        "upgrade",
        "version",
    )

    status: int
    reason: bytes
    version: int
    fields: list[bytes]
    special: dict[bytes, list[bytes]] | None
    content_length: int | None
    chunked: bool
    framing: int  # NO_BODY, LENGTH, CHUNKED or UNTIL_CLOSE
    keep_alive: bool  # the upstream connection may serve another request after this message
    upgrade: bytes | None
    content_type: bytes | None
    content_encoding: bytes | None
    options: frozenset[bytes]  # every Connection option, lowercase
    coding: int | None  # as the line said it

    def __repr__(self) -> str:
        framing = ("no body", "length", "chunked", "until close")[self.framing]
        return f"<ResponseHead {self.status} {framing} {self.content_length}>"


def parse_request_head(head: bytes, limits: HeadLimits) -> RequestHead:
    """Read one whole request head, the bytes up to what `find_head_end` answered. Raises HeadError."""
    lines = _lines(head, limits)
    first = lines.pop(0)
    if not first and lines:
        first = lines.pop(0)
    if len(first) > limits.request_line_bytes:
        check_length(first, limits)
    if len(lines) > limits.max_fields:
        raise HeadError(431, "too many fields")
    request = RequestHead()
    authority = None
    match = REQUEST_LINE(first)
    if match is not None:
        request.method, request.target, request.path, minor = match.groups()
        version = 11 if minor == b"1" else 10
    else:
        request.method, request.target, request.path, version, authority = unusual_request_line(first)
    fields: list[bytes] = []
    host = length = user_agent = referer = accept_encoding = rare = None
    known = limits.requests
    for line in lines:
        entry: Any = known.get(line)
        if entry is None:
            entry = classify_request_line(line, limits)
        if not entry:
            fields.append(line)
            continue
        kind, _, value = entry
        if kind == HOST:
            if host is not None:
                # RFC 9112, 3.2: "MUST respond with a 400 to any request message that contains more than one Host".
                raise HeadError(400, "more than one Host")
            host = value
        elif kind >= USER_AGENT:
            # Forwarded as well. Of several the first counts.
            fields.append(line)
            if kind == USER_AGENT:
                user_agent = value if user_agent is None else user_agent
            elif kind == ACCEPT_ENCODING:
                accept_encoding = value if accept_encoding is None else accept_encoding
            else:
                referer = value if referer is None else referer
        elif kind == CONTENT_LENGTH:
            if length is not None:
                raise HeadError(400, "more than one Content-Length")
            length = value
        elif kind != DROP and (kind != KEEP_ALIVE or version == 10):
            if rare is None:
                rare = []
            rare.append(entry)
    if host is None:
        if version == 11:
            raise HeadError(400, "no Host")
        host = b""
    # RFC 9112, 3.2.2: "a proxy MUST ignore the received Host header field (if any) and instead replace it with the host
    # information of the request-target".
    request.host = host if authority is None else authority
    request.version = version
    request.fields = fields
    request.content_length = length
    request.user_agent = user_agent
    request.referer = referer
    request.accept_encoding = accept_encoding
    request.special = None
    request.chunked = False
    request.keep_alive = version == 11
    request.expect_continue = False
    request.upgrade = None
    request.te_trailers = False
    if rare is not None:
        _read_rare(request, rare)
    return request


def _lines(head: bytes, limits: HeadLimits) -> list[bytes]:
    if len(head) > limits.head_bytes:
        check_length(head[: head.find(_CRLF, 2)], limits)
        raise HeadError(431, "head too large")
    lines = head.split(_CRLF)
    if len(lines) < 3 or lines.pop() or lines.pop():
        raise HeadError(400, "unfinished head")
    return lines


def _read_rare(request: RequestHead, entries: list[tuple[int, bytes, Any]]) -> None:
    """The lines that most requests do not have: framing by chunks, Connection, upgrades, expectations, `special`."""
    coding: int | None = None
    expect: bool | None = None
    upgrade: bytes | None = None
    options: frozenset[bytes] = NO_OPTIONS
    nominated: frozenset[bytes] = NO_OPTIONS
    for kind, line, value in entries:
        if kind == SPECIAL or (kind == HOPS and request.method == b"OPTIONS"):
            if request.special is None:
                request.special = {}
            request.special.setdefault(value[0], []).append(value[1])
        elif kind in (CONNECTION, KEEP_ALIVE):
            options |= value[0]
            nominated |= value[1]
        elif kind == TRANSFER_ENCODING:
            if coding is not None:
                raise HeadError(400, "more than one Transfer-Encoding")
            coding = value
        elif kind == UPGRADE:
            upgrade = value if upgrade is None else b""
        elif kind == EXPECT:
            expect = value and expect is not False
        elif kind == TE:
            request.te_trailers = request.te_trailers or value
        else:
            # RFC 9110, 7.6.2: methods other than TRACE and OPTIONS may ignore Max-Forwards.
            request.fields.append(line)
    if options is not NO_OPTIONS:
        request.keep_alive = b"close" not in options and (request.version == 11 or b"keep-alive" in options)
    if nominated:
        # RFC 9110, 7.6.1: "remove any header or trailer field(s) from the message with the same name as the
        # connection-option".
        request.fields = _without(request.fields, nominated)
    if coding is not None:
        _apply_coding(request, coding)
    # RFC 9110, 10.1.1: "A server that receives a 100-continue expectation in an HTTP/1.0 request MUST ignore it".
    if expect is not None and request.version == 11:
        if not expect:
            raise HeadError(417, "unknown expectation")
        request.expect_continue = True
    # RFC 9110, 7.8: "A server MUST ignore an Upgrade header field that is received in an HTTP/1.0 request"; and
    # "A sender of Upgrade MUST also send an "Upgrade" connection option".
    if upgrade and request.version == 11 and b"upgrade" in options:
        _apply_upgrade(request, upgrade)


def _apply_upgrade(request: RequestHead, protocol: bytes) -> None:
    if protocol == b"websocket":
        if request.chunked or request.content_length:
            # Peers disagree on whether such a body is one, or is the first bytes of the tunnel.
            raise HeadError(400, "WebSocket handshake with a body")
        if request.method != b"GET":
            return  # RFC 6455, 4.1: "The method of the request MUST be GET".
    request.upgrade = protocol


def _apply_coding(request: RequestHead, coding: int) -> None:
    # RFC 9112, 6.1: "A server or client that receives an HTTP/1.0 message containing a Transfer-Encoding header field
    # MUST treat the message as if the framing is faulty".
    if request.version == 10:
        raise HeadError(400, "Transfer-Encoding in HTTP/1.0")
    if coding:
        raise HeadError(coding, "unusable Transfer-Encoding")
    # RFC 9112, 6.1: "A server MAY reject a request that contains both Content-Length and Transfer-Encoding".
    if request.content_length is not None:
        raise HeadError(400, "both Content-Length and Transfer-Encoding")
    request.chunked = True


def _without(fields: list[bytes], names: frozenset[bytes]) -> list[bytes]:
    return [line for line in fields if line[: line.index(b":")].lower() not in names]


def parse_response_head(head: bytes, *, method: bytes, limits: HeadLimits) -> ResponseHead:
    """Read one whole response head, interim ones (1xx) too. `method` is the request's. Raises HeadError(502)."""
    try:
        return _parse_response(head, method, limits)
    except HeadError as error:
        if error.status != 502:
            raise HeadError(502, error.reason) from None
        raise


def _parse_response(head: bytes, method: bytes, limits: HeadLimits) -> ResponseHead:
    lines = _lines(head, limits)
    response = ResponseHead()
    first = lines.pop(0)
    if first == _OK:  # Nearly always, and two per cent of what an exchange costs us.
        response.version = 11
        response.status = 200
        response.reason = b"OK"
    else:
        match = STATUS_LINE(first)
        if match is None or len(first) > limits.request_line_bytes:
            raise HeadError(502, "malformed status line")
        minor, status, reason = match.groups()
        response.version = 11 if minor == b"1" else 10
        response.status = int(status)
        response.reason = reason or b""
    if len(lines) > limits.max_fields:
        raise HeadError(502, "too many fields")
    response.content_length = None
    response.content_type = None
    response.content_encoding = None
    response.upgrade = None
    response.options = NO_OPTIONS
    response.coding = None
    fields: list[bytes] = []
    special: dict[bytes, list[bytes]] | None = None
    nominated: frozenset[bytes] = NO_OPTIONS
    known = limits.responses
    for line in lines:
        entry: Any = known.get(line)
        if entry is None:
            if line[:1] in _BLANKS:
                return _parse_response(_unfold(head), method, limits)
            entry = classify_response_line(line, limits)
        if not entry:
            fields.append(line)
            continue
        kind, kept, value = entry
        if kind == SPECIAL:
            name, value = value
            if special is None:
                special = {name: [value]}
            elif name in special:
                special[name].append(value)
            else:
                special[name] = [value]
        elif kind == CONTENT_LENGTH:
            # RFC 9112, 6.3: equal repetitions may be replaced by a single one.
            if response.content_length is not None and response.content_length != value:
                raise HeadError(502, "conflicting Content-Length")
            response.content_length = value
        elif kind == CONTENT_TYPE:
            fields.append(kept)
            response.content_type = value
        elif kind == FORWARD:
            fields.append(kept)
        elif kind == CONTENT_ENCODING:
            fields.append(kept)
            response.content_encoding = value
        elif kind == CONNECTION:
            response.options |= value[0]
            nominated |= value[1]
        elif kind == TRANSFER_ENCODING:
            if response.coding is not None:
                raise HeadError(502, "more than one Transfer-Encoding")
            response.coding = value
        elif kind == UPGRADE:
            response.upgrade = value
    response.fields = _without(fields, nominated) if nominated else fields
    response.special = special
    _frame(response, method)
    return response


def _frame(response: ResponseHead, method: bytes) -> None:
    """How the body ends, and whether the connection lives on (RFC 9112, 6.3 and 9.3)."""
    options = response.options
    if response.version == 11:
        response.keep_alive = b"close" not in options
    else:
        response.keep_alive = b"keep-alive" in options and b"close" not in options
    if response.upgrade is not None and (not response.upgrade or b"upgrade" not in options):
        response.upgrade = None
    response.chunked = False
    if response.coding is not None:
        if response.coding or response.version == 10:
            raise HeadError(502, "unusable Transfer-Encoding")
        if response.content_length is not None:
            raise HeadError(502, "both Content-Length and Transfer-Encoding")
        response.chunked = True
    status = response.status
    if status < 200 or status == 204:
        # RFC 9110, 8.6 and RFC 9112, 6.1: neither Content-Length nor Transfer-Encoding may stand in a 1xx or a 204.
        response.content_length = None
        response.chunked = False
        response.framing = NO_BODY
    elif status == 304 or method == b"HEAD":
        response.framing = NO_BODY
    elif response.chunked:
        response.framing = CHUNKED
    elif response.content_length is not None:
        response.framing = LENGTH
    else:
        response.framing = UNTIL_CLOSE
        response.keep_alive = False


def _unfold(head: bytes) -> bytes:
    """RFC 9112, 5.2: a proxy "MUST either discard the message or replace each received obs-fold with one or more SP".

    Not where framing hangs on it, and not right after the status line, where there is nothing to continue.
    """
    for match in _FOLD.finditer(head):
        line_start = head.rfind(b"\n", 0, match.start()) + 1
        line = head[line_start : match.start()]
        if line[:1] in _BLANKS and line_start:
            continue  # Continues a continuation, which has been judged.
        name = line[: line.find(b":")].rstrip(b" \t").lower()
        if not line_start or b":" not in line or name in _NOT_FOLDED:
            raise HeadError(502, "folded field line")
    unfolded = _FOLD.sub(b" ", head)
    if not unfolded.endswith(END_OF_HEAD):
        raise HeadError(502, "folded field line")
    return unfolded
