"""The one form of a host and of a path under which rules and requests meet.

What is forwarded are the bytes that came; these forms are for matching only, so that nobody walks around a guarded
prefix.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from typing import Final

_NORMAL_HOST: Final = re.compile(rb"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*").fullmatch
# A search for one byte as an int is ten times cheaper than for a bytes of length one.
_PERCENT: Final = 0x25
_HASH: Final = 0x23
_NUL: Final = 0
_BACKSLASH: Final = 0x5C
_SEMICOLON: Final = 0x3B
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
DOTS: Final = frozenset({b".", b".."})
DECODED_AGAIN: Final = 2
"""How many readers behind us may decode a path that is decoded already."""


def normalise_host(raw: bytes) -> bytes:
    """The host of a request or rule: lowercase, without port and without the dot of the root domain.

    A host that is normal already comes back as the same object. IPv6 literals keep their brackets ("[::1]:80" becomes
    "[::1]"). Raises ValueError for what is no host at all (a port that is no number, an open bracket, empty labels),
    where the answer is 400 (RFC 9110, section 7.2).
    """
    if _NORMAL_HOST(raw) is not None:
        return raw
    return _without_port_and_dot(raw).lower() if raw else raw


def _without_port_and_dot(raw: bytes) -> bytes:
    if raw[:1] == b"[":
        host, bracket, rest = raw.partition(b"]")
        if not bracket or (rest and rest[:1] != b":"):
            raise ValueError("unclosed bracket in host")
        host, port = host + b"]", rest[1:]
    else:
        host, _, port = raw.partition(b":")
        if host[-1:] == b".":
            host = host[:-1]
        if not host or b".." in host or host[:1] == b"." or host[-1:] == b".":
            raise ValueError("empty label in host")
    if port and not port.isdigit():
        raise ValueError("port of host is not a number")
    return host


def normalise_path(raw: bytes) -> bytes:
    """The path of a request or rule as nginx matches it: decoded, dot segments resolved, slashes merged.

    `raw` is a path without its query. A path that is normal already comes back as the same object. Raises ValueError
    where nginx answers 400 (no leading slash, climbing above the root, a broken escape, an encoded NUL), and where
    others would find dot segments that we do not. Every escape is decoded once, `%2F` included, before segments are
    looked at (ngx_http_parse_complex_uri does the same in one pass).
    """
    if raw[:1] == b"/" and not (
        _PERCENT in raw or _HASH in raw or _NUL in raw or raw.find(b"//") >= 0 or raw.find(b"/.") >= 0
    ):
        return raw
    if not raw:
        return b"/"  # The empty path of an absolute-form target, RFC 9112, section 3.2.2.
    if raw[:1] != b"/":
        raise ValueError("path does not begin with a slash")
    path = raw.partition(b"#")[0]
    if b"%" in path:
        path = _decode(path)
    if b"\0" in path:
        raise ValueError("NUL in path")
    if _BACKSLASH in path or _SEMICOLON in path or _PERCENT in path:
        _refuse_hidden_dots(path)
    while b"//" in path:
        path = path.replace(b"//", b"/")
    return _resolve(path) if b"/." in path else path


def _refuse_hidden_dots(path: bytes) -> None:
    """Raise ValueError where other readers of `path`, which is decoded once, may find other dot segments than we do, or
    may take back another element for one that we both find.

    Servlet containers cut path parameters off before they resolve dot segments, Windows takes a backslash for a slash,
    and a second proxy or framework decodes again.
    """
    elements = [element for element in path.split(b"/") if element]
    climbs = b".." in elements
    for element in elements:
        if element in DOTS:
            continue
        for _ in range(DECODED_AGAIN):
            element = _ESCAPE.sub(lambda escape: unhexlify(escape[1]), element)
        if _NUL in element:
            raise ValueError("NUL behind a second escape in path")
        names = [part.partition(b";")[0] for part in element.replace(b"\\", b"/").split(b"/")]
        if not DOTS.isdisjoint(names) or (climbs and (len(names) > 1 or not names[0])):
            raise ValueError("dot segments beside a parameter, a backslash or a second escape in path")


def _decode(path: bytes) -> bytes:
    first, *escapes = path.split(b"%")
    parts = [first]
    for escape in escapes:
        digits = escape[:2]
        try:
            parts.append(unhexlify(digits))
        except ValueError:
            raise ValueError("broken percent-escape in path") from None
        if len(digits) != 2:
            raise ValueError("broken percent-escape in path")
        parts.append(escape[2:])
    return b"".join(parts)


def _resolve(path: bytes) -> bytes:
    elements = path.split(b"/")[1:]
    last = elements[-1]
    kept: list[bytes] = []
    for element in elements:
        if element == b"..":
            if not kept:
                raise ValueError("path climbs above the root")
            kept.pop()
        elif element != b".":
            kept.append(element)
    if last in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)
