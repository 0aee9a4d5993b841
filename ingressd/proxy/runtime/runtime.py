"""The compiled snapshot: one immutable value that an exchange takes once and keeps to its end."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from ingressd.filters.base import RequestFilter, ResponseFilter
from ingressd.filters.registry import compile_filters
from ingressd.model.units import ProcessPolicy, Route, RoutePolicy
from ingressd.observe.counters import RouteSeries
from ingressd.protocol.limits import HeadLimits
from ingressd.proxy.routing.normalise import normalise_host
from ingressd.proxy.routing.table import RouteTable
from ingressd.proxy.runtime.forwarded import Forwarder
from ingressd.proxy.tls.clients import ClientGuards
from ingressd.proxy.upstream.group import UpstreamGroup

HOSTS: Final = 4096
HOST_BYTES: Final = 255
MIN_BODY_RATE_BYTES_PER_S: Final = 500
"""A client that sends its body slower than this over a whole `client-body-timeout` is answered 408."""


class CompiledRoute:
    """A route with everything an exchange needs of it, resolved once at apply."""

    __slots__ = (
        "body_bytes",
        "closes_upstream",
        "connect_timeout_s",
        "failed_closed",
        "group",
        "label",
        "log",
        "policy",
        "read_timeout_s",
        "request_filters",
        "response_filters",
        "series",
        "status",
        "unheard_s",
        "upgrades",
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
        self.status = route.status
        """What a route without an upstream answers."""
        self.policy = policy
        self.group = group
        self.series = series
        self.body_bytes = policy.body_bytes
        self.closes_upstream = policy.upstream_connection == "close"
        self.connect_timeout_s = policy.connect_timeout_s
        self.failed_closed = policy.failed_closed
        self.read_timeout_s = policy.read_timeout_s
        self.unheard_s = min(policy.connect_timeout_s, policy.read_timeout_s)
        """When a request that is not answered is looked after: has it arrived at all?"""
        self.upgrades = _tokens(policy.upgrades)
        self.log = policy.access_log and process.access_log.path != ""
        origin = route.origin
        self.label = f"{origin.kind}/{origin.namespace}/{origin.name}" if origin.namespace else _static_label(route)
        self.upstream_name = route.upstream or ""
        filters: tuple[tuple[RequestFilter, ...], tuple[ResponseFilter, ...]] = compile_filters(process, policy, route)
        self.request_filters, self.response_filters = filters


@lru_cache(64)
def _tokens(upgrades: frozenset[str]) -> frozenset[bytes]:
    """One object for all routes with the same; there are few different ones."""
    return frozenset(token.encode("ascii") for token in upgrades)


def _static_label(route: Route) -> str:
    return f"{route.origin.kind}/{route.origin.name}"


class Runtime:
    """One version of the configuration, compiled. Replaced whole, by one assignment."""

    __slots__ = (
        "body_timeout_s",
        "buffer_bytes",
        "forwarder",
        "guards",
        "head_timeout_s",
        "health_path",
        "hosts",
        "keep_alive_requests",
        "keep_alive_s",
        "limits",
        "own_filters",
        "process",
        "response_limits",
        "send_timeout_s",
        "table",
        "version",
    )

    def __init__(
        self,
        *,
        version: int,
        process: ProcessPolicy,
        table: RouteTable[CompiledRoute],
        guards: ClientGuards | None = None,
    ) -> None:
        """`guards` None: no host asks for client certificates. ValueError for a policy that cannot be compiled."""
        self.version = version
        self.process = process
        self.table = table
        self.guards = guards
        self.forwarder = Forwarder(process)
        self.limits = request_limits(process)
        self.response_limits = response_limits(process)
        _, self.own_filters = compile_filters(process, RoutePolicy(), None)
        self.health_path = process.health_path.encode("ascii")
        self.head_timeout_s = process.client_header_timeout_s
        self.body_timeout_s = process.client_body_timeout_s
        self.send_timeout_s = process.client_send_timeout_s
        self.buffer_bytes = process.buffer_bytes
        self.keep_alive_s = process.keep_alive_s
        self.keep_alive_requests = process.keep_alive_requests
        self.hosts: dict[bytes, bytes] = {}
        """Hosts as clients spell them to their normal form; cleared when full."""

    def host_of(self, raw: bytes) -> bytes:
        """The normal form of a host, remembered. Raises ValueError for what is no host."""
        host = self.hosts.get(raw)
        if host is None:
            host = normalise_host(raw)
            if len(raw) <= HOST_BYTES:
                if len(self.hosts) >= HOSTS:
                    self.hosts.clear()
                self.hosts[raw] = host
        return host

    def with_table(self, version: int, table: RouteTable[CompiledRoute], guards: ClientGuards | None = None) -> Runtime:
        """The next version under the same process policy: what is compiled from that, caches included, is kept."""
        runtime = Runtime.__new__(Runtime)
        runtime.version = version
        runtime.table = table
        runtime.guards = guards
        runtime.process = self.process
        runtime.forwarder = self.forwarder
        runtime.limits = self.limits
        runtime.response_limits = self.response_limits
        runtime.own_filters = self.own_filters
        runtime.health_path = self.health_path
        runtime.head_timeout_s = self.head_timeout_s
        runtime.body_timeout_s = self.body_timeout_s
        runtime.send_timeout_s = self.send_timeout_s
        runtime.buffer_bytes = self.buffer_bytes
        runtime.keep_alive_s = self.keep_alive_s
        runtime.keep_alive_requests = self.keep_alive_requests
        runtime.hosts = self.hosts
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
