"""Health checks as metrics. Imported by the controller only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


class HealthNumbers(NamedTuple):
    """Endpoints that are probed, those of them that are unhealthy, and how many probes ended how."""

    endpoints: int = 0
    unhealthy: int = 0
    probes: tuple[tuple[str, int], ...] = ()


def health_families(numbers: HealthNumbers) -> Iterator[Metric]:
    """One label set each, but for the three results of a probe."""
    yield GaugeMetricFamily("ingressd_endpoints_probed", "Endpoints with health checks.", value=numbers.endpoints)
    yield GaugeMetricFamily(
        "ingressd_endpoints_unhealthy", "Endpoints that their health checks keep out.", value=numbers.unhealthy
    )
    probes = CounterMetricFamily("ingressd_health_checks", "Probes of endpoints, by result.", labels=("result",))
    for result, count in numbers.probes:
        probes.add_metric((result,), count)
    yield probes
