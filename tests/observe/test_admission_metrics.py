"""What the webhook counts, under ingress-nginx's names where they mean the same."""

from ingressd.observe.metrics import Identity, Metrics, State
from ingressd.observe.totals import Totals

LABELS = '{controller_class="class",controller_namespace="ns",controller_pod="pod"}'


def exposed(metrics: Metrics) -> list[str]:
    metrics.capture()
    return metrics.expose("")[0].decode().splitlines()


def test_reviews_are_counted_by_answer_and_the_last_one_is_shown() -> None:
    metrics = Metrics(Totals(), State, Identity("class", "ns", "pod"))
    assert 'ingressd_admission_reviews_total{answer="denied"} 0.0' in exposed(metrics)
    metrics.admission.checked(0.5, among=7)
    metrics.admission.answered("denied", 0.75)
    metrics.admission.answered("allowed", 0.25)
    metrics.admission.answered("denied", 1.5)
    lines = exposed(metrics)
    prefix = "nginx_ingress_controller_admission_"
    assert f"{prefix}tested_ingresses{LABELS} 7.0" in lines
    assert f"{prefix}tested_duration{LABELS} 0.5" in lines
    assert f"{prefix}roundtrip_duration{LABELS} 1.5" in lines
    for answer, count in (("allowed", 1), ("denied", 2), ("failed", 0)):
        assert f'ingressd_admission_reviews_total{{answer="{answer}"}} {count}.0' in lines
