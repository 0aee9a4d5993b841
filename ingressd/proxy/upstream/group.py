"""An upstream as it is: its endpoints with their state, its balancer, its cap and budget, its TLS context.

Keyed by the upstream's name, which outlives every change of its endpoints, so that health, latency and idle connections
survive whatever the cluster does to the list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final

import msgspec

from ingressd.model.units import Endpoint, Upstream
from ingressd.observe.counters import WorkerCounters
from ingressd.observe.shared_table import RETRIES, WAITING, SharedTable
from ingressd.protocol.h1 import HeadLimits
from ingressd.proxy.tls.client import UpstreamContext, UpstreamContexts
from ingressd.proxy.tls.transport import TlsShare
from ingressd.proxy.upstream.balancers.base import Balancer
from ingressd.proxy.upstream.balancers.table import BALANCERS
from ingressd.proxy.upstream.budget import RetryBudget
from ingressd.proxy.upstream.connection import UpstreamConnection
from ingressd.proxy.upstream.endpoint import EndpointState
from ingressd.proxy.upstream.opening import open_connection
from ingressd.proxy.upstream.outbox import Outbox
from ingressd.proxy.upstream.outlier import PodHealth
from ingressd.proxy.upstream.pool import IdlePool, IdleRoom, PoolLimits
from ingressd.proxy.upstream.request_queue import RequestQueue
from ingressd.settings.config import RequestCap

_NO_SLOT: Final = SharedTable.base(0)


class UpstreamGroup:
    """One upstream in one worker."""

    __slots__ = (
        "_clock",
        "_columns",
        "_contexts",
        "_counters",
        "_health",
        "_outbox",
        "_own_column",
        "_random",
        "_room",
        "_share",
        "balancer",
        "budget",
        "context",
        "endpoints",
        "limits",
        "queue",
        "unit",
    )

    def __init__(
        self,
        unit: Upstream,
        *,
        share: TlsShare,
        outbox: Outbox,
        contexts: UpstreamContexts,
        counters: WorkerCounters,
        rng: Random,
        health: PodHealth,
        own_column: Any,
        room: IdleRoom,
        clock: Callable[[], float],
    ) -> None:
        """Raises ValueError when the TLS material cannot be used."""
        self.unit = unit
        self._share = share
        self._outbox = outbox
        self._contexts = contexts
        self._counters = counters
        self._random = rng
        self._health = health
        self._own_column = own_column
        self._room = room
        self._clock = clock
        self._columns: Any = ()
        self.endpoints: dict[str, EndpointState] = {}
        """Keyed by "address:port"."""
        self.balancer: Balancer = BALANCERS[unit.balancer](rng, health=health)
        self.context: UpstreamContext | None = contexts.get(unit.tls) if unit.tls is not None else None
        self.budget = RetryBudget()
        self.queue: RequestQueue | None = None
        """The cap on requests of an endpoint; None without one."""
        self.limits = PoolLimits(connections=320, idle_s=60.0, requests=10000, age_s=3600.0)
        self._set_cap(unit.cap)

    def __repr__(self) -> str:
        return f"<UpstreamGroup {self.unit.name}: {len(self.endpoints)} endpoints>"

    def replace(self, unit: Upstream) -> None:
        """Take a new version of the unit. Connections made under other TLS terms are never used again.

        Raises ValueError when the TLS material cannot be used; nothing has changed then.
        """
        if unit.tls != self.unit.tls:
            self.context = self._contexts.get(unit.tls) if unit.tls is not None else None
            for state in self.endpoints.values():
                self._leave(state)
                state.pool = IdlePool(self.limits, self._counters, self._room)
        if unit.balancer != self.unit.balancer:
            self.balancer = BALANCERS[unit.balancer](self._random, health=self._health)
            self.balancer.update(list(self.endpoints.values()))
        self.unit = unit
        self._set_cap(unit.cap)

    def _set_cap(self, cap: RequestCap | msgspec.UnsetType) -> None:
        """Take a new cap, or none any more: then whoever waits goes."""
        queue = self.queue
        if isinstance(cap, msgspec.UnsetType):
            self.queue = None
            if queue is not None:
                queue.open()
        elif queue is not None:
            queue.cap = cap
            queue.changed()
        else:
            queue = self.queue = RequestQueue(
                cap, loop=asyncio.get_running_loop(), clock=self._clock, counters=self._counters
            )
            self._count_together()
        for state in self.endpoints.values():
            state.queue = self.queue

    def _count_together(self) -> None:
        """With the other workers, in cells that all of them find: those of the endpoint with the least slot."""
        base = min((state.base for state in self.endpoints.values() if state.base > _NO_SLOT), default=0)
        group = SharedTable.group_base(base) if base else 0
        columns, own = self._columns, self._own_column
        self.budget.share(group + RETRIES if group else 0, columns, own)
        if self.queue is not None:
            self.queue.share(group + WAITING if group else 0, columns, own, endpoints=len(self.endpoints))

    def set_limits(self, limits: PoolLimits) -> None:
        """Take new `upstream-keepalive-*` limits."""
        self.limits = limits
        for state in self.endpoints.values():
            state.pool.limits = limits

    def set_budget(self, percent: float, min_per_s: float) -> None:
        """Take a new retry budget."""
        self.budget.set_limits(percent=percent, min_per_s=min_per_s)

    def set_endpoints(self, endpoints: Iterable[Endpoint], base_of: Callable[[str], int], columns: Any) -> None:
        """Take a new list: who stays keeps its state, who leaves gets no new request and loses its idle connections."""
        states: dict[str, EndpointState] = {}
        for endpoint in endpoints:
            name = f"{endpoint.address}:{endpoint.port}"
            state = self.endpoints.get(name)
            if state is None:
                state = EndpointState(endpoint.address, endpoint.port, base=base_of(name), columns=columns)
                state.pool = IdlePool(self.limits, self._counters, self._room)
                state.queue = self.queue
            else:
                state.base = base_of(name)
            state.weight = endpoint.weight
            state.draining = endpoint.draining
            states[name] = state
        for name, state in self.endpoints.items():
            if name not in states:
                self._leave(state)
        self.endpoints = states
        self._columns = columns
        self.balancer.update(list(states.values()))
        self._count_together()
        if self.queue is not None:
            self.queue.changed()

    def close(self) -> None:
        """The upstream is gone from the configuration. Whoever waits for a place goes on waiting."""
        self.budget.share(0, (), None)
        if self.queue is not None:
            self.queue.share(0, (), None, endpoints=0)
        for state in self.endpoints.values():
            self._leave(state)

    @staticmethod
    def _leave(state: EndpointState) -> None:
        state.pool.close()

    def server_name(self, host: str) -> str:
        """The TLS server name for a request to `host`; "" for a plain upstream."""
        tls = self.unit.tls
        if tls is None:
            return ""
        return tls.server_name or host

    async def connect(
        self, endpoint: EndpointState, server_name: str, limits: HeadLimits, now: float
    ) -> UpstreamConnection:
        """A new connection, TLS handshake included, that nobody uses yet.

        Raises OSError when the endpoint cannot be reached, ssl.SSLError or ValueError when the handshake fails.
        The caller bounds the time by cancelling.
        """
        connection = UpstreamConnection(
            self._share.buffer,
            self._outbox,
            limits=limits,
            server_name=server_name,
            opened_s=now,
            high_water_bytes=self.limits.buffer_bytes,
        )
        await open_connection(connection, endpoint.address, endpoint.port, context=self.context, share=self._share)
        return connection
