"""The election as ingress-nginx shows it, and what was written into the cluster."""

from prometheus_client.parser import text_string_to_metric_families

from ingressd.observe.duty_metrics import Duties
from ingressd.observe.metrics import Identity, Metrics, State
from ingressd.observe.totals import Totals

DUTIES = Duties("mine", True, (("failed", 1), ("written", 7)), 3, (("dropped", 2), ("sent", 5)))


def samples(duties):
    metrics = Metrics(Totals(), lambda: State(duties=duties), Identity("ingressd.dev/x", "edge", "pod-1"))
    metrics.capture()
    families = text_string_to_metric_families(metrics.expose("")[0].decode())
    return {(sample.name, *sorted(sample.labels.items())): sample.value for one in families for sample in one.samples}


def test_the_leader_says_so_under_the_name_of_its_lease():
    labels = (
        ("controller_class", "ingressd.dev/x"),
        ("controller_namespace", "edge"),
        ("controller_pod", "pod-1"),
        ("name", "mine"),
    )
    name = "nginx_ingress_controller_leader_election_status"
    assert samples(DUTIES)[(name, *labels)] == 1
    assert samples(DUTIES._replace(leads=False))[(name, *labels)] == 0
    assert not [key for key in samples(DUTIES._replace(lease="")) if key[0] == name]


def test_what_was_written_and_what_waits():
    found = samples(DUTIES)
    assert found[("ingressd_status_writes_total", ("result", "written"))] == 7
    assert found[("ingressd_status_writes_total", ("result", "failed"))] == 1
    assert found[("ingressd_events_total", ("result", "sent"))] == 5
    assert found[("ingressd_statuses_pending",)] == 3


def test_outside_a_cluster_there_are_no_duties():
    assert not [key for key in samples(None) if "leader" in key[0] or "events" in key[0] or "status_writes" in key[0]]
