"""What a replica does in a cluster besides serving, as metrics. Imported by the controller only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


class Duties(NamedTuple):
    """How the duties stand: the Lease ("" for none), whether we lead, and counts by what became of each."""

    lease: str
    leads: bool
    status_writes: tuple[tuple[str, int], ...]
    statuses_pending: int
    events: tuple[tuple[str, int], ...]


def duty_families(duties: Duties, *, prefix: str, labels: tuple[str, ...], values: tuple[str, ...]) -> Iterator[Metric]:
    """One label set a Lease, four and three results. `labels` and `values` are those of ingress-nginx's metrics."""
    if duties.lease:
        leads = GaugeMetricFamily(
            prefix + "leader_election_status",
            "Gauge reporting status of the leader election, 0 indicates follower, 1 indicates leader. "
            "'name' is the string used to identify the lease",
            labels=(*labels, "name"),
        )
        leads.add_metric((*values, duties.lease), int(duties.leads))
        yield leads
    writes = CounterMetricFamily("ingressd_status_writes", "Writes of statuses by result.", labels=("result",))
    for result, count in duties.status_writes:
        writes.add_metric((result,), count)
    events = CounterMetricFamily("ingressd_events", "Events by result.", labels=("result",))
    for result, count in duties.events:
        events.add_metric((result,), count)
    pending = GaugeMetricFamily(
        "ingressd_statuses_pending", "Objects whose status waits to be written.", value=duties.statuses_pending
    )
    yield from (writes, events, pending)
