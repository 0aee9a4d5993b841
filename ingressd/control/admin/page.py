"""One plain page: what runs, what it serves, what is wrong. No script, everything escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, NamedTuple

from ingressd.model.problem import Problem

MAX_ROWS: Final = 500
"""A table ends here and says so: a page with 10,000 routes serves nobody."""

_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222}"
    "h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #ddd;vertical-align:top}"
    "th{font-weight:600}.bad{color:#a00}.good{color:#070}code{font:13px ui-monospace,monospace}"
)


class Table(NamedTuple):
    """A heading, the names of the columns, and rows of text. `empty` is said in place of a table without rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    empty: str


class PageFacts(NamedTuple):
    """Everything the page shows. `counts` are lines such as ("routes", "12")."""

    version: str
    python: str
    ready: bool
    config_path: str
    snapshot_version: int
    counts: Sequence[tuple[str, str]]
    problems: Sequence[Problem]
    tables: Sequence[Table]


def render(facts: PageFacts) -> str:
    """The page."""
    state = '<b class="good">ready</b>' if facts.ready else '<b class="bad">not ready</b>'
    problems = Table(
        f"Problems ({len(facts.problems)})",
        ("severity", "object", "field", "message", "where"),
        [
            (
                problem.severity,
                str(problem.origin),
                problem.field,
                f"{problem.message} [{problem.reason}]",
                problem.where,
            )
            for problem in facts.problems
        ],
        "None.",
    )
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><title>ingressd</title>',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>ingressd {escape(facts.version)}</h1>",
        f"<p>{state}, serving version {facts.snapshot_version} of the configuration, Python {escape(facts.python)}.",
        f"Configuration file: <code>{escape(facts.config_path)}</code></p>",
        "<p>" + ", ".join(f"{escape(count)} {escape(name)}" for name, count in facts.counts) + "</p>",
        *_table(problems),
    ]
    for table in facts.tables:
        parts += _table(table)
    parts.append(
        '<p><a href="/metrics">metrics</a> <a href="/debug/snapshot">snapshot</a> '
        '<a href="/debug/statuses">statuses</a> <a href="/debug/problems">problems</a> '
        '<a href="/readyz">readyz</a></p></body></html>\n'
    )
    return "\n".join(parts)


def _table(table: Table) -> Iterable[str]:
    yield f"<h2>{escape(table.title)}</h2>"
    if not table.rows:
        yield f"<p>{escape(table.empty)}</p>"
        return
    yield "<table><tr>" + "".join(f"<th>{escape(name)}</th>" for name in table.columns) + "</tr>"
    for row in table.rows[:MAX_ROWS]:
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    yield "</table>"
    if len(table.rows) > MAX_ROWS:
        yield f"<p>and {len(table.rows) - MAX_ROWS} more, in the snapshot</p>"
