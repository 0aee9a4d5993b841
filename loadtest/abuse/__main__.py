"""`python -m loadtest.abuse [SCENARIO…]`: abuse ingressd, print one table, write results/abuse.json.

It ends with 1 when a bar is missed. Everything takes five minutes; of scenarios that are not run the results stay.

`--write-docs` renders the last results into docs/performance.md instead.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from loadtest import machine, pages
from loadtest.abuse import certificates, descriptors, kills, slow, slowhttptest
from loadtest.abuse.children import allow_files
from loadtest.abuse.outcome import Outcome, facts_text, from_json, rendered
from loadtest.launch import RESULTS, MissingError

Measure = Callable[[str, Sequence[str], argparse.Namespace], list[Outcome]]


def _slow(name: str, command: Sequence[str], options: argparse.Namespace) -> list[Outcome]:
    return slow.measure(name, command, clients=options.clients)


def _slowhttptest(name: str, command: Sequence[str], options: argparse.Namespace) -> list[Outcome]:
    return slowhttptest.measure(name, command, clients=options.clients)


SCENARIOS: dict[str, Measure] = {
    **dict.fromkeys(slow.SCENARIOS, _slow),
    **dict.fromkeys(slowhttptest.MODES, _slowhttptest),
    "descriptors": lambda name, command, options: descriptors.measure(name, command),
    "kills": lambda name, command, options: kills.killed_workers(name, command, seconds=options.seconds),
    "hand-overs": lambda name, command, options: kills.hand_overs(name, command),
    "certificates": lambda name, command, options: certificates.measure(name, command, seconds=options.seconds / 2),
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="python -m loadtest.abuse", description=__doc__)
    options.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}; all by default")
    options.add_argument("--ingressd", default=f"{sys.executable} -m ingressd", metavar="COMMAND")
    options.add_argument("--clients", type=int, default=1200, help="slow ones at once")
    options.add_argument("--seconds", type=float, default=30.0, help="of kills; half of it for new certificates")
    options.add_argument("--name", default="abuse", help="results/NAME.json")
    options.add_argument("--write-docs", action="store_true", help="only render results/NAME.json into the docs")
    return options


def _before(path: Path) -> list[Outcome]:
    return from_json(json.loads(path.read_text())) if path.exists() else []


def main() -> int:
    """The command. 1 when a bar is missed or something could not be measured."""
    options = parser().parse_args()
    path = RESULTS / f"{options.name}.json"
    if options.write_docs:
        results = json.loads(path.read_text())
        page = pages.DOCS / "performance.md"
        text = f"{facts_text(results)}\n\n{rendered(from_json(results))}"
        page.write_text(pages.replace_section(page.read_text(), "abuse", text))
        return 0
    unknown = set(options.scenarios) - set(SCENARIOS)
    if unknown:
        parser().error(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    program, *arguments = shlex.split(options.ingressd)
    command = [str(Path(program).absolute()) if "/" in program else program, *arguments]
    allow_files()
    facts = machine.facts({})
    outcomes: list[Outcome] = []
    missing = False
    for name in options.scenarios or SCENARIOS:
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            outcomes += SCENARIOS[name](name, command, options)
        except MissingError as error:
            missing = True
            print(f"cannot measure: {error}", file=sys.stderr)
    RESULTS.mkdir(exist_ok=True)
    kept = [one for one in _before(path) if one.scenario in SCENARIOS.keys() - (options.scenarios or SCENARIOS)]
    every = sorted(kept + outcomes, key=lambda one: [*SCENARIOS].index(one.scenario))
    path.write_text(json.dumps({"machine": facts, "outcomes": every}, indent=1))
    print(facts_text({"machine": facts}))
    print(rendered(outcomes))
    return 1 if missing or not all(one.met for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
