"""The `Connection` field of requests to upstreams, in place of ours (ingress-nginx, annotations/connection)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ingressd.filters.base import AnnotationFault, FilterSpec, ParsedAnnotations, RequestView
from ingressd.model.units import ProcessPolicy, Route, RoutePolicy

NAME: Final = "connection-proxy-header"
_VALUES: Final = ("close", "keep-alive")


class ConnectionHeader:
    """Adds the field; the client's own never comes this far. That a connection which was told `close` is not used again
    (RFC 9112, 9.6) is up to whoever sends (`CompiledRoute.closes_upstream`)."""

    __slots__ = ("_line",)

    def __init__(self, value: str) -> None:
        self._line = b"Connection: " + value.encode("ascii")

    def on_request(self, request: RequestView) -> None:
        """Add it."""
        request.head.fields.append(self._line)


def _parse(annotations: Mapping[str, str]) -> ParsedAnnotations:
    """No upgrade passes beside it, as in ingress-nginx, where it takes the place of `Connection: upgrade`."""
    value = annotations.get(NAME)
    if value is None:
        return ParsedAnnotations({})
    if value not in _VALUES:
        fault = AnnotationFault(NAME, f"expected {' or '.join(_VALUES)}, got {value!r}: it has no effect")
        return ParsedAnnotations({}, (fault,))
    return ParsedAnnotations({"upstream_connection": value, "upgrades": frozenset()})


def _compile(process: ProcessPolicy, policy: RoutePolicy, route: Route | None) -> ConnectionHeader | None:
    return ConnectionHeader(policy.upstream_connection) if policy.upstream_connection and route is not None else None


SPEC: Final = FilterSpec(
    name="connection_header",
    annotations=((NAME, "`Connection` on requests to upstreams: close or keep-alive. No upgrade passes beside it."),),
    parse_annotations=_parse,
    compile_request=_compile,
)
