"""What one worker counts: plain attributes for the process, a `RouteSeries` for every route.

Numbers are cumulative for the life of the worker and sent to the controller, which adds up all workers, living and
dead.
Label values come from objects, never from a client: methods outside the nine of RFC 9110 and 5789 are "OTHER".
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, Final
from weakref import WeakValueDictionary

import msgspec

DURATION_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds (inclusive), ingress-nginx's default (`time-buckets`)."""
SIZE_BUCKETS_BYTES: Final = (10, 100, 1000, 10000, 100000, 1000000, 10000000)
"""Upper bounds (inclusive), ingress-nginx's default (`size-buckets`)."""

METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"})
MAX_SERIES: Final = 50_000
"""Cells (route, method and status) a worker keeps; what comes later is counted under the labels of `OVERFLOW`."""
OVERFLOW: Final = ("", "", "", "", "")

# Where things are in the list of one cell; a histogram is its buckets (not cumulative over buckets), the last is +Inf.
COUNT: Final = 0
DURATION_SUM: Final = 1
UPSTREAM_COUNT: Final = 2
UPSTREAM_SUM: Final = 3
RECEIVED_SUM: Final = 4
SENT_SUM: Final = 5
DURATION: Final = 6
UPSTREAM: Final = DURATION + len(DURATION_BUCKETS_S) + 1
RECEIVED: Final = UPSTREAM + len(DURATION_BUCKETS_S) + 1
SENT: Final = RECEIVED + len(SIZE_BUCKETS_BYTES) + 1
CELL_LENGTH: Final = SENT + len(SIZE_BUCKETS_BYTES) + 1

Labels = tuple[str, str, str, str, str]
"""namespace, ingress, service, host, path."""


class RouteSeries:
    """The numbers of one route, by method and status. Alive as long as somebody holds it (a route, an exchange)."""

    __slots__ = ("__weakref__", "_owner", "cells", "labels")

    def __init__(self, labels: Labels, owner: WorkerCounters) -> None:
        self.labels = labels
        self.cells: dict[tuple[bytes, int], list[Any]] = {}
        self._owner = owner

    def add(
        self,
        method: bytes,
        status: int,
        duration_s: float,
        upstream_s: float,
        received_bytes: int,
        sent_bytes: int,
    ) -> None:
        """Count one exchange. `upstream_s` is the time of the last upstream try, below 0 when none was made.

        `received_bytes` and `sent_bytes` are what the client sent and got, heads included.
        """
        cell = self.cells.get((method, status))
        if cell is None:
            cell = self._open(method, status)
        cell[0] += 1
        cell[1] += duration_s
        cell[4] += received_bytes
        cell[5] += sent_bytes
        bucket = 0 if duration_s <= 0.005 else bisect_left(DURATION_BUCKETS_S, duration_s)
        cell[DURATION + bucket] += 1
        cell[RECEIVED + bisect_left(SIZE_BUCKETS_BYTES, received_bytes)] += 1
        cell[SENT + bisect_left(SIZE_BUCKETS_BYTES, sent_bytes)] += 1
        if upstream_s >= 0.0:
            cell[2] += 1
            cell[3] += upstream_s
            bucket = 0 if upstream_s <= 0.005 else bisect_left(DURATION_BUCKETS_S, upstream_s)
            cell[UPSTREAM + bucket] += 1

    def _open(self, method: bytes, status: int) -> list[Any]:
        """The cell for a method and status seen for the first time."""
        key = (method if method in METHODS else b"OTHER", status)
        cell = self.cells.get(key)
        if cell is None:
            if not self._owner.take_room():
                return self._owner.overflow_cell()
            cell = self.cells[key] = [0] * CELL_LENGTH
        return cell


class CountersReport(msgspec.Struct, array_like=True):
    """What `WorkerCounters.take` sends. `series`: (labels, [(method, status, cell)]) of what changed.

    Cells stay encoded, in a tenth of the memory, until somebody looks at them (`decode_cell`).
    """

    everything: bool
    process: dict[str, float]
    series: list[tuple[Labels, list[tuple[str, int, msgspec.Raw]]]]
    removed: list[Labels]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CountersReport)
_cell_decoder = msgspec.msgpack.Decoder(list[float])


def decode_report(report: bytes) -> CountersReport:
    """The inverse of `WorkerCounters.take`. Raises msgspec.MsgspecError."""
    return _decoder.decode(report)


def decode_cell(cell: bytes | msgspec.Raw) -> list[float]:
    """The numbers of one cell of a report. Raises msgspec.MsgspecError."""
    return _cell_decoder.decode(cell)


