"""What is known of one endpoint while it serves: the runtime side of `model.units.Endpoint`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingressd.observe.shared_table import IN_FLIGHT


class EndpointState:
    """One endpoint of one upstream, as this worker knows it.

    Keyed by upstream and address: the same address in two upstreams is two states, because health, latency and load
    belong to what is asked of an endpoint, and a state is kept while endpoint lists come and go so that a restart of
    one pod forgets nothing about the others. Whoever keeps the states by that key drops one when its address leaves.

    `base` is the first cell of the endpoint's slot in every column of the shared table; `columns` are the columns of
    all workers, read only; what this worker writes goes through its own column. `pool` belongs to the connection pool.
    """

    __slots__ = (
        "address",
        "base",
        "columns",
        "current_weight",
        "draining",
        "ejected_until",
        "ewma_at",
        "ewma_s",
        "failures",
        "name",
        "on_trial",
        "pool",
        "port",
        "queue",
        "ring_points",
        "weight",
    )

    def __init__(
        self,
        address: str,
        port: int,
        *,
        weight: int = 1,
        draining: bool = False,
        base: int = 0,
        columns: Sequence[Sequence[int]] = (),
    ) -> None:
        self.address = address
        self.port = port
        self.weight = weight
        self.draining = draining
        self.base = base
        self.columns = columns
        self.name = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        """As `$upstream_addr` shows it."""
        self.pool: Any = None
        self.queue: Any = None
        """The upstream's `RequestQueue`, where there is a cap on its endpoints' requests."""
        self.current_weight = 0
        """Smooth weighted round robin: what this endpoint is owed."""
        self.ewma_s = -1.0
        """Peak EWMA of latency at `ewma_at`; negative while nothing was observed."""
        self.ewma_at = 0.0
        self.failures = 0
        """Failures in a row, as `outlier` counts them: over all workers, as far as this one knows."""
        self.ejected_until = 0.0
        """Time (monotonic seconds) until which this endpoint is passed over; 0.0 when it never was, or was let back."""
        self.on_trial = False
        """Ejected, but for one request of this worker that tries it."""
        self.ring_points: tuple[int, ...] = ()
        """Points on the hash ring, cached because they depend on the address alone."""

    def in_flight(self) -> int:
        """Exchanges running against this endpoint now, over all workers."""
        cell = self.base + IN_FLIGHT
        total = 0
        for column in self.columns:
            total += column[cell]
        return total

    def __repr__(self) -> str:
        extra = ", draining" if self.draining else ""
        extra += f", ejected until {self.ejected_until:.3f}" if self.ejected_until else ""
        return f"<endpoint {self.name} weight {self.weight}{extra}>"
