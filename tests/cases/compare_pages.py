"""The tables of `cases.compare`, as text and inside docs/security.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "security.md"


class Result(NamedTuple):
    """What came of a case. `outcome` is its number in `accept`; None is none of them, or what is never accepted."""

    group: str
    name: str
    outcome: int | None
    wrong: list[str]
    not_applicable: str = ""
    """Why the case asks nothing of this proxy; nothing was played then."""


Results = dict[str, Result]
"""By the name of the case."""


class Tally(NamedTuple):
    """How many came to the first accepted outcome, to another, to none, and were not asked."""

    first: int
    other: int
    failed: int
    not_applicable: int

    def __str__(self) -> str:
        left_out = f" ({self.not_applicable} n/a)" if self.not_applicable else ""
        return f"{self.first} / {self.other} / {self.failed}{left_out}"


def tally(results: Iterable[Result]) -> Tally:
    """Count."""
    found = list(results)
    asked = [one for one in found if not one.not_applicable]
    return Tally(
        sum(one.outcome == 0 for one in asked),
        sum(bool(one.outcome) for one in asked),
        sum(one.outcome is None for one in asked),
        len(found) - len(asked),
    )


def render(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table whose columns stand under each other in a terminal too."""
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [heads, *rows]]
    return "\n".join(
        f"| {line} |" for line in [lines[0], " | ".join("-" * max(3, width) for width in widths), *lines[1:]]
    )


def main_table(peers: dict[str, Results]) -> str:
    """Classes down, proxies (by name and version) across."""
    everything = [one for results in peers.values() for one in results.values()]
    groups = sorted({one.group for one in everything})
    rows = []
    for group in groups:
        of_group = [[one for one in results.values() if one.group == group] for results in peers.values()]
        rows.append([group, str(len(of_group[0])), *(str(tally(found)) for found in of_group)])
    totals = [tally(results.values()) for results in peers.values()]
    rows.append(["**all**", str(sum(totals[0])), *(f"**{total}**" for total in totals)])
    asked = [max(1, sum(total) - total.not_applicable) for total in totals]
    shares = [f"{total.first / n:.1%} / {total.failed / n:.1%} failed" for total, n in zip(totals, asked, strict=True)]
    rows.append(["first outcome", "", *shares])
    return render(["class", "cases", *peers], rows)


def _by_group(found: Iterable[Result]) -> str:
    groups: dict[str, list[str]] = {}
    for one in found:
        groups.setdefault(one.group, []).append(f"`{one.name}`")
    return "\n".join(f"- {group}: {', '.join(sorted(names))}" for group, names in sorted(groups.items()))


def second_text(own: Results) -> str:
    """What ingressd does not bring to the first outcome."""
    return _by_group(one for one in own.values() if one.outcome != 0)


def better_text(own: Results, others: dict[str, Results]) -> str:
    """Where the others come to an earlier outcome than we do."""

    def better(one: Result) -> bool:
        ours = own[one.name].outcome
        return not one.not_applicable and one.outcome is not None and (ours is None or one.outcome < ours)

    return "\n\n".join(
        f"**{name}**\n\n{_by_group(filter(better, found.values())) or '- none'}" for name, found in others.items()
    )


def failed_text(others: dict[str, Results]) -> str:
    """The names of what the others fail."""
    parts = []
    for name, found in others.items():
        failed = [one for one in found.values() if one.outcome is None and not one.not_applicable]
        parts.append(f"**{name}**: {len(failed)}\n\n{_by_group(failed)}")
    return "\n\n".join(parts)


def left_out_text(others: dict[str, Results]) -> str:
    """What they are not asked, and why."""
    reasons: dict[str, list[str]] = {}
    for name, found in others.items():
        for one in found.values():
            if one.not_applicable:
                reasons.setdefault(f"{name.split()[0]}: {one.not_applicable}", []).append(f"`{one.name}`")
    return "\n".join(f"- {why}: {', '.join(names)}" for why, names in reasons.items()) or "- nothing"


def delivery_table(deliveries: dict[str, Results]) -> str:
    """How the same cases came out, however they were delivered; all must equal the first delivery."""
    whole = next(iter(deliveries.values()))
    rows = []
    for name, found in deliveries.items():
        differ = sorted(one.name for one in found.values() if one.outcome != whole[one.name].outcome)
        rows.append([name, str(len(found)), str(tally(found.values())), ", ".join(differ) or "none"])
    return render(["the client sends", "cases", "first / other / failed", "another outcome than whole"], rows)


def write(sections: dict[str, str]) -> None:
    """Replace what stands between the markers of these names in docs/security.md."""
    page = PAGE.read_text("utf-8")
    for name, text in sections.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(page):
            raise ValueError(f"the page has no section {name!r}")
        page = pattern.sub(lambda found, text=text: f"{found[1]}{text.strip()}\n{found[2]}", page)
    PAGE.write_text(page, "utf-8")
