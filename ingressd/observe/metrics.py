"""Every metric we expose, declared in one place, with how many label sets a cluster of 10,000 routes makes.

Names of ingress-nginx 1.15 (`nginx_ingress_controller_*`) are kept where the meaning is the same; ours begin
`ingressd_`. No label comes from a client: hosts, paths and names come from objects, methods are the nine known ones or
"OTHER", and a status is a number. A worker keeps 50,000 route series at most (`observe.counters.MAX_SERIES`); label
sets below say R for a route that was used, M for its methods and statuses seen (3 to 10).

Imported by the controller only: workers must not load prometheus-client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ingressd.observe import counters as cells
from ingressd.observe.admission_metrics import AdmissionMetrics
from ingressd.observe.cluster_metrics import ClusterState, cluster_families
from ingressd.observe.counters import DURATION_BUCKETS_S, SIZE_BUCKETS_BYTES
from ingressd.observe.duty_metrics import Duties, duty_families
from ingressd.observe.health_metrics import HealthNumbers, health_families
from ingressd.observe.stalls import Stalls
from ingressd.observe.totals import Row, Totals

PREFIX: Final = "nginx_ingress_controller_"
CONTROLLER_LABELS: Final = ("controller_class", "controller_namespace", "controller_pod")
"""On every metric of ingress-nginx, always with the same values: its dashboards choose by them."""
ROUTE_LABELS: Final = (
    *CONTROLLER_LABELS,
    "namespace",
    "ingress",
    "service",
    "canary",
    "host",
    "path",
    "method",
    "status",
)
"""As in ingress-nginx with `metrics-per-host`; `canary` is always "" until there are canaries."""
BARE_COUNTERS: Final = tuple(
    PREFIX + name for name in ("requests", "success", "errors", "nginx_process_connections_total")
)
"""Counters whose names in ingress-nginx are not what OpenMetrics demands (no `_total`, or a gauge has the rest of the
name): of unknown type there."""


class Identity(NamedTuple):
    """Who we are, for `CONTROLLER_LABELS`: the controller's class, and namespace and pod ("" outside a cluster)."""

    controller_class: str
    namespace: str = ""
    pod: str = ""


class CertificateExpiry(NamedTuple):
    """One certificate that serves a host."""

    host: str
    name: str
    namespace: str
    secret: str
    serial: str
    issuer: str
    not_after_s: float


STEP_ROWS: Final = 500
"""Copying so many rows takes 5 ms."""


class WorkerState(NamedTuple):
    """One attached worker."""

    worker: int
    version: int
    starts: int


