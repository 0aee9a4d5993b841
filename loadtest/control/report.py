"""Results as text: for a terminal, and as the section of docs/performance.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loadtest import table
from loadtest.control.published import PUBLISHED, SOURCE

MIB = 1024


def goals_text(results: Mapping[str, Any]) -> str:
    """Every goal, what came of it, and from where on it counts as missed."""
    rows = []
    probe, churn, scale, rolling = (results.get(name) for name in ("probe", "churn", "scale", "rolling"))
    if probe:
        wrong = sum(one["wrong"] for one in probe["kinds"].values())
        rows += [
            [
                f"change live in every worker, {probe['ingresses']:,} Ingresses, p50",
                _ms(probe["all"]["p50_ms"]),
                "10 ms",
            ],
            ["the same, p99", _ms(probe["all"]["p99_ms"]), "50 ms"],
            ["wrong answers meanwhile", str(wrong), "0"],
        ]
    if churn:
        stalls = sum(value for name, value in churn["stalls"].items() if "stalls" in name)
        what = f"{churn['mutations']:,} changes in {churn['seconds']:.0f} s at {churn['rate']:,.0f} requests/s: failed"
        rows += [
            [what, f"{churn['failed']:,} of {churn['requests']:,}", "0"],
            ["p99 of routes that did not change, added", _ms(churn["p99_added_ms"]), "10 ms"],
            ["times that a loop stalled for 50 ms or more", f"{stalls:.0f}", "0"],
        ]
    if scale:
        whole = sum(scale["churning_kib"].values()) / MIB
        rows.append([f"PSS, {scale['applications']:,} routes and Services changing", f"{whole:.0f} MiB", "160 MiB"])
    if rolling:
        rows += [
            [f"{rolling['pods']} pods replaced under load: failed GETs", str(rolling["failed_gets"]), "0"],
            ["POSTs that reached two pods", str(rolling["duplicate_posts"]), "0"],
            ["POSTs that failed without having reached a pod", str(rolling["unexcused_posts"]), "0"],
        ]
    return table.render(("what", "measured", "goal"), rows)


def _ms(value: float) -> str:
    return f"{value:.1f} ms"


def peers_text(results: Mapping[str, Any]) -> str:
    """Ours beside what is published of others."""
    probe, churn, scale = (results.get(name) for name in ("probe", "churn", "scale"))
    rows = [[one.name, one.route_probe, one.route_change, one.memory] for one in PUBLISHED]
    ours = ["ingressd, here", "", "", ""]
    if probe:
        one = probe["kinds"]["new route"]
        ours[1] = f"{one['mean_ms']:.1f} ms (mean)"
    if churn:
        ours[2] = "no failures" if not churn["failed"] else f"{churn['failed']} failures"
    if scale:
        ours[3] = f"{sum(scale['churning_kib'].values()) / MIB:.0f} MiB in all"
    head = ("gateway", "route probe", "route change under load", "memory, 5,000 routes")
    return f"{table.render(head, [ours, *rows])}\n\nOthers' figures: {SOURCE}"


def probe_text(probe: Mapping[str, Any]) -> str:
    """A row a kind of change."""
    rows = [
        [
            kind,
            str(one["count"]),
            *(f"{one[name]:.1f}" for name in ("mean_ms", "p50_ms", "p99_ms", "max_ms")),
            f"{one['answers']:,}",
            str(one["wrong"]),
        ]
        for kind, one in probe["kinds"].items()
    ]
    return table.render(("change", "times", "mean ms", "p50 ms", "p99 ms", "max ms", "answers", "wrong"), rows)


def churn_text(churn: Mapping[str, Any]) -> str:
    """Routes that did not change, before and while others did; and stalls."""
    rows = [
        [what, f"{one['requests']:,}", *(f"{one[name]:.2f}" for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms"))]
        for what, one in churn["untouched"].items()
    ]
    latencies = table.render(("routes that did not change", "requests", "p50 ms", "p99 ms", "p99.9 ms", "max ms"), rows)
    worst = {name.split()[0]: value for name, value in churn["stalls"].items() if "worst" in name}
    stalls = ", ".join(f"{process} {value:.0f} ms" for process, value in worst.items())
    others = f"Others used {churn.get('strangers', 0.0):.1%} of the CPUs meanwhile."
    return f"{latencies}\n\nThe longest that a loop was ever late since the start: {stalls}. {others}"


def scale_text(scale: Mapping[str, Any]) -> str:
    """A row a process."""
    states = [scale[name] for name in ("at_rest_kib", "churning_kib", "asked_kib")]
    rows = [[role, *(f"{one.get(role, 0) / MIB:.1f}" for one in states)] for role in sorted(states[0])]
    rows.append(["all", *(f"{sum(one.values()) / MIB:.1f}" for one in states)])
    what = f"{scale['changes_per_s']:g} changes a second take {scale['cpu_percent']:.0f} % of a CPU."
    head = ("PSS MiB", "at rest", "while changing", "after a request for every host")
    return f"{table.render(head, rows)}\n\n{what}"


def rolling_text(rolling: Mapping[str, Any], failover: Mapping[str, Any] | None) -> str:
    """What was lost with pods."""
    rows = [
        ["requests", f"{rolling['requests']:,}"],
        ["GETs that failed", str(rolling["failed_gets"])],
        ["POSTs that failed, their pod having got them", str(rolling["failed_posts"] - rolling["unexcused_posts"])],
        ["POSTs that failed without", str(rolling["unexcused_posts"])],
        ["POSTs that reached two pods", str(rolling["duplicate_posts"])],
        ["GETs that were tried again at another pod", str(rolling["repeated_gets"])],
    ]
    text = table.render((f"{rolling['pods']} pods replaced, GET and POST", "count"), rows)
    if failover:
        text += (
            f"\n\nOne pod of four refuses connections for {failover['away_s']:g} s, {failover['rounds']} times: "
            f"{failover['failed']} of {failover['requests']:,} requests failed, "
            f"{failover['tries_at_the_dead_pod']:.0f} tries went to it while it was away."
        )
    return text


def everything(results: Mapping[str, Any]) -> str:
    """All that was measured."""
    parts = [goals_text(results), peers_text(results)]
    if results.get("probe"):
        parts.append(probe_text(results["probe"]))
    if results.get("churn"):
        parts.append(churn_text(results["churn"]))
    if results.get("scale"):
        parts.append(scale_text(results["scale"]))
    if results.get("rolling"):
        parts.append(rolling_text(results["rolling"], results.get("failover")))
    return "\n\n".join(parts)