ATTRIBUTES: Final = (
    "connections",
    "connections_idle",
    "connections_upgraded",
    "accepted",
    "rejected",
    "requests",
    "tls_handshakes",
    "tls_resumed",
    "tls_failures",
    "proxy_headers_refused",
    "bad_requests",
    "pool_opened",
    "pool_reused",
    "pool_closed",
    "pool_idle",
    "connect_failures",
    "framing_faults",
    "retries",
    "retries_refused",
    "queued",
    "queue_length",
    "queue_full",
    "queue_timeouts",
    "ejections",
    "shed",
    "memory_held_bytes",
    "memory_budget_bytes",
    "log_lines",
    "log_lines_dropped",
    "loop_lag_s",
    "loop_lag_max_s",
    "loop_lag_worst_s",
    "loop_stalls",
    "tasks",
)
"""The plain numbers of a `WorkerCounters`."""
PROCESS_GAUGES: Final = frozenset(
    {
        "connections",
        "connections_idle",
        "connections_upgraded",
        "pool_idle",
        "queue_length",
        "memory_held_bytes",
        "memory_budget_bytes",
        "loop_lag_s",
        "loop_lag_max_s",
        "loop_lag_worst_s",
        "tasks",
    }
)
"""Those of `ATTRIBUTES` that go down again."""


class WorkerCounters:
    """All numbers of one worker. The data plane writes the attributes directly; all but `PROCESS_GAUGES` only grow."""

    __slots__ = (*ATTRIBUTES, "_overflow", "_room", "_sent", "_series")

    def __init__(self) -> None:
        self.connections = 0
        self.connections_idle = 0
        self.connections_upgraded = 0
        self.accepted = 0
        self.rejected = 0
        self.requests = 0
        self.tls_handshakes = 0
        self.tls_resumed = 0
        self.tls_failures = 0
        self.proxy_headers_refused = 0
        self.bad_requests = 0
        self.pool_opened = 0
        self.pool_reused = 0
        self.pool_closed = 0
        self.pool_idle = 0
        self.connect_failures = 0
        self.framing_faults = 0
        self.retries = 0
        self.retries_refused = 0
        self.queued = 0
        self.queue_length = 0
        self.queue_full = 0
        self.queue_timeouts = 0
        self.ejections = 0
        self.shed = 0
        self.memory_held_bytes = 0
        self.memory_budget_bytes = 0
        self.log_lines = 0
        self.log_lines_dropped = 0
        self.loop_lag_s = 0.0
        self.loop_lag_max_s = 0.0
        self.loop_lag_worst_s = 0.0
        self.loop_stalls = 0
        self.tasks = 0
        self._series: WeakValueDictionary[Labels, RouteSeries] = WeakValueDictionary()
        self._sent: dict[Labels, int] = {}  # Exchanges of each series when it was last sent.
        self._room = MAX_SERIES
        self._overflow = RouteSeries(OVERFLOW, self)
        self._series[OVERFLOW] = self._overflow

    def series(self, *, namespace: str, ingress: str, service: str, host: str, path: str = "") -> RouteSeries:
        """The series of a route, the same object for the same labels as long as somebody holds it. For apply time."""
        labels = (namespace, ingress, service, host, path)
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = RouteSeries(labels, self)
        return series

    def take_room(self) -> bool:
        """Whether one more cell may be opened."""
        if self._room <= 0:
            return False
        self._room -= 1
        return True

    def overflow_cell(self) -> list[Any]:
        """The one cell for everything beyond `MAX_SERIES`."""
        return self._overflow.cells.setdefault((b"OTHER", 0), [0] * CELL_LENGTH)

    def take(self, *, everything: bool = False) -> bytes:
        """The cumulative numbers for `decode_report`: of the series that changed since the last call, or of all."""
        changed: list[tuple[Labels, list[tuple[str, int, msgspec.Raw]]]] = []
        living: set[Labels] = set()
        for labels, series in self._series.items():
            living.add(labels)
            if not series.cells:
                continue
            count = sum([cell[COUNT] for cell in series.cells.values()])
            if everything or self._sent.get(labels) != count:
                self._sent[labels] = count
                rows = [
                    (method.decode("ascii"), status, msgspec.Raw(_encoder.encode(cell)))
                    for (method, status), cell in series.cells.items()
                ]
                changed.append((labels, rows))
        removed = [labels for labels in self._sent if labels not in living]
        for labels in removed:
            del self._sent[labels]
        self._room = MAX_SERIES - sum(len(series.cells) for series in self._series.values())
        process = {name: getattr(self, name) for name in ATTRIBUTES}
        report = CountersReport(everything, process, changed, removed)
        self.loop_lag_max_s = 0.0
        return _encoder.encode(report)
