"""Compress answers on their way to the client (nginx `ngx_http_gzip_filter_module`, ingress-nginx `use-gzip`)."""

from __future__ import annotations

import re
import zlib
from functools import lru_cache
from typing import Any, Final

import re2

from ingressd.filters.base import FilterSpec, RequestView, field_name
from ingressd.model.units import GzipPolicy, ProcessPolicy, Route, RoutePolicy
from ingressd.protocol.h1 import ResponseHead

_STATUSES: Final = frozenset({200, 403, 404})
_VARY: Final = b"Vary: Accept-Encoding"
_QUALITY = re.compile(rb"q[ \t]*=[ \t]*([01](?:\.[0-9]{0,3})?)", re.IGNORECASE).fullmatch


class GzipBody:
    """One body, compressed as a stream.

    With `flush_each` everything fed comes out at once, so that events are not held back; a body of known length is
    squeezed as a whole. Window and memory shrink with a known length, as nginx does: 256 KiB is much for 300 bytes.
    """

    __slots__ = ("_compressor", "_flush_each")

    def __init__(self, level: int, *, length: int | None) -> None:
        window, memory = 15, 8
        while length is not None and window > 9 and length < (1 << (window - 1)) - 262:
            window -= 1
            memory = max(memory - 1, 1)
        self._compressor: Any = zlib.compressobj(level, zlib.DEFLATED, 16 + window, memory)
        self._flush_each = length is None

    def feed(self, data: bytes) -> bytes:
        """Compressed bytes to send now."""
        compressed: bytes = self._compressor.compress(data)
        if self._flush_each:
            compressed += self._compressor.flush(zlib.Z_SYNC_FLUSH)
        return compressed

    def finish(self) -> bytes:
        """The rest, with the checksum."""
        rest: bytes = self._compressor.flush(zlib.Z_FINISH)
        return rest


class Gzip:
    """Decides for each answer; the conditions are nginx's, in its order, and RFC 9111's no-transform on top."""

    __slots__ = ("_all_types", "_disabled_agents", "_level", "_min_length_bytes", "_types")

    def __init__(self, policy: GzipPolicy) -> None:
        self._level = policy.level
        self._min_length_bytes = policy.min_length_bytes
        self._all_types = "*" in policy.types
        self._types = frozenset(media_type.encode() for media_type in policy.types) | {b"text/html"}
        self._disabled_agents = [compiled for compiled in map(_pattern, policy.disable_user_agents) if compiled]

    def on_response(self, request: RequestView, response: ResponseHead) -> GzipBody | None:
        """Mark the answer as compressed and return its transform, or leave it as it is."""
        length = response.content_length
        if (
            response.status not in _STATUSES
            or response.content_encoding is not None
            or (length is not None and length < self._min_length_bytes)
            or not self._is_compressible(response.content_type)
            or request.head.method == b"HEAD"
            or _has_no_transform(response)
        ):
            return None
        _add_vary(response)
        if request.head.version < 11 or not accepts_gzip(request.head.accept_encoding) or self._is_disabled(request):
            return None
        _mark_compressed(response)
        return GzipBody(self._level, length=length)

    def own_lines(self, request: RequestView) -> bytes:
        """An answer of ours is shorter than anything worth compressing."""
        return b""

    def _is_compressible(self, content_type: bytes | None) -> bool:
        if content_type is None:
            return False
        return self._all_types or content_type.partition(b";")[0].strip(b" \t").lower() in self._types

    def _is_disabled(self, request: RequestView) -> bool:
        agent = request.head.user_agent
        return agent is not None and any(pattern.search(agent) for pattern in self._disabled_agents)


def accepts_gzip(accept_encoding: bytes | None) -> bool:
    """Whether gzip is named, with a quality above zero (RFC 9110, 12.5.3). `*` alone does not count, as in nginx."""
    if accept_encoding is None:
        return False
    for part in accept_encoding.lower().split(b","):
        coding, _, parameter = part.partition(b";")
        if coding.strip(b" \t") in (b"gzip", b"x-gzip"):
            quality = _QUALITY(parameter.strip(b" \t")) if parameter else None
            return not parameter or (quality is not None and float(quality[1]) > 0)
    return False


def _pattern(text: str) -> Any:
    """Compiled, or None: settings report a pattern that RE2 refuses, and one bad word must not stop a snapshot."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text.encode(), options)
    except re2.error:
        return None


def _has_no_transform(response: ResponseHead) -> bool:
    """RFC 9111, 5.2.2.6: "an intermediary […] MUST NOT transform the content"."""
    return any(line[:14].lower() == b"cache-control:" and b"no-transform" in line.lower() for line in response.fields)


def _add_vary(response: ResponseHead) -> None:
    for line in response.fields:
        if line[:5].lower() == b"vary:" and (b"accept-encoding" in line.lower() or line[5:].strip() == b"*"):
            return
    response.fields.append(_VARY)


def _mark_compressed(response: ResponseHead) -> None:
    """RFC 9110, 8.8.3: another encoding is another representation, so a strong ETag may not stay strong."""
    fields = []
    for line in response.fields:
        name = field_name(line)
        if name == b"etag":
            value = line[5:].strip(b" \t")
            if value.startswith(b'"'):
                fields.append(b"ETag: W/" + value)
            elif value.startswith(b"W/"):
                fields.append(line)
        elif name != b"accept-ranges":
            fields.append(line)
    fields.append(b"Content-Encoding: gzip")
    response.fields = fields
    response.content_encoding = b"gzip"
    response.content_length = None


# One for all routes: it holds nothing of a route, and compiling patterns ten thousand times is not free.
_gzip = lru_cache(maxsize=8)(Gzip)


def _compile(process: ProcessPolicy, policy: RoutePolicy, route: Route | None) -> Gzip | None:
    return _gzip(process.gzip) if process.gzip is not None and route is not None else None


SPEC: Final = FilterSpec(
    name="gzip",
    settings=(
        ("use-gzip", "Compress answers for clients that accept gzip. Default false."),
        ("gzip-level", "Effort, 1 to 9. Default 1."),
        ("gzip-min-length", "Leave answers with a smaller Content-Length alone. Default 256 bytes."),
        ("gzip-types", "Media types to compress besides text/html; `*` is all."),
        ("gzip-disable", "No compression for clients whose User-Agent matches this pattern (RE2)."),
    ),
    compile_response=_compile,
)
