"""How far behind the cluster we may be, as metrics. Imported by the controller only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


class ClusterKind(NamedTuple):
    """One kind over all its namespaces. `age_s` is how long ago it was last known to be in step, None when it never
    was; `restarts` of watches and `lists` count by reason."""

    kind: str
    objects: int
    age_s: float | None
    restarts: Mapping[str, int]
    lists: Mapping[str, int]


class ClusterState(NamedTuple):
    """Whether the API server answers, and every kind that is read."""

    answers: bool
    kinds: tuple[ClusterKind, ...]


def cluster_families(state: ClusterState) -> Iterator[Metric]:
    """Six kinds; six reasons of restarts, four of lists."""
    yield GaugeMetricFamily("ingressd_cluster_up", "Whether the API server answers.", value=int(state.answers))
    objects = GaugeMetricFamily("ingressd_cluster_objects", "Objects in the cluster.", labels=("kind",))
    ages = GaugeMetricFamily(
        "ingressd_cluster_staleness_seconds",
        "Seconds since what is known of a kind was last known to be what the cluster has.",
        labels=("kind",),
    )
    restarts = CounterMetricFamily(
        "ingressd_cluster_watch_restarts", "Watches begun again, by reason.", labels=("kind", "reason")
    )
    lists = CounterMetricFamily(
        "ingressd_cluster_lists", "Lists read to their end, by reason.", labels=("kind", "reason")
    )
    for kind in state.kinds:
        objects.add_metric((kind.kind,), kind.objects)
        if kind.age_s is not None:
            ages.add_metric((kind.kind,), kind.age_s)
        for family, counts in ((restarts, kind.restarts), (lists, kind.lists)):
            for reason, count in sorted(counts.items()):
                family.add_metric((kind.kind, reason), count)
    yield from (objects, ages, restarts, lists)
