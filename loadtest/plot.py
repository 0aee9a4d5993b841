"""The picture of a result: cost by peer, by body size and by number of connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from loadtest.table import size_name

COLOURS = {
    "nginx": "#4c9a5b",
    "haproxy": "#4878a8",
    "caddy": "#e0a03a",
    "envoy": "#a04fb0",
    "aiohttp": "#8a8a8a",
    "nginx-tuned": "#9ccca6",
}
OURS = ("#d02c2c", "#f08080", "#8c1515", "#ff5c00")
Cells = Sequence[Mapping[str, Any]]


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour a peer: always the same for the peers, reds for the builds of ingressd."""
    reds = iter(OURS * 4)
    return {name: COLOURS[name] if name in COLOURS else next(reds) for name in names}


def _bars(axes: Axes, cells: Cells, key: str, *, title: str, unit: str, low_is_good: bool) -> None:
    names = sorted(
        {name for cell in cells for name in cell["peers"]},
        key=lambda name: cells[0]["peers"].get(name, {}).get(key, 0) * (1 if low_is_good else -1),
    )
    palette = colours(names)
    height = 0.8 / len(cells)
    for offset, cell in enumerate(cells):
        values = [cell["peers"].get(name, {}).get(key, 0.0) for name in names]
        positions = [index + offset * height for index in range(len(names))]
        bars = axes.barh(
            positions,
            values,
            height=height * 0.92,
            color=[palette[name] for name in names],
            alpha=1.0 if offset == 0 else 0.5,
            hatch=None if offset == 0 else "///",
            edgecolor="white",
        )
        axes.bar_label(bars, labels=[f"{value:,.0f}" for value in values], padding=3, fontsize=8)
    axes.set_yticks([index + height * (len(cells) - 1) / 2 for index in range(len(names))], names)
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.set_xlabel(unit)
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _lines(axes: Axes, cells: Cells, variable: str, *, title: str, label: Callable[[int], str]) -> None:
    names = sorted({name for cell in cells for name in cell["peers"]})
    palette = colours(names)
    points = sorted({cell[variable] for cell in cells})
    for name in names:
        costs = {cell[variable]: cell["peers"][name]["cpu_us_per_request"] for cell in cells if name in cell["peers"]}
        xs = [points.index(point) for point in points if point in costs]
        axes.plot(xs, [costs[points[x]] for x in xs], marker="o", color=palette[name], label=name, linewidth=1.8)
    axes.set_xticks(range(len(points)), [label(point) for point in points])
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("CPU µs a request (log)")
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(axis="y", which="both", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Write a PNG: bars for the smallest body at 64 connections, lines over sizes and connections."""
    cells = results["cells"]
    smallest = min(cell["size_bytes"] for cell in cells)
    usual = 64 if any(cell["connections"] == 64 for cell in cells) else cells[0]["connections"]
    main = [cell for cell in cells if (cell["size_bytes"], cell["connections"]) == (smallest, usual)]
    main.sort(key=lambda cell: str(cell["scheme"]))
    first = main[0]["scheme"]
    sizes = [cell for cell in cells if cell["scheme"] == first and cell["connections"] == usual]
    connections = [cell for cell in cells if cell["scheme"] == first and cell["size_bytes"] == smallest]
    figure, grid = pyplot.subplots(2, 2, figsize=(12, 8.4), dpi=85, layout="constrained")
    what = f"{size_name(smallest)} body, {usual} connections (solid HTTP, hatched HTTPS)"
    _bars(
        grid[0][0],
        main,
        "cpu_us_per_request",
        title=f"CPU per request: {what}",
        unit="µs, whole tree",
        low_is_good=True,
    )
    _bars(grid[0][1], main, "rps", title="Requests per second on one CPU", unit="requests/s", low_is_good=False)
    _lines(
        grid[1][0], sizes, "size_bytes", title=f"By body size ({first.upper()}, {usual} connections)", label=size_name
    )
    _lines(
        grid[1][1],
        connections,
        "connections",
        title=f"By number of connections ({first.upper()}, {size_name(smallest)})",
        label=str,
    )
    handles, names = grid[1][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", fontsize=9, frameon=False, ncols=len(names))
    figure.savefig(path)
    pyplot.close(figure)
