"""`python -m loadtest.control`: measure changes, print the tables, write results/control.json.

`--write-docs` renders the last results into docs/performance.md instead.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from loadtest import machine, pages  # noqa: E402 - the fake API server is in tests/
from loadtest.control import churn, probe, report, rolling, scale, world  # noqa: E402
from loadtest.control.strangers import undisturbed  # noqa: E402
from loadtest.control.system import System  # noqa: E402
from loadtest.launch import RESULTS, MissingError  # noqa: E402

Results = dict[str, Any]

TOUCHED = 200
"""Applications that change under load; as many behind them do not."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="python -m loadtest.control", description=__doc__)
    options.add_argument("--ingressd", default=f"{sys.executable} -m ingressd", metavar="COMMAND")
    options.add_argument("--only", default="probe,churn,scale,rolling", metavar="TEST,…")
    options.add_argument("--ingresses", type=int, default=10_000, help="present while changes are probed")
    options.add_argument("--rounds", type=int, default=60, help="of every kind of change")
    options.add_argument("--mutations", type=int, default=1000)
    options.add_argument("--seconds", type=float, default=60.0, help="for the mutations")
    options.add_argument("--rate", type=float, default=1500.0, help="requests a second while there are mutations")
    options.add_argument("--tries", type=int, default=3, help="of the mutations, while others disturb them")
    options.add_argument("--applications", type=int, default=5000, help="routes and Services of the memory test")
    options.add_argument("--rolls", type=int, default=5, help="how often every pod is replaced")
    options.add_argument("--name", default="control", help="results/NAME.json")
    options.add_argument("--keep", metavar="FOLDER", help="work in this folder and leave it there")
    options.add_argument("--write-docs", action="store_true", help="only render results/NAME.json into the docs")
    return options


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _system(options: argparse.Namespace, name: str) -> System:
    folder = Path(options.keep or tempfile.mkdtemp(prefix="bench-control-")) / name
    folder.mkdir(parents=True, exist_ok=True)
    program, *arguments = shlex.split(options.ingressd)
    return System(folder, [str(Path(program).absolute()) if "/" in program else program, *arguments])


def big_cluster(options: argparse.Namespace, wanted: set[str]) -> Results:
    """Whatever happens among many Ingresses."""
    found: Results = {}
    with _system(options, "big") as system:
        ready_s = system.start(world.applications(options.ingresses, system.pod_port))
        found["ready_s"] = ready_s
        _say(f"{options.ingresses} applications: ready after {ready_s:.1f} s, {system.memory_kib()}")
        if "probe" in wanted:
            found["probe"] = probe.measure(system, base=options.ingresses, rounds=options.rounds)
            _say(report.probe_text(found["probe"]))
        if "churn" in wanted:
            edits = churn.Mutations(system, first=probe.LAST, count=TOUCHED)
            edits.prepare()
            found["churn"] = undisturbed(
                lambda: churn.measure(
                    system, edits, mutations=options.mutations, seconds=options.seconds, rate=options.rate
                ),
                tries=options.tries,
                say=_say,
            )
            _say(report.churn_text(found["churn"]))
        if "rolling" in wanted:
            index = options.ingresses + 30_000
            found["rolling"] = rolling.measure_rolling(system, index=index, rolls=options.rolls, rate=800.0)
            found["failover"] = rolling.measure_failover(system, index=index + 1, rounds=3, away_s=4.0, rate=200.0)
            _say(report.rolling_text(found["rolling"], found["failover"]))
    return found


def many_services(options: argparse.Namespace, wanted: set[str]) -> Results:
    """Memory."""
    if "scale" not in wanted:
        return {}
    with _system(options, "scale") as system:
        system.start(world.applications(options.applications, system.pod_port, paths=("/",)))
        found = scale.measure(system, applications=options.applications, per_s=20.0, seconds=options.seconds)
    _say(report.scale_text(found))
    return {"scale": found}


PARTS: tuple[Callable[[argparse.Namespace, set[str]], Results], ...] = (big_cluster, many_services)


def write_docs(results: Results) -> None:
    """The section `control` of docs/performance.md."""
    path = pages.DOCS / "performance.md"
    facts = results["machine"]
    text = f"{facts['cores']} cores ({facts['processor']}), load average when it began: {facts['load_average']:.2f}"
    path.write_text(pages.replace_section(path.read_text(), "control", f"{text}\n\n{report.everything(results)}"))


def main() -> int:
    """The command. 1 when something could not be measured."""
    options = parser().parse_args()
    path = RESULTS / f"{options.name}.json"
    if options.write_docs:
        write_docs(json.loads(path.read_text()))
        return 0
    if options.ingresses < probe.LAST + 2 * TOUCHED:
        parser().error(f"--ingresses: at least {probe.LAST + 2 * TOUCHED}")
    wanted = set(options.only.split(","))
    results: Results = {"machine": machine.facts({}), "load_average": os.getloadavg()}
    try:
        if wanted - {"scale"}:
            results.update(big_cluster(options, wanted))
        results.update(many_services(options, wanted))
    except MissingError as error:
        _say(f"cannot measure: {error}")
        return 1
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1))
    print(report.everything(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
