"""Request targets and authorities (RFC 9112, section 3; RFC 3986): the forms that are not plain origin form."""

import re
from typing import Final

from ingressd.protocol.limits import HeadError

# RFC 9110, 7.2: Host = uri-host [ ":" port ]. Of reg-name only what DNS and container names use: sub-delims and
# percent-encodings in a host have no honest use and are read differently by every URL library.
_AUTHORITY = re.compile(rb"([0-9A-Za-z_-]+(?:\.[0-9A-Za-z_-]+)*\.?)(?::([0-9]{0,5}))?").fullmatch
_IPV6_AUTHORITY = re.compile(rb"\[([0-9A-Fa-f:.]+)\](?::([0-9]{0,5}))?").fullmatch
_IPV4 = re.compile(rb"(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(?:\.(?!$)|$)){4}").match
_H16 = re.compile(rb"[0-9a-f]{1,4}").fullmatch


def check_authority(authority: bytes) -> bytes:
    """The authority unchanged when it is a host name, an IPv4 address or an IPv6 one in brackets, with a port or not.

    Raises HeadError(400).
    """
    match = _AUTHORITY(authority)
    if match is not None:
        port = match[2]
        if len(match[1]) <= 255 and (not port or int(port) <= 65535):
            return authority
    else:
        match = _IPV6_AUTHORITY(authority)
        if match is not None and (not match[2] or int(match[2]) <= 65535) and _is_ipv6(match[1].lower()):
            return authority
    raise HeadError(400, "malformed host")


def _is_ipv6(address: bytes) -> bool:
    """RFC 3986, 3.2.2: IPv6address."""
    head, gap, tail = address.partition(b"::")
    if b"::" in tail:
        return False
    groups = (head.split(b":") if head else []) + (tail.split(b":") if tail else [])
    count = len(groups)
    if groups and b"." in groups[-1] and (tail or not gap):
        if not _IPV4(groups.pop()):
            return False
        count += 1
    return all(_H16(group) for group in groups) and (count <= 7 if gap else count == 8)


METHOD_BYTES: Final = 64
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
