"""Render results into docs/performance.md, between its markers, so that text and numbers never drift apart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtest import plot, table
from loadtest.field import ALL_PEERS

SMALL_BYTES = 101
GOALS = (
    ("http", "nginx", 1.0, 1.5),
    ("http", "envoy", 0.5, 0.6),
    ("http", "caddy", 0.25, 0.3),
    ("https", "nginx", 1.2, 1.7),
)
"""Scheme, peer, what CPU per request against it should be, and what it must not be above."""
DOCS = Path(__file__).parent.parent / "docs"


def replace_section(page: str, name: str, text: str) -> str:
    """Replace what stands between `<!-- NAME -->` and `<!-- /NAME -->`. ValueError when the page has no such place."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"the page has no section {name!r}")
    return pattern.sub(lambda match: f"{match[1]}{text.strip()}\n{match[2]}", page)


def machine_text(results: Mapping[str, Any]) -> str:
    """The facts as a list."""
    facts = results["machine"]
    versions = " · ".join(f"{name} {_short(text)}" for name, text in facts["versions"].items())
    return "\n".join(
        [
            f"- {facts['cores']} cores ({facts['processor']}), Linux {facts['kernel']}",
            f"- Load average when the run began: {facts['load_average']:.2f}",
            f"- Python {facts['python']}, {facts['openssl']}",
            f"- {versions}",
            f"- {results['rounds']} interleaved rounds of {results['seconds']:g} s",
        ]
    )


def _short(text: str) -> str:
    found = re.search(r"\d+(\.\d+)+", text)
    return found[0] if found else text


def goals_text(results: Mapping[str, Any]) -> str:
    """Every build of ingressd against the goals: smallest body, 64 connections."""
    rows = []
    for scheme, peer, goal, limit in GOALS:
        for cell in results["cells"]:
            if (cell["scheme"], cell["connections"]) != (scheme, 64) or cell["size_bytes"] > SMALL_BYTES:
                continue
            costs = {name: one["cpu_us_per_request"] for name, one in cell["peers"].items()}
            rows += [
                [f"{name}, {scheme.upper()}", peer, f"{costs[name] / costs[peer]:.2f}", f"{goal:.2f}", f"{limit:.2f}"]
                for name in costs
                if name not in ALL_PEERS and peer in costs
            ]
    return table.render(("build", "against", "ratio", "goal", "at most"), rows)


def cells_text(results: Mapping[str, Any]) -> str:
    """The main cells whole, all cells as one matrix."""
    cells = results["cells"]
    smallest = min(cell["size_bytes"] for cell in cells)
    parts = []
    for cell in cells:
        if cell["size_bytes"] == smallest and cell["connections"] == 64:
            parts += [f"**{table.cell_title(cell)}**", "", table.cell_table(cell), ""]
    names = list(dict.fromkeys(name for cell in cells for name in cell["peers"]))
    parts += ["**Every cell**", "", table.matrix_table(cells, names)]
    return "\n".join(parts)


def write_docs(results: Mapping[str, Any]) -> None:
    """Write tables and plot. What was not measured stays as it was."""
    path = DOCS / "performance.md"
    page = replace_section(path.read_text(), "machine", machine_text(results))
    page = replace_section(page, "goals", goals_text(results))
    page = replace_section(page, "cells", cells_text(results))
    if results.get("syscalls"):
        page = replace_section(page, "syscalls", table.syscall_table(results["syscalls"]))
    if results.get("idle"):
        page = replace_section(page, "idle", table.idle_table(results["idle"]))
    path.write_text(page)
    (DOCS / "img").mkdir(exist_ok=True)
    plot.draw(results, DOCS / "img" / "performance.png")
