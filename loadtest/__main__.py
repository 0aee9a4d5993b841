"""`python -m loadtest`: run the bench, print the tables, write results and a plot.

`--write-docs` renders the last results into the documentation instead. `--quick` is `python -m loadtest.quick`: nginx
against ingressd in half a minute, with its own options.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from loadtest import cell, idle, machine, pages, plot, quick, syscalls, table
from loadtest.field import ALL_PEERS, DEFAULT_PEERS, Field, default_builds, enter_field, parse_builds
from loadtest.launch import RESULTS, MissingError, find

SIZES = (101, 1024, 16 * 1024, 256 * 1024)
CONNECTIONS = (1, 64, 512)
USUAL_CONNECTIONS = 64


def numbers(text: str) -> tuple[int, ...]:
    """`1,64,512` → a tuple."""
    return tuple(int(part) for part in text.split(","))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="python -m loadtest", description=__doc__)
    options.add_argument("--peers", default=",".join(DEFAULT_PEERS), help=f"of {', '.join(ALL_PEERS)}")
    options.add_argument(
        "--ingressd",
        action="append",
        metavar="[LABEL=]COMMAND",
        help="a build to measure; may be repeated; '' for none",
    )
    options.add_argument("--schemes", default="http,https")
    options.add_argument("--sizes", type=numbers, default=SIZES, metavar="BYTES,…")
    options.add_argument("--connections", type=numbers, default=CONNECTIONS, metavar="N,…")
    options.add_argument("--seconds", type=float, default=3.0, help="of one run")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--patience", type=float, default=10.0, help="seconds to wait for quiet CPUs before a run")
    options.add_argument("--full", action="store_true", help="every size with every number of connections")
    options.add_argument("--no-syscalls", action="store_true")
    options.add_argument("--idle", type=int, default=8000, metavar="N", help="idle connections to hold, 0 for none")
    options.add_argument("--name", default="latest", help="results/NAME.json and results/NAME.png")
    options.add_argument("--quiet", action="store_true", help="no line for each run")
    options.add_argument(
        "--write-docs", action="store_true", help="only render results/NAME.json into docs/performance.md"
    )
    return options


def cells_of(options: argparse.Namespace) -> list[cell.Cell]:
    """All sizes at 64 connections and all connections at the smallest size; with `--full`, all of the matrix."""
    usual = USUAL_CONNECTIONS if USUAL_CONNECTIONS in options.connections else options.connections[0]
    return [
        cell.Cell(scheme, size, connections)
        for scheme in options.schemes.split(",")
        for size in options.sizes
        for connections in options.connections
        if options.full or connections == usual or size == min(options.sizes)
    ]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _count_syscalls(field: Field, options: argparse.Namespace) -> dict[str, Any]:
    counted: dict[str, Any] = {}
    for scheme in options.schemes.split(","):
        for peer in field.peers:
            try:
                one = syscalls.count(peer, cell.Cell(scheme, min(options.sizes), USUAL_CONNECTIONS), seconds=2)
            except (MissingError, ValueError) as exc:
                _say(f"syscalls of {peer.name}: {exc}")
                continue
            counted.setdefault(scheme, {})[peer.name] = one
    return counted


def bench(options: argparse.Namespace, builds: dict[str, str]) -> dict[str, Any]:
    """Run everything. Missing when there is no wrk or no backend."""
    find("wrk")
    results: dict[str, Any] = {
        "machine": machine.facts(builds),
        "seconds": options.seconds,
        "rounds": options.rounds,
        "cells": [],
    }
    names = [name for name in options.peers.split(",") if name]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loadtest-")))
        field = enter_field(stack, folder, names=names, builds=builds, sizes=options.sizes)
        results["missing"] = field.missing
        for name, why in field.missing.items():
            _say(f"missing: {name}: {why}")
        say = (lambda _: None) if options.quiet else _say
        for one in cells_of(options):
            measured = cell.measure(
                field.peers,
                one,
                seconds=options.seconds,
                rounds=options.rounds,
                patience_s=options.patience,
                say=say,
            )
            results["cells"].append({**one._asdict(), "peers": measured})
        if not options.no_syscalls:
            results["syscalls"] = _count_syscalls(field, options)
    if options.idle:
        results["idle"] = idle.measure_all(names, builds, connections=options.idle)
    return results


def main() -> int:
    """The command. 1 when nothing could be measured."""
    if "--quick" in sys.argv[1:]:
        return quick.main([argument for argument in sys.argv[1:] if argument != "--quick"])
    options = parser().parse_args()
    path = RESULTS / f"{options.name}.json"
    if options.write_docs:
        pages.write_docs(json.loads(path.read_text()))
        return 0
    unknown = {name for name in options.peers.split(",") if name} - set(ALL_PEERS)
    if unknown:
        parser().error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(ALL_PEERS)}")
    builds = default_builds() if options.ingressd is None else parse_builds(filter(None, options.ingressd))
    try:
        results = bench(options, builds)
    except MissingError as exc:
        _say(f"cannot measure: {exc}")
        return 1
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1))
    print(table.everything(results))
    if any(one["peers"] for one in results["cells"]):
        plot.draw(results, path.with_suffix(".png"))
        _say(f"results in {path} and {path.with_suffix('.png')}")
    return 0


if __name__ == "__main__":
    if shutil.which("taskset") is None:
        sys.exit("cannot measure: taskset (util-linux) is not installed")
    sys.exit(main())
