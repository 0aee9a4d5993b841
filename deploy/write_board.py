"""Writes the Grafana board: `python deploy/write_board.py`. Panels are lines here; nobody edits the JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

BOARD = Path(__file__).parent / "helm/ingressd/dashboards/ingressd.json"
NGINX = "nginx_ingress_controller_"
RATE = "$__rate_interval"
OURS = 'job=~"$job"'
ROUTES = 'controller_class=~"$class",namespace=~"$namespace",ingress=~"$ingress"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
QUANTILES = {0.5: "50 %", 0.95: "95 %", 0.99: "99 %"}
WIDTH = 24


class Graph(NamedTuple):
    """Lines over time: legend to expression. Three in a row."""

    title: str
    lines: dict[str, str]
    unit: str = "short"
    stacked: bool = False
    about: str = ""


class Number(NamedTuple):
    """One number now; `good` is where it is green: "below" or "from" the threshold. Six in a row."""

    title: str
    expression: str
    unit: str = "short"
    threshold: float | None = None
    good: str = "below"
    about: str = ""


def total(metric: str, labels: str = OURS, *, by: str = "") -> str:
    """The rate of a counter, over all Pods."""
    return f"sum{f' by ({by}) ' if by else ''}(rate({metric}{{{labels}}}[{RATE}]))"


def quantiles(metric: str) -> dict[str, str]:
    """Three quantiles of a histogram of routes."""
    return {name: quantile(metric, part, ROUTES) for part, name in QUANTILES.items()}


def quantile(metric: str, part: float, labels: str = OURS) -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({part}, sum by (le) (rate({metric}_bucket{{{labels}}}[{RATE}])))"


def most(metric: str, *, by: str = "") -> str:
    """The greatest of a gauge that every Pod shows."""
    return f"max{f' by ({by}) ' if by else ''}({metric}{{{OURS}}})"


FIVES = ROUTES + ',status=~"5.."'
BEHIND = (
    f"max({most('ingressd_config_version', by='pod')} - on (pod) group_right ingressd_worker_config_version{{{OURS}}})"
)

ROWS: dict[str, list[Graph | Number]] = {
    "Now": [
        Number("Requests a second", total(f"{NGINX}requests", ROUTES), "reqps"),
        Number(
            "Answered with 5xx",
            f"{total(f'{NGINX}requests', FIVES)} / {total(f'{NGINX}requests', ROUTES)}",
            "percentunit",
            0.01,
        ),
        Number("99 % answered within", quantile(f"{NGINX}request_duration_seconds", 0.99, ROUTES), "s"),
        Number("Pods ready", f"sum(ingressd_ready{{{OURS}}})", threshold=1, good="from"),
        Number(
            "Errors in objects",
            f'max(sum by (pod) (ingressd_problems{{{OURS},severity="error"}})) or vector(0)',
            threshold=1,
            about="What is wrong is in Events on the objects and in /debug/problems of the admin listener.",
        ),
        Number(
            "First certificate ends in",
            f"min({NGINX}ssl_expire_time_seconds{{{OURS}}}) - time()",
            "s",
            7 * 86400,
            "from",
        ),
    ],
    "Traffic": [
        Graph("Requests by status", {"{{status}}": total(f"{NGINX}requests", ROUTES, by="status")}, "reqps", True),
        Graph("Duration", quantiles(f"{NGINX}request_duration_seconds"), "s", about="First byte in to last byte out."),
        Graph("What upstreams took of it", quantiles(f"{NGINX}response_duration_seconds"), "s"),
        Graph(
            "Requests by Ingress",
            {"{{namespace}}/{{ingress}}": f"topk(10, {total(f'{NGINX}requests', ROUTES, by='namespace, ingress')})"},
            "reqps",
        ),
        Graph(
            "5xx by Ingress",
            {"{{namespace}}/{{ingress}}": f"topk(10, {total(f'{NGINX}requests', FIVES, by='namespace, ingress')} > 0)"},
            "reqps",
        ),
        Graph(
            "Bytes",
            {
                "received": total(f"{NGINX}request_size_sum", ROUTES),
                "sent": total(f"{NGINX}response_size_sum", ROUTES),
            },
            "Bps",
        ),
    ],
    "Clients": [
        Graph(
            "Connections",
            {
                "{{state}}": f"sum by (state) ({NGINX}nginx_process_connections{{{OURS}}})",
                "tunnels": f"sum(ingressd_tunnels{{{OURS}}})",
            },
        ),
        Graph(
            "TLS handshakes",
            {
                "done": total("ingressd_tls_handshakes_total"),
                "of them resumed": total("ingressd_tls_sessions_resumed_total"),
                "failed": total("ingressd_tls_handshake_failures_total"),
            },
            "ops",
        ),
        Graph(
            "Refused",
            {
                "malformed requests": total("ingressd_bad_requests_total"),
                "connections beyond the limit": total("ingressd_connections_rejected_total"),
            },
            "ops",
        ),
    ],
    "Upstreams": [
        Graph(
            "Connections to endpoints",
            {
                "opened": total("ingressd_upstream_connections_opened_total"),
                "from the pool": total("ingressd_upstream_connections_reused_total"),
                "failed": total("ingressd_upstream_connect_failures_total"),
            },
            "ops",
        ),
        Graph(
            "Retries",
            {
                "retried": total("ingressd_retries_total"),
                "refused by the budget": total("ingressd_retries_refused_total"),
            },
            "ops",
        ),
        Graph(
            "In flight, ejected",
            {
                "exchanges in flight": f"sum(ingressd_upstream_in_flight{{{OURS}}})",
                "endpoints ejected": most("ingressd_endpoints_ejected"),
                "endpoints unhealthy": most("ingressd_endpoints_unhealthy"),
            },
        ),
    ],
    "Configuration": [
        Graph(
            "Steps of a change, 99 %",
            {
                name: quantile(f"ingressd_{name}_seconds", 0.99)
                for name in ("translate", "publish", "apply", "acknowledge")
            },
            "s",
        ),
        Graph("Problems in objects", {"{{severity}}: {{reason}}": most("ingressd_problems", by="severity, reason")}),
        Graph(
            "Behind, quarantined",
            {"versions that a worker is behind": BEHIND, "units quarantined": most("ingressd_units_quarantined")},
        ),
    ],
    "API server": [
        Graph("API server answers", {"{{pod}}": most("ingressd_cluster_up", by="pod")}),
        Graph(
            "What is known is older than",
            {"{{kind}}": most("ingressd_cluster_staleness_seconds", by="kind")},
            "s",
            about="Grows while the API server is away; what is known serves on.",
        ),
        Graph(
            "Watches begun again, lists read",
            {
                "watch {{kind}}: {{reason}}": total("ingressd_cluster_watch_restarts_total", by="kind, reason"),
                "list {{kind}}: {{reason}}": total("ingressd_cluster_lists_total", by="kind, reason"),
            },
            "ops",
        ),
        Graph(
            "Leaders",
            {"{{name}}": f"sum by (name) ({NGINX}leader_election_status{{{OURS}}})"},
            about="One for each Lease, but for the seconds in which it changes hands.",
        ),
        Graph(
            "Statuses and Events written",
            {
                "statuses {{result}}": total("ingressd_status_writes_total", by="result"),
                "Events {{result}}": total("ingressd_events_total", by="result"),
            },
            "ops",
        ),
        Graph("Reviews of the webhook", {"{{answer}}": total("ingressd_admission_reviews_total", by="answer")}, "ops"),
    ],
    "Processes": [
        Graph("Event loops late by", {"{{pod}}": most("ingressd_loop_lag_max_seconds", by="pod")}, "s"),
        Graph(
            "Stalls of 50 ms or more",
            {"{{pod}} {{process}}": f"sum by (pod, process) (increase(ingressd_loop_stalls_total{{{OURS}}}[{RATE}]))"},
        ),
        Graph(
            "Workers started", {"{{pod}}": f"sum by (pod) (increase(ingressd_worker_starts_total{{{OURS}}}[{RATE}]))"}
        ),
        Graph(
            "Lines of the access log",
            {
                "written": total("ingressd_access_log_lines_total"),
                "dropped": total("ingressd_access_log_lines_dropped_total"),
            },
            "ops",
        ),
    ],
}


def board() -> str:
    """The board as Grafana reads it."""
    requests = f"{NGINX}requests"
    variables = [
        _variable("job", "Job", "label_values(ingressd_ready, job)"),
        _variable("class", "Controller class", f"label_values({requests}, controller_class)"),
        _variable("namespace", "Namespace", f'label_values({requests}{{controller_class=~"$class"}}, namespace)'),
        _variable("ingress", "Ingress", f'label_values({requests}{{namespace=~"$namespace"}}, ingress)'),
    ]
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1}
    whole = {
        "uid": "ingressd",
        "title": "ingressd",
        "tags": ["ingressd", "ingress"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "graphTooltip": 1,
        "templating": {"list": [source, *variables]},
        "annotations": {"list": []},
        "panels": [{"id": number, **panel} for number, panel in enumerate(_panels(), 1)],
    }
    return json.dumps(whole, indent=1) + "\n"


def _panels() -> Iterator[dict[str, Any]]:
    y = 0
    for title, row in ROWS.items():
        yield {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": _place(0, y, WIDTH, 1)}
        y += 1
        width, height = (4, 4) if isinstance(row[0], Number) else (8, 8)
        for index, one in enumerate(row):
            place = _place(index * width % WIDTH, y + index * width // WIDTH * height, width, height)
            yield {**(_number(one) if isinstance(one, Number) else _graph(one)), "gridPos": place, "datasource": SOURCE}
        y += -(-len(row) * width // WIDTH) * height


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _targets(lines: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend, "datasource": SOURCE}
        for index, (legend, expression) in enumerate(lines.items())
    ]


def _graph(graph: Graph) -> dict[str, Any]:
    stacking = {"mode": "normal" if graph.stacked else "none"}
    custom = {"fillOpacity": 10, "lineWidth": 1, "showPoints": "never", "stacking": stacking}
    return {
        "type": "timeseries",
        "title": graph.title,
        "description": graph.about,
        "fieldConfig": {"defaults": {"unit": graph.unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {"legend": {"placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": _targets(graph.lines),
    }


def _number(number: Number) -> dict[str, Any]:
    below, above = ("green", "red") if number.good == "below" else ("red", "green")
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if number.threshold is not None:
        steps = [{"color": below, "value": None}, {"color": above, "value": number.threshold}]
    thresholds = {"mode": "absolute", "steps": steps}
    return {
        "type": "stat",
        "title": number.title,
        "description": number.about,
        "fieldConfig": {"defaults": {"unit": number.unit, "thresholds": thresholds}, "overrides": []},
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"},
        "targets": _targets({"": number.expression}),
    }


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


if __name__ == "__main__":
    BOARD.write_text(board(), "utf-8")
