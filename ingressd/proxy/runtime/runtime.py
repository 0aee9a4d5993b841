"""The compiled snapshot: one immutable value that an exchange takes once and keeps to its end."""

from __future__ import annotations

from typing import Final

from ingressd.filters.base import RequestFilter, ResponseFilter
from ingressd.filters.registry import compile_filters
from ingressd.model.units import ProcessPolicy, Route, RoutePolicy
from ingressd.observe.counters import RouteSeries
from ingressd.protocol.h1 import HeadLimits
from ingressd.proxy.routing.table import RouteTable
from ingressd.proxy.runtime.forwarded import Forwarder
from ingressd.proxy.upstream.group import UpstreamGroup

MIN_BODY_RATE_BYTES_PER_S: Final = 500
"""A client that sends its body slower than this over a whole `client-body-timeout` is answered 408."""


class CompiledRoute:
    """A route with everything an exchange needs of it, resolved once at apply."""

    __slots__ = (
        "body_bytes",
        "group",
        "label",
        "log",
        "policy",
        "read_timeout_s",
        "request_filters",
        "response_filters",
        "route",
        "series",
        "upstream_name",
    )

    def __init__(
        self,
        route: Route,
        *,
        policy: RoutePolicy,
        process: ProcessPolicy,
        group: UpstreamGroup | None,
        series: RouteSeries,
    ) -> None:
        self.route = route
        self.policy = policy
        self.group = group
        self.series = series
        self.body_bytes = policy.body_bytes
        self.read_timeout_s = policy.read_timeout_s
        self.log = policy.access_log and process.access_log.path != ""
        origin = route.origin
        self.label = f"{origin.kind}/{origin.namespace}/{origin.name}" if origin.namespace else _static_label(route)
        self.upstream_name = route.upstream or ""
        filters: tuple[tuple[RequestFilter, ...], tuple[ResponseFilter, ...]] = compile_filters(process, policy, route)
        self.request_filters, self.response_filters = filters


def _static_label(route: Route) -> str:
    return f"{route.origin.kind}/{route.origin.name}"


class Runtime:
    """One version of the configuration, compiled. Replaced whole, by one assignment."""

    __slots__ = (
        "forwarder",
        "health_path",
        "limits",
        "own_filters",
        "process",
        "response_limits",
        "table",
        "version",
    )

    def __init__(
        self,
        *,
        version: int,
        process: ProcessPolicy,
        table: RouteTable[CompiledRoute],
    ) -> None:
        """Raises ValueError for a process policy that cannot be compiled."""
        self.version = version
        self.process = process
        self.table = table
        self.forwarder = Forwarder(process)
        self.limits = request_limits(process)
        self.response_limits = response_limits(process)
        _, self.own_filters = compile_filters(process, RoutePolicy(), None)
        self.health_path = process.health_path.encode("ascii")

    def with_table(self, version: int, table: RouteTable[CompiledRoute]) -> Runtime:
        """The next version under the same process policy: what is compiled from that, caches included, is kept."""
        runtime = Runtime.__new__(Runtime)
        runtime.version = version
        runtime.table = table
        runtime.process = self.process
        runtime.forwarder = self.forwarder
        runtime.limits = self.limits
        runtime.response_limits = self.response_limits
        runtime.own_filters = self.own_filters
        runtime.health_path = self.health_path
        return runtime


def request_limits(process: ProcessPolicy) -> HeadLimits:
    """The limits of a request head."""
    return HeadLimits(
        request_line_bytes=process.request_line_bytes,
        field_line_bytes=process.field_line_bytes,
        head_bytes=process.head_bytes,
        max_fields=process.max_header_fields,
        underscores=process.underscores_in_headers,
        drop_invalid=process.ignore_invalid_headers,
    )


def response_limits(process: ProcessPolicy) -> HeadLimits:
    """The limits of a response head: generous, since an upstream is ours, and bounded, since it may be broken."""
    return HeadLimits(
        request_line_bytes=process.response_head_bytes,
        field_line_bytes=process.response_head_bytes,
        head_bytes=process.response_head_bytes,
        max_fields=1000,
        underscores=True,
        drop_invalid=False,
    )
