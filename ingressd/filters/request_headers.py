"""Fields the operator sets on every request to an upstream (`proxy-set-headers`)."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from ingressd.filters.base import FilterSpec, RequestView, field_name
from ingressd.filters.field_values import FieldLine, is_valid_field
from ingressd.model.units import HeaderPairs, ProcessPolicy, Route, RoutePolicy

OURS: Final = frozenset(
    {"content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "keep-alive", "proxy-connection"}
)
"""Framing and hop-by-hop fields belong to the connection and cannot be set."""


def settable(headers: HeaderPairs) -> HeaderPairs:
    """Those of the configured fields that are valid and not `OURS`; the rest is reported where settings are parsed."""
    return tuple(pair for pair in headers if is_valid_field(*pair) and pair[0].lower() not in OURS)


class RequestHeaders:
    """Replaces the client's fields of these names; an empty value only removes them, as nginx's `proxy_set_header`.

    Forwarding fields of these names are left out by `proxy.runtime.forwarded`, which also knows `proxy-set-headers`.
    """

    __slots__ = ("_add", "_drop")

    def __init__(self, fields: tuple[FieldLine, ...]) -> None:
        self._drop = frozenset(field.lower_name for field in fields)
        self._add = fields

    def on_request(self, request: RequestView) -> None:
        """Drop and add."""
        head = request.head
        drop = self._drop
        lines = [line for line in head.fields if field_name(line) not in drop]
        for field in self._add:
            line = field.line if field.line is not None else field.render(request)
            if line:
                lines.append(line)
        head.fields = lines


@lru_cache(maxsize=8)
def _shared(headers: HeaderPairs) -> RequestHeaders | None:
    """One for all routes of a process policy."""
    fields = tuple(FieldLine(name, value) for name, value in settable(headers))
    return RequestHeaders(fields) if fields else None


def _compile(process: ProcessPolicy, policy: RoutePolicy, route: Route | None) -> RequestHeaders | None:
    return _shared(process.set_headers) if route is not None else None


SPEC: Final = FilterSpec(
    name="request_headers",
    settings=(
        (
            "proxy-set-headers",
            "ConfigMap of fields to set on requests to upstreams, in place of the client's and of our own forwarding "
            "fields of that name; an empty value removes the field.",
        ),
    ),
    compile_request=_compile,
)
