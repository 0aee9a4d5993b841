"""Results as text: the same tables for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = (
    "peer",
    "CPU µs/request",
    "min-max",
    "x nginx",
    "own CPU busy",
    "CPU 0 busy",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "PSS MiB",
    "errors",
    "disturbed",
)


def size_name(size_bytes: int) -> str:
    """1024 → `1 KiB`, 101 → `101 B`."""
    return f"{size_bytes // 1024} KiB" if size_bytes >= 1024 and size_bytes % 1024 == 0 else f"{size_bytes} B"


def cell_title(cell: Mapping[str, Any]) -> str:
    return f"{cell['scheme'].upper()}, {size_name(cell['size_bytes'])} body, {cell['connections']} connections"


def render(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded so that it also reads well in a terminal."""
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    lines = [_line(columns, widths), "|" + "|".join("-" * (width + 2) for width in widths) + "|"]
    lines.extend(_line(row, widths) for row in rows)
    return "\n".join(lines)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
    return "| " + " | ".join(cells) + " |"


def row(name: str, result: Mapping[str, Any]) -> list[str]:
    ratio = result["ratio_to_nginx"]
    return [
        name,
        f"{result['cpu_us_per_request']:.1f}",
        f"{result['cpu_us_min']:.1f}-{result['cpu_us_max']:.1f}",
        "" if ratio is None else f"{ratio:.2f}",
        f"{result['own_busy']:.0%}",
        f"{result['cpu_busy']:.0%}",
        f"{result['rps']:,.0f}",
        f"{result['p50_us'] / 1e3:.2f}",
        f"{result['p99_us'] / 1e3:.2f}",
        f"{result['pss_kib'] / 1024:.1f}",
        str(result["errors"]),
        f"{result['disturbed']}/{len(result['runs'])}",
    ]


def cell_table(cell: Mapping[str, Any]) -> str:
    """One cell, cheapest first."""
    ordered = sorted(cell["peers"].items(), key=lambda item: item[1]["cpu_us_per_request"])
    return render(COLUMNS, [row(name, result) for name, result in ordered])


def matrix_table(cells: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """CPU µs a request of everybody, a row a cell."""
    rows = []
    for cell in cells:
        costs = [cell["peers"].get(name) for name in names]
        rows.append(
            [cell_title(cell), *("" if cost is None else f"{cost['cpu_us_per_request']:.1f}" for cost in costs)]
        )
    return render(("CPU µs/request", *names), rows)


def syscall_table(syscalls: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Syscalls a request, a row a scheme and peer."""
    rows = []
    for scheme, peers in syscalls.items():
        for name, one in peers.items():
            numbers = [f"{one[key]:.2f}" for key in ("reads", "writes", "polls", "total")]
            rows.append(
                [f"{scheme.upper()} {name}", *numbers, ", ".join(f"{k} {v:g}" for k, v in one["others"].items())]
            )
    return render(("peer", "reads", "writes", "epoll", "all", "of the others"), rows)


def idle_table(idle: Mapping[str, Any]) -> str:
    """Memory of idle connections, a row a peer."""
    rows = [
        [
            name,
            *(
                "" if one.get(scheme) is None else f"{one[scheme]['pss_kib_per_connection']:.2f}"
                for scheme in ("http", "https")
            ),
            f"{one['empty_pss_kib'] / 1024:.1f}",
        ]
        for name, one in idle["peers"].items()
    ]
    return render(("peer", "KiB a plain connection", "KiB a TLS connection", "PSS MiB when empty"), rows)


def everything(results: Mapping[str, Any]) -> str:
    """The whole result, for a terminal."""
    parts = []
    for cell in results["cells"]:
        parts += [f"\n{cell_title(cell)}", cell_table(cell)]
    if results.get("syscalls"):
        parts += ["\nSyscalls a request (64 connections, smallest body)", syscall_table(results["syscalls"])]
    if results.get("idle"):
        parts += [f"\nMemory of {results['idle']['connections']} idle connections", idle_table(results["idle"])]
    parts.extend(f"missing: {name}: {why}" for name, why in results["missing"].items())
    return "\n".join(parts)
