"""What /metrics says: ingress-nginx's names, sums over workers, both formats, and no label from a client."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from ingressd.observe import metrics as metrics_module
from ingressd.observe.counters import WorkerCounters
from ingressd.observe.metrics import CertificateExpiry, Identity, Metrics, State, WorkerState
from ingressd.observe.stalls import Stalls
from ingressd.observe.totals import Totals

STATE = State(
    version=9,
    ready=True,
    workers=(WorkerState(0, 9, 1), WorkerState(1, 8, 4)),
    problems=(("error", "Bad"), ("error", "Bad"), ("warning", "Odd")),
    certificates=(CertificateExpiry("a.test", "shop/a", "shop", "a", "0F", "ca", 2e9),),
    units=(("Listener", 2),),
)
OURS = {"controller_class": "ingressd.dev/x", "controller_namespace": "ns", "controller_pod": "pod"}
SHOP = {"namespace": "shop", "ingress": "front", "service": "cart"}
ROUTE = {**OURS, **SHOP, "canary": "", "host": "a.test", "path": "/"}


def worker(requests: int, *, connections: int = 0) -> tuple[WorkerCounters, object]:
    counters = WorkerCounters()
    series = counters.series(**SHOP, host="a.test", path="/")
    for _ in range(requests):
        series.add(b"GET", 200, 0.02, 0.01, 100, 5000)
    counters.requests = counters.accepted = requests
    counters.connections = connections
    return counters, series


@pytest.fixture
def totals():
    return Totals()


@pytest.fixture
def metrics(totals):
    return Metrics(totals, lambda: STATE, Identity(*OURS.values()))


def samples(metrics, accept="") -> dict:
    metrics.capture()
    exposed, media_type = metrics.expose(accept)
    parse = parse_openmetrics if media_type.startswith("application/openmetrics-text") else parse_text
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in parse(exposed.decode())
        for one in family.samples
    }


def value(found: dict, name: str, **labels: str) -> float:
    # The text parser gives every counter the ending of OpenMetrics, whatever its name.
    key = frozenset(labels.items())
    return found[name, key] if (name, key) in found else found[name + "_total", key]


def test_requests_are_the_sum_of_living_and_dead_workers(metrics, totals):
    held = [worker(3, connections=5), worker(4, connections=7)]
    for index, (counters, _) in enumerate(held):
        totals.absorb((index, 1), counters.take())
    totals.fold((1, 1))
    found = samples(metrics)
    name = "nginx_ingress_controller_requests"
    assert value(found, name, **ROUTE, method="GET", status="200") == 7
    prefix = "nginx_ingress_controller_nginx_process_"
    assert value(found, prefix + "connections_total", **OURS, state="accepted") == 7
    # The gauges of a dead worker are gone.
    assert value(found, prefix + "connections_total", **OURS, state="active") == 5
    assert value(found, prefix + "connections", **OURS, state="writing") == 5


def test_a_repeated_report_is_not_counted_twice(metrics, totals):
    counters, _series = worker(3)
    for _ in range(3):
        totals.absorb((0, 1), counters.take(everything=True))
    assert value(samples(metrics), "ingressd_requests_total") == 3


def test_stalls_of_workers_add_up_and_the_worst_is_the_worst(totals):
    for index, (times, worst_s) in enumerate(((2, 0.2), (3, 0.1))):
        counters = WorkerCounters()
        counters.loop_stalls, counters.loop_lag_worst_s = times, worst_s
        totals.absorb((index, 1), counters.take())
    state = STATE._replace(stalls=Stalls(1, 0.07))
    found = samples(Metrics(totals, lambda: state, Identity(*OURS.values())))
    assert value(found, "ingressd_loop_stalls_total", process="worker") == 5
    assert value(found, "ingressd_loop_stall_max_seconds", process="worker") == 0.2
    assert value(found, "ingressd_loop_stalls_total", process="controller") == 1
    assert value(found, "ingressd_loop_stall_max_seconds", process="controller") == 0.07


def test_what_changes_between_the_steps_of_a_capture_does_not_break_it(metrics, totals, monkeypatch):
    monkeypatch.setattr(metrics_module, "STEP_ROWS", 1)
    counters, held = WorkerCounters(), []
    for number in range(5):
        held.append(counters.series(**SHOP, host=f"h{number}", path="/"))
        held[-1].add(b"GET", 200, 0.02, 0.01, 100, 5000)
    totals.absorb((0, 1), counters.take())
    steps = 0
    for _ in metrics.capture_in_steps():
        steps += 1
        held.pop()
        totals.absorb((0, 1), counters.take())
        totals.absorb((steps, 1), worker(1)[0].take())
    assert 1 < steps <= 5
    assert b"h0" in metrics.expose("")[0]


def test_buckets_are_cumulative(metrics, totals):
    counters, _series = worker(2)
    totals.absorb((0, 1), counters.take())
    found = samples(metrics)
    name = "nginx_ingress_controller_request_duration_seconds"
    labels = {**ROUTE, "method": "GET", "status": "200"}
    assert value(found, name + "_bucket", **labels, le="0.01") == 0
    assert value(found, name + "_bucket", **labels, le="0.025") == 2
    assert value(found, name + "_bucket", **labels, le="+Inf") == value(found, name + "_count", **labels) == 2
    assert value(found, name + "_sum", **labels) == pytest.approx(0.04)
    assert value(found, "nginx_ingress_controller_response_size_bucket", **labels, le="10000.0") == 2


def test_counters_of_ingress_nginx_keep_their_name_and_type(metrics, totals):
    counters, _series = worker(1)
    totals.absorb((0, 1), counters.take())
    metrics.capture()
    text = metrics.expose("")[0].decode()
    assert "\n# TYPE nginx_ingress_controller_requests counter\n" in text
    assert "\n# TYPE nginx_ingress_controller_success counter\n" in text
    assert "nginx_ingress_controller_requests_total" not in text


def test_openmetrics_when_it_is_asked_for(metrics, totals):
    counters, _series = worker(1)
    totals.absorb((0, 1), counters.take())
    metrics.capture()
    exposed, media_type = metrics.expose("application/openmetrics-text; version=1.0.0")
    assert media_type.startswith("application/openmetrics-text; version=1.0.0")
    assert exposed.endswith(b"# EOF\n")
    found = samples(metrics, "application/openmetrics-text; version=1.0.0")
    assert value(found, "nginx_ingress_controller_requests", **ROUTE, method="GET", status="200") == 1


def test_reloads_certificates_versions_and_problems(metrics):
    metrics.reloaded(1234.5, clean=True)
    metrics.reloaded(1300.0, clean=False)
    metrics.applied(0.003, 0.01)
    found = samples(metrics)
    prefix = "nginx_ingress_controller_"
    assert value(found, prefix + "config_last_reload_successful", **OURS) == 0
    assert value(found, prefix + "config_last_reload_successful_timestamp_seconds", **OURS) == 1234.5
    assert (value(found, prefix + "success", **OURS), value(found, prefix + "errors", **OURS)) == (1, 1)
    names = {
        "class": "ingressd.dev/x",
        "namespace": "shop",
        "secret_name": "a",
        "host": "a.test",
        "identifier": "shop/a",
    }
    assert value(found, prefix + "ssl_expire_time_seconds", **names) == 2e9
    info = {**names, "issuer_common_name": "ca", "serial_number": "0F"}
    assert value(found, prefix + "ssl_certificate_info", **info) == 1
    assert value(found, "ingressd_worker_config_version", worker="1") == 8
    assert value(found, "ingressd_problems", severity="error", reason="Bad") == 2
    assert value(found, "ingressd_apply_seconds_count") == 1


def test_a_route_that_is_gone_everywhere_is_no_longer_exposed(metrics, totals):
    counters, series = worker(1)
    totals.absorb((0, 1), counters.take())
    totals.fold((0, 1))
    other, other_series = worker(1)
    totals.absorb((0, 2), other.take())
    del series, other_series
    totals.absorb((0, 2), other.take())
    assert not [name for name, _ in samples(metrics) if name.startswith("nginx_ingress_controller_requests")]


def test_a_report_that_is_junk_is_left_aside(metrics, totals):
    totals.absorb((0, 1), b"\xc1")
    assert value(samples(metrics), "ingressd_requests_total") == 0