class State(NamedTuple):
    """What the controller knows at the moment of a scrape."""

    version: int = 0
    ready: bool = False
    workers: tuple[WorkerState, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()
    """(severity, reason) of each."""
    quarantined: int = 0
    units: tuple[tuple[str, int], ...] = ()
    """Kind of unit and how many."""
    certificates: tuple[CertificateExpiry, ...] = ()
    endpoints_ejected: int = 0
    in_flight: int = 0
    health: HealthNumbers = HealthNumbers()
    duties: Duties | None = None
    cluster: ClusterState | None = None
    stalls: Stalls = Stalls()
    """Of the controller's own loop."""


class _Name(NamedTuple):
    name: str
    attribute: str
    help: str


# One label set each.
_PROCESS_COUNTERS: Final = (
    _Name("ingressd_requests_shed", "shed", "Requests answered 503, and new connections refused, for overload."),
    _Name("ingressd_requests", "requests", "Requests whose head was read."),
    _Name("ingressd_bad_requests", "bad_requests", "Requests refused before a route was known."),
    _Name("ingressd_connections_rejected", "rejected", "Client connections closed at once: too many."),
    _Name(
        "ingressd_proxy_headers_refused",
        "proxy_headers_refused",
        "Client connections closed for a PROXY header that was missing, malformed, late or not to be believed.",
    ),
    _Name("ingressd_tls_handshakes", "tls_handshakes", "TLS handshakes with clients that succeeded."),
    _Name("ingressd_tls_sessions_resumed", "tls_resumed", "TLS handshakes with clients that resumed a session."),
    _Name("ingressd_tls_handshake_failures", "tls_failures", "TLS handshakes with clients that failed."),
    _Name("ingressd_upstream_connections_opened", "pool_opened", "Connections opened to endpoints."),
    _Name("ingressd_upstream_connections_reused", "pool_reused", "Exchanges sent over a pooled connection."),
    _Name(
        "ingressd_upstream_connections_closed", "pool_closed", "Pooled connections closed for age, idleness or limit."
    ),
    _Name("ingressd_upstream_connect_failures", "connect_failures", "Connections to endpoints that failed."),
    _Name(
        "ingressd_upstream_framing_faults",
        "framing_faults",
        "Connections to endpoints that broke the framing of HTTP or said what nobody asked for.",
    ),
    _Name("ingressd_retries", "retries", "Tries beyond the first of an exchange."),
    _Name("ingressd_retries_refused", "retries_refused", "Retries that the retry budget refused."),
    _Name("ingressd_upstream_requests_queued", "queued", "Requests that waited: every endpoint had all it may have."),
    _Name("ingressd_upstream_queue_full", "queue_full", "Requests answered 503 because too many waited."),
    _Name("ingressd_upstream_queue_timeouts", "queue_timeouts", "Requests answered 503 because they waited too long."),
    _Name("ingressd_endpoint_ejections", "ejections", "Times an endpoint was ejected by outlier detection."),
    _Name("ingressd_access_log_lines", "log_lines", "Lines written to the access log."),
    _Name("ingressd_access_log_lines_dropped", "log_lines_dropped", "Lines the access log could not take."),
)
_PROCESS_GAUGES: Final = (
    _Name("ingressd_upstream_connections_idle", "pool_idle", "Idle pooled connections to endpoints."),
    _Name("ingressd_upstream_requests_waiting", "queue_length", "Requests that wait for an endpoint."),
    _Name("ingressd_memory_held_bytes", "memory_held_bytes", "What client connections are estimated to hold."),
    _Name("ingressd_memory_budget_bytes", "memory_budget_bytes", "What they may hold; 0 for no budget."),
    _Name("ingressd_tunnels", "connections_upgraded", "Connections that were upgraded to a tunnel."),
    _Name("ingressd_tasks", "tasks", "Tasks of the workers' event loops."),
    _Name("ingressd_loop_lag_seconds", "loop_lag_s", "How late the latest worker's event loop was."),
    _Name("ingressd_loop_lag_max_seconds", "loop_lag_max_s", "The same, the greatest since the last report (1 s)."),
)


class _RouteHistogram(NamedTuple):
    name: str
    help: str
    at: int
    buckets: tuple[float, ...]
    sum_at: int


# R times M label sets each, times the buckets.
_ROUTE_HISTOGRAMS: Final = (
    _RouteHistogram(
        PREFIX + "request_duration_seconds",
        "The request processing time in seconds.",
        cells.DURATION,
        DURATION_BUCKETS_S,
        cells.DURATION_SUM,
    ),
    _RouteHistogram(
        PREFIX + "response_duration_seconds",
        "The time spent on receiving the response from the upstream server.",
        cells.UPSTREAM,
        DURATION_BUCKETS_S,
        cells.UPSTREAM_SUM,
    ),
    _RouteHistogram(
        PREFIX + "request_size",
        "The request length (including request line, header, and request body).",
        cells.RECEIVED,
        SIZE_BUCKETS_BYTES,
        cells.RECEIVED_SUM,
    ),
    _RouteHistogram(
        PREFIX + "response_size",
        "The response length (including head and body) as sent to the client.",
        cells.SENT,
        SIZE_BUCKETS_BYTES,
        cells.SENT_SUM,
    ),
)


class Metrics:
    """The registry of one controller: its own metrics, and a collector for what workers and pipeline know."""

    def __init__(self, totals: Totals, state: Callable[[], State], identity: Identity) -> None:
        self._registry = registry = CollectorRegistry()
        # One label set each.
        self._translate = _span(registry, "ingressd_translate_seconds", "From events to units.")
        self._publish = _span(registry, "ingressd_publish_seconds", "Encoding and sending a delta.")
        self._apply = _span(registry, "ingressd_apply_seconds", "Building a delta in one worker.")
        self._acknowledge = _span(
            registry, "ingressd_acknowledge_seconds", "From sending a delta to its acknowledgement."
        )
        self._reloads = Reloads()
        self._tree = _TreeCollector(totals, state, identity, reloads=self._reloads)
        registry.register(self._tree)
        self.admission = AdmissionMetrics(PREFIX, CONTROLLER_LABELS, identity)
        registry.register(self.admission)

    # ------------------------------------------------------------------ what the controller does
    def translated(self, seconds: float) -> None:
        """Store and translation took so long."""
        self._translate.observe(seconds)

    def published(self, seconds: float) -> None:
        """Encoding and sending took so long."""
        self._publish.observe(seconds)

    def applied(self, building_s: float, acknowledged_s: float) -> None:
        """A worker built a delta in `building_s`, and was heard of `acknowledged_s` after it was sent."""
        self._apply.observe(building_s)
        self._acknowledge.observe(acknowledged_s)

    def reloaded(self, now_s: float, *, clean: bool) -> None:
        """A change was acknowledged by every worker at `now_s` (since 1970); `clean` when nothing in it was refused."""
        reloads = self._reloads
        reloads.clean = clean
        if clean:
            reloads.successes += 1
            reloads.last_success_s = now_s
        else:
            reloads.errors += 1

    def capture(self) -> None:
        """Take the numbers as they are now; `expose` may then run in a thread while they go on changing."""
        for _ in self.capture_in_steps():
            pass

    def release(self) -> None:
        """Let go of what was captured for series of routes: megabytes that nobody needs before the next scrape."""
        self._tree.release()

    def capture_in_steps(self) -> Iterator[None]:
        """The same, a step at a time: with 10,000 routes in use it takes 0.1 s, for which no loop may be held."""
        return self._tree.capture_in_steps()

    def expose(self, accept: str) -> tuple[bytes, str]:
        """All metrics in the format the Accept field asks for (Prometheus text or OpenMetrics), and its media type."""
        encoder, media_type = choose_encoder(accept)
        exposed = encoder(self._registry)
        if not media_type.startswith("application/openmetrics-text"):
            for name in BARE_COUNTERS:
                exposed = exposed.replace(f"# TYPE {name} untyped\n".encode(), f"# TYPE {name} counter\n".encode(), 1)
        return exposed, media_type


_STEPS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


def _span(registry: CollectorRegistry, name: str, text: str) -> Histogram:
    return Histogram(name, text, registry=registry, buckets=_STEPS_S)


class Reloads:
    """Configuration changes that came to an end: acknowledged by every worker."""

    __slots__ = ("clean", "errors", "last_success_s", "successes")

    def __init__(self) -> None:
        self.clean = False
        self.errors = 0
        self.last_success_s = 0.0
        self.successes = 0


class _TreeCollector(Collector):
    """Makes metric families out of what the whole process tree counted."""

    def __init__(self, totals: Totals, state: Callable[[], State], identity: Identity, *, reloads: Reloads) -> None:
        self._totals = totals
        self._state_now = state
        self._identity = identity
        self._reloads = reloads
        self._rows: list[tuple[Row, list[float]]] = []
        self._process: dict[str, float] = totals.process()
        self._state = State()

    def capture_in_steps(self) -> Iterator[None]:
        """Copy what others change, and go on changing between the steps."""
        rows = []
        for row in self._totals.rows():
            rows.append(row)
            if len(rows) % STEP_ROWS == 0:
                yield
        self._rows = rows
        self._process = self._totals.process()
        self._state = self._state_now()

    def release(self) -> None:
        """Forget the rows."""
        self._rows = []

    def collect(self) -> Iterator[Metric]:
        """All families at this moment."""
        yield from self._routes()
        yield from self._processes()
        yield from self._controller(self._state)

    def _routes(self) -> Iterator[Metric]:
        """R times M label sets each. One family after the other: 10,000 routes in use make 140,000 samples of each."""
        requests = UnknownMetricFamily(PREFIX + "requests", "The total number of client requests.", labels=ROUTE_LABELS)
        for row, cell in self._rows:
            requests.add_metric(self._labels(row), cell[cells.COUNT])
        yield requests
        del requests
        for one in _ROUTE_HISTOGRAMS:
            family = HistogramMetricFamily(one.name, one.help, labels=ROUTE_LABELS)
            for row, cell in self._rows:
                family.add_metric(self._labels(row), _cumulative(cell, one), cell[one.sum_at])
            yield family
            del family

    def _labels(self, row: Row) -> tuple[str, ...]:
        (namespace, ingress, service, host, path), method, status = row
        return (*self._identity, namespace, ingress, service, "", host, path, method, str(status))

    def _processes(self) -> Iterator[Metric]:
        numbers = self._process
        # Three label sets. An exchange that runs counts as "writing"; we do not know when a head is being read.
        connections = GaugeMetricFamily(
            PREFIX + "nginx_process_connections",
            "Current number of client connections with state {reading, writing, waiting}.",
            labels=(*CONTROLLER_LABELS, "state"),
        )
        idle = numbers["connections_idle"]
        for state, count in (("reading", 0.0), ("writing", max(0.0, numbers["connections"] - idle)), ("waiting", idle)):
            connections.add_metric((*self._identity, state), count)
        yield connections
        total = UnknownMetricFamily(
            PREFIX + "nginx_process_connections_total",
            "Total number of connections with state {active, accepted, handled}.",
            labels=(*CONTROLLER_LABELS, "state"),
        )
        handled = numbers["accepted"] - numbers["rejected"]
        for state, count in (
            ("active", numbers["connections"]),
            ("accepted", numbers["accepted"]),
            ("handled", handled),
        ):
            total.add_metric((*self._identity, state), count)
        yield total
        # One label set each.
        process_requests = CounterMetricFamily(
            PREFIX + "nginx_process_requests", "Total number of client requests.", labels=CONTROLLER_LABELS
        )
        process_requests.add_metric(self._identity, numbers["requests"])
        yield process_requests
        for one in _PROCESS_COUNTERS:
            yield CounterMetricFamily(one.name, one.help, value=numbers[one.attribute])
        for one in _PROCESS_GAUGES:
            yield GaugeMetricFamily(one.name, one.help, value=numbers[one.attribute])

    def _stalls(self, controller: Stalls) -> Iterator[Metric]:
        """Two label sets each."""
        workers = Stalls(int(self._process["loop_stalls"]), self._process["loop_lag_worst_s"])
        count = CounterMetricFamily(
            "ingressd_loop_stalls",
            "Times that an event loop was late by 50 ms or more, since the first snapshot was live.",
            labels=("process",),
        )
        worst = GaugeMetricFamily(
            "ingressd_loop_stall_max_seconds",
            "How late an event loop was at worst, since the first snapshot was live.",
            labels=("process",),
        )
        for process, stalls in (("controller", controller), ("worker", workers)):
            count.add_metric((process,), stalls.times)
            worst.add_metric((process,), stalls.worst_s)
        yield from (count, worst)

    def _controller(self, state: State) -> Iterator[Metric]:
        yield from self._last_reload()
        yield from self._stalls(state.stalls)
        # One label set each.
        yield GaugeMetricFamily("ingressd_config_version", "The version that was published last.", value=state.version)
        yield GaugeMetricFamily("ingressd_ready", "What /readyz says.", value=int(state.ready))
        yield GaugeMetricFamily(
            "ingressd_units_quarantined", "Units that workers cannot take.", value=state.quarantined
        )
        yield GaugeMetricFamily("ingressd_endpoints_ejected", "Endpoints ejected now.", value=state.endpoints_ejected)
        yield GaugeMetricFamily("ingressd_upstream_in_flight", "Exchanges with endpoints now.", value=state.in_flight)
        # One label set a worker.
        versions = GaugeMetricFamily(
            "ingressd_worker_config_version", "The version each worker serves.", labels=("worker",)
        )
        starts = CounterMetricFamily("ingressd_worker_starts", "Times each worker was started.", labels=("worker",))
        for worker in state.workers:
            versions.add_metric((str(worker.worker),), worker.version)
            starts.add_metric((str(worker.worker),), worker.starts)
        yield from (versions, starts)
        # Severities times reasons: reasons are words of ours, some 30.
        problems = GaugeMetricFamily("ingressd_problems", "Problems in objects now.", labels=("severity", "reason"))
        for severity, reason in sorted(set(state.problems)):
            problems.add_metric((severity, reason), state.problems.count((severity, reason)))
        yield problems
        # Eight kinds.
        units = GaugeMetricFamily("ingressd_units", "Units of the snapshot.", labels=("kind",))
        for kind, count in state.units:
            units.add_metric((kind,), count)
        yield units
        yield from health_families(state.health)
        yield from _certificates(state.certificates, self._identity)
        if state.cluster is not None:
            yield from cluster_families(state.cluster)
        if state.duties is not None:
            yield from duty_families(state.duties, prefix=PREFIX, labels=CONTROLLER_LABELS, values=self._identity)

    def _last_reload(self) -> Iterator[Metric]:
        """One label set each."""
        reloads = self._reloads
        for kind, name, text, value in (
            (
                GaugeMetricFamily,
                "config_last_reload_successful",
                "Whether the last configuration change was taken whole.",
                int(reloads.clean),
            ),
            (
                GaugeMetricFamily,
                "config_last_reload_successful_timestamp_seconds",
                "Timestamp of the last configuration change that was taken whole.",
                reloads.last_success_s,
            ),
            (
                UnknownMetricFamily,
                "success",
                "Configuration changes that every worker serves whole.",
                reloads.successes,
            ),
            (UnknownMetricFamily, "errors", "Configuration changes of which something was refused.", reloads.errors),
        ):
            family = kind(PREFIX + name, text, labels=CONTROLLER_LABELS)
            family.add_metric(self._identity, value)
            yield family


def _certificates(certificates: Iterable[CertificateExpiry], identity: Identity) -> Iterator[Metric]:
    """One label set a host with a certificate each."""
    expiry = GaugeMetricFamily(
        PREFIX + "ssl_expire_time_seconds",
        "Number of seconds since 1970 to the SSL Certificate expire.",
        labels=("class", "namespace", "secret_name", "host", "identifier"),
    )
    about = GaugeMetricFamily(
        PREFIX + "ssl_certificate_info",
        "Hold all labels associated to a certificate.",
        labels=(
            "class",
            "namespace",
            "secret_name",
            "host",
            "identifier",
            "issuer_common_name",
            "serial_number",
        ),
    )
    for one in certificates:
        labels = (identity.controller_class, one.namespace, one.secret, one.host, one.name)
        expiry.add_metric(labels, one.not_after_s)
        about.add_metric((*labels, one.issuer, one.serial), 1)
    yield from (expiry, about)


def _cumulative(cell: list[float], one: _RouteHistogram) -> list[tuple[str, float]]:
    """Buckets as Prometheus wants them: each counts everything up to its bound."""
    total = 0.0
    buckets = []
    for place, bound in enumerate(one.buckets):
        total += cell[one.at + place]
        buckets.append((str(float(bound)), total))
    buckets.append(("+Inf", total + cell[one.at + len(one.buckets)]))
    return buckets
