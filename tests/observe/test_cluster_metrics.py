"""How far behind the cluster we may be."""

from ingressd.observe.cluster_metrics import ClusterKind, ClusterState
from ingressd.observe.metrics import Identity, Metrics, State
from ingressd.observe.totals import Totals


def exposed(cluster: ClusterState | None) -> list[str]:
    metrics = Metrics(Totals(), lambda: State(cluster=cluster), Identity("class"))
    metrics.capture()
    return [line for line in metrics.expose("")[0].decode().splitlines() if line.startswith("ingressd_cluster")]


def test_without_a_cluster_nothing_is_said_of_it() -> None:
    assert exposed(None) == []


def test_each_kind_its_age_and_its_restarts() -> None:
    kinds = (
        ClusterKind("Ingress", 3, 1.5, {"broken": 2, "ended": 1}, {"first": 1}),
        ClusterKind("Service", 0, None, {}, {}),
    )
    assert exposed(ClusterState(False, kinds)) == [
        "ingressd_cluster_up 0.0",
        'ingressd_cluster_objects{kind="Ingress"} 3.0',
        'ingressd_cluster_objects{kind="Service"} 0.0',
        'ingressd_cluster_staleness_seconds{kind="Ingress"} 1.5',
        'ingressd_cluster_watch_restarts_total{kind="Ingress",reason="broken"} 2.0',
        'ingressd_cluster_watch_restarts_total{kind="Ingress",reason="ended"} 1.0',
        'ingressd_cluster_lists_total{kind="Ingress",reason="first"} 1.0',
    ]
