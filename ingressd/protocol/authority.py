"""Authorities: the host and port of a Host field or of an absolute request target (RFC 9110, 7.2; RFC 3986, 3.2)."""

import re

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
