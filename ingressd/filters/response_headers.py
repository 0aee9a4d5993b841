"""Fields of answers: hide the upstream's, add the operator's, and the Server field."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from ingressd.filters.base import FilterSpec, RequestView, field_name
from ingressd.filters.field_values import FieldLine, is_valid_field
from ingressd.model.units import HeaderPairs, ProcessPolicy, Route, RoutePolicy
from ingressd.protocol.h1 import ResponseHead

_FRAMING: Final = frozenset({"content-length", "transfer-encoding", "connection", "upgrade", "trailer", "keep-alive"})
_SERVER: Final = FieldLine("Server", "ingressd")


class ResponseHeaders:
    """Drops the lines whose name is in `drop`, then adds `add`.

    As nginx's `more_set_headers`, a field that is added replaces the upstream's of that name, and goes on every answer,
    ours included. The upstream's Server field never passes (nginx hides it by default).
    """

    __slots__ = ("_add", "_drop")

    def __init__(self, drop: frozenset[bytes], add: tuple[FieldLine, ...]) -> None:
        self._drop = drop
        self._add = add

    def on_response(self, request: RequestView, response: ResponseHead) -> None:
        """Drop and add."""
        drop = self._drop
        if drop:
            response.fields = [line for line in response.fields if field_name(line) not in drop]
            if response.special is not None:
                for name in drop & response.special.keys():
                    del response.special[name]
        for field in self._add:
            line = field.line if field.line is not None else field.render(request)
            if line:
                response.fields.append(line)

    def own_lines(self, request: RequestView) -> bytes:
        """The added lines."""
        return b"".join(line + b"\r\n" for field in self._add if (line := field.render(request)))


@lru_cache(maxsize=8)
def _shared(hide: tuple[str, ...], add: HeaderPairs, server_tokens: bool) -> ResponseHeaders | None:
    """One for all routes of a process policy."""
    added = [
        FieldLine(name, value) for name, value in add if is_valid_field(name, value) and name.lower() not in _FRAMING
    ]
    drop = {name.strip().lower().encode() for name in hide} | {field.lower_name for field in added}
    drop -= {name.encode() for name in _FRAMING}
    if server_tokens and b"server" not in drop:
        added.append(_SERVER)
    if not added and not drop:
        return None
    return ResponseHeaders(frozenset(drop), tuple(added))


def _compile(process: ProcessPolicy, policy: RoutePolicy, route: Route | None) -> ResponseHeaders | None:
    return _shared(process.hide_headers, process.add_headers, process.server_tokens)


SPEC: Final = FilterSpec(
    name="response_headers",
    settings=(
        ("hide-headers", "Fields of the upstream's answers that clients do not get to see."),
        ("add-headers", "ConfigMap of fields to add to every answer, in place of the upstream's of that name."),
        ("server-tokens", "Send a Server field, `ingressd`. The upstream's own never passes. Default false."),
    ),
    compile_response=_compile,
)
