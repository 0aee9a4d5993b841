"""The first line of a head (RFC 9112, sections 3 and 4): request line with its target's forms, and status line."""

import re
from typing import Final

from ingressd.protocol.authority import check_authority
from ingressd.protocol.limits import HeadError, HeadLimits

METHOD_BYTES: Final = 64

# RFC 9112, 3: request-line = method SP request-target SP HTTP-version. Origin form without fragment or backslash in the
# path; methods in capitals as nginx has it. Those that begin with C or T take the slow lane; it knows CONNECT, TRACE.
REQUEST_LINE = re.compile(rb"(?![CT])([A-Z_-]{1,64}) ((/[!-\"$->@-\[\]-~]*)(?:\?[!-\"$-~]*)?) HTTP/1\.([01])").fullmatch
# RFC 9112, 4: status-line = HTTP-version SP status-code SP [ reason-phrase ]. The last SP is often left out.
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t -~\x80-\xff]*))?").fullmatch
_METHOD = re.compile(rb"[A-Z_-]+").fullmatch
_VERSION = re.compile(rb"HTTP/1\.([0-9])").fullmatch
_ORIGIN_FORM = re.compile(rb"(/[!-\"$->@-\[\]-~]*)(?:\?[!-\"$-~]*)?").fullmatch
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL).fullmatch


def unusual_request_line(line: bytes) -> tuple[bytes, bytes, bytes, int, bytes | None]:
    """Read a request line that is not the usual "METHOD /path HTTP/1.x".

    Returns (method, target to forward, path, version, authority of the absolute form or None). Raises HeadError: 400;
    501 for a method beyond all reason; 505 for a minor version that does not exist; 405 for TRACE and CONNECT.
    """
    parts = line.split(b" ")
    if len(parts) != 3:
        raise HeadError(400, "malformed request line")
    method, target, protocol = parts
    version = _VERSION(protocol)
    if version is None:
        raise HeadError(400, "malformed or unsupported version")
    if version[1] not in b"01":
        raise HeadError(505, "unsupported version")
    # Methods are case-sensitive; nginx takes capitals, "_" and "-" only, and so a "get" is no method here either.
    if not _METHOD(method):
        raise HeadError(400, "malformed method")
    if len(method) > METHOD_BYTES:
        raise HeadError(501, "method too long")
    if method == b"CONNECT":
        # RFC 9112, 3.2.3: authority form "is only used for CONNECT". No tunnels here, and nothing else is a target.
        _check_connect(target)
    forwarded, path, authority = _target(method, target)
    if method == b"TRACE":
        raise HeadError(405, "TRACE")
    return method, forwarded, path, 11 if version[1] == b"1" else 10, authority


def _check_connect(target: bytes) -> None:
    host, colon, port = target.rpartition(b":")
    if not colon or not port or not host:
        raise HeadError(400, "malformed CONNECT target")
    check_authority(target)
    raise HeadError(405, "CONNECT")


def _target(method: bytes, target: bytes) -> tuple[bytes, bytes, bytes | None]:
    """(target to forward, path, authority or None) of an origin-form, absolute-form or asterisk-form target."""
    match = _ORIGIN_FORM(target)
    if match is not None:
        return target, match[1], None
    if target == b"*" and method == b"OPTIONS":
        return target, target, None
    absolute = _ABSOLUTE_FORM(target)
    if absolute is None:
        raise HeadError(400, "malformed request target")
    authority = check_authority(absolute[1])
    rest = absolute[2]
    if not rest and method == b"OPTIONS":
        # RFC 9112, 3.2.4: the last proxy sends "*" for an OPTIONS whose target has an empty path and no query.
        return b"*", b"*", authority
    if not rest.startswith(b"/"):
        rest = b"/" + rest
    match = _ORIGIN_FORM(rest)
    if match is None:
        raise HeadError(400, "malformed request target")
    return rest, match[1], authority


def check_length(line: bytes, limits: HeadLimits) -> None:
    """Raise HeadError when a first line, or what has come of it, is longer than `limits` allow."""
    if len(line) > limits.request_line_bytes:
        # RFC 9112, 3: 501 for "a method longer than any that it implements", 414 for a longer target.
        if line.find(b" ", 0, METHOD_BYTES + 1) < 0:
            raise HeadError(501, "method too long")
        raise HeadError(414, "request line too long")
