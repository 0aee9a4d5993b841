"""What came of a scenario: one row a bar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from loadtest import table


class Outcome(NamedTuple):
    """One figure against its bar; a bar of "" is none, the figure is only told."""

    scenario: str
    what: str
    measured: str
    bar: str = ""
    met: bool = True


def told(scenario: str, what: str, measured: str) -> Outcome:
    """A figure without a bar."""
    return Outcome(scenario, what, measured)


def at_most(scenario: str, what: str, value: float, bar: float, *, unit: str = "", digits: int = 0) -> Outcome:
    """A figure that must not be above its bar."""
    unit = f" {unit}" if unit else ""
    return Outcome(scenario, what, f"{value:.{digits}f}{unit}", f"{bar:.{digits}f}{unit}", value <= bar)


def rendered(outcomes: Iterable[Outcome]) -> str:
    """The table."""
    rows = [[one.scenario, one.what, one.measured, one.bar, _verdict(one)] for one in outcomes]
    return table.render(("scenario", "what", "measured", "at most", ""), rows)


def _verdict(one: Outcome) -> str:
    if not one.bar:
        return ""
    return "met" if one.met else "MISSED"


def facts_text(results: Mapping[str, Any]) -> str:
    """The machine, in a line."""
    facts = results["machine"]
    return f"{facts['cores']} cores ({facts['processor']}), load average when it began: {facts['load_average']:.2f}"


def from_json(results: Mapping[str, Any]) -> list[Outcome]:
    """What `results/abuse.json` holds."""
    return [Outcome(*one) for one in results["outcomes"]]
