"""What the admission webhook counts. Imported by the controller only."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

ANSWERS = ("allowed", "denied", "failed")


class AdmissionMetrics(Collector):
    """ingress-nginx's gauges of the last review whose meaning is the same here, and reviews by answer.

    Left out: `admission_render_ingresses`, `admission_render_duration` and `admission_config_size`, since nothing is
    rendered. `labels` and `values` are those on every metric of ingress-nginx.
    """

    def __init__(self, prefix: str, labels: tuple[str, ...], values: tuple[str, ...]) -> None:
        self._prefix = prefix
        self._labels = labels
        self._values = values
        self._tested = 0
        self._tested_s = 0.0
        self._round_trip_s = 0.0
        self._answers = dict.fromkeys(ANSWERS, 0)

    def checked(self, seconds: float, *, among: int) -> None:
        """One Ingress was checked among so many in so long."""
        self._tested = among
        self._tested_s = seconds

    def answered(self, answer: str, seconds: float) -> None:
        """A review was "allowed", "denied" or "failed" after so long."""
        self._answers[answer] += 1
        self._round_trip_s = seconds

    def collect(self) -> Iterator[Metric]:
        """One label set each, three for the counter."""
        for name, text, value in (
            ("admission_tested_ingresses", "Ingresses that the last one was checked against.", self._tested),
            ("admission_tested_duration", "Seconds that checking the last one took.", self._tested_s),
            ("admission_roundtrip_duration", "Seconds that the last review took.", self._round_trip_s),
        ):
            gauge = GaugeMetricFamily(self._prefix + name, text, labels=self._labels)
            gauge.add_metric(self._values, value)
            yield gauge
        reviews = CounterMetricFamily("ingressd_admission_reviews", "Admission reviews by answer.", labels=("answer",))
        for answer, count in self._answers.items():
            reviews.add_metric((answer,), count)
        yield reviews
