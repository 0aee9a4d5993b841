"""`python -m cases.compare`: play the raw cases against ingressd, nginx and HAProxy, and print what came side by side.

    PYTHONPATH=tests .venv/bin/python -m cases.compare [--only REGEX] [--why] [--pieces] [--count] [--write-docs]

`make bench-security` plays all of them. The others are started here, on loopback, and ended by their process ids.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from cases import compare_pages
from cases.compare_pages import Result, Results
from cases.peers import NAMES, MissingError, Peer, not_applicable, peer_of, version_of
from cases.raw_judge import is_settled, judge_raw
from cases.raw_runner import QUIET_S, Observed, play
from cases.scene import PROXIED, file_names, read_cases
from fuzz.others import differences, serving, streams
from stage.echo import EchoLoop

SHARDS = 3
"""So many processes of each proxy play at once: a case mostly waits for silence."""
WHOLE = "all at once"
DELIVERIES: dict[str, dict[str, int]] = {
    WHOLE: {},
    "1 byte at a time": {"pieces": 1},
    "2 bytes at a time": {"pieces": 2},
    "pieces of any size, seed 1": {"seed": 1},
    "pieces of any size, seed 2": {"seed": 2},
}


class Job(NamedTuple):
    """One case of one class (a file of `raw`)."""

    group: str
    case: dict[str, Any]


@dataclass
class Run:
    """One proxy and everything that it was asked, by the way it was delivered."""

    peer: str
    version: str
    results: dict[str, Results] = field(default_factory=dict)


def jobs(pattern: str) -> list[Job]:
    """The cases whose `class: name` has this in it, in the order of the files."""
    return [
        Job(group, case)
        for group in file_names()
        for case in read_cases(group)
        if re.search(pattern, f"{group}: {case['name']}")
    ]


def shards(todo: list[Job]) -> Iterator[list[Job]]:
    """Portions to play at the same time. Those with the PROXY protocol need processes of their own, so one has them."""
    proxied = [job for job in todo if job.case.get("listener") in PROXIED]
    plain = [job for job in todo if job.case.get("listener") not in PROXIED]
    yield from (part for part in [proxied, *(plain[number::SHARDS] for number in range(SHARDS))] if part)


def play_one(
    player: Peer, group: str, case: dict[str, Any], cut: dict[str, int], *, quiet_s: float = QUIET_S
) -> Result:
    """Play a case and judge it as the tests do, without the invariants: those are of ingressd."""

    def settled(seen: Observed) -> bool:
        return is_settled(case, seen, scripted="upstream" in case)

    # What waits for a time limit is heard out; everything else has nothing more to say after a moment of silence.
    waits = settled if "limits" in case else None
    seen = play(case, player.recorder, replace(player.entrance(case), quiet_s=quiet_s), waits, **cut)
    outcome, wrong = judge_raw(case, seen)
    return Result(group, case["name"], None if wrong else outcome, wrong)


def play_shard(peer: str, part: list[Job], folder: Path, loop: EchoLoop, cut: dict[str, int]) -> list[Result]:
    """Play these one after the other on processes of their own."""
    player, results = peer_of(peer, folder, loop), []
    try:
        for group, case in part:
            if why := not_applicable(peer, case["name"]):
                results.append(Result(group, case["name"], None, [], why))
                continue
            result = play_one(player, group, case, cut)
            if result.outcome is None and "limits" not in case:
                # Once more, and with more patience: the machine may have been busy.
                result = play_one(player, group, case, cut, quiet_s=4 * QUIET_S)
            results.append(result)
    finally:
        player.close()
    return results


def cut_well(job: Job) -> bool:
    """Can it be delivered in pieces? What goes by time cannot."""
    return job.group != "slow" and not job.case.get("long")


def play_all(runs: list[Run], todo: list[Job], *, pieces: bool, say: Callable[[str], None]) -> None:
    """Fill in the results of `runs`: everything whole, and with `pieces` to ingressd in every other way."""
    loop = EchoLoop()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="raw-compare-") as temporary,
            ThreadPoolExecutor((SHARDS + 1) * len(NAMES)) as pool,
        ):
            for number, (delivery, cut) in enumerate(DELIVERIES.items()):
                if delivery != WHOLE and not pieces:
                    continue
                began = time.monotonic()
                pending: list[tuple[Run, Future[list[Result]]]] = []
                for run in runs:
                    if delivery != WHOLE and run.peer != "ingressd":
                        continue
                    for part in shards(todo if delivery == WHOLE else list(filter(cut_well, todo))):
                        folder = Path(temporary) / f"{run.peer}-{number}-{len(pending)}"
                        folder.mkdir()
                        pending.append((run, pool.submit(play_shard, run.peer, part, folder, loop, cut)))
                for run, done in pending:
                    run.results.setdefault(delivery, {}).update({one.name: one for one in done.result()})
                say(f"{delivery}: {time.monotonic() - began:.0f} s")
    finally:
        loop.close()


def counted(say: Callable[[str], None]) -> str:
    """What nginx and HAProxy as upstreams count in what we let through, as a sentence for each."""
    egress = streams()
    lines = [f"- streams that the data plane let through: {len(egress)}"]
    for name in NAMES[1:]:
        with tempfile.TemporaryDirectory(prefix="raw-compare-") as folder, serving(name, Path(folder)) as address:
            different = differences(address, egress)
        lines.append(f"- {version_of(name)} finds another number of requests in: {len(different)}")
        say(lines[-1])
    return "\n".join(lines)


def sections_of(runs: list[Run]) -> dict[str, str]:
    """The generated parts of docs/security.md that these runs can fill."""
    peers = {run.version: run.results[WHOLE] for run in runs}
    others = {run.version: run.results[WHOLE] for run in runs if run.peer != "ingressd"}
    sections = {"table": compare_pages.main_table(peers)}
    if others:
        sections |= {"failed": compare_pages.failed_text(others), "left out": compare_pages.left_out_text(others)}
    for run in runs:
        if run.peer == "ingressd":
            own = run.results[WHOLE]
            sections["second"] = compare_pages.second_text(own)
            sections["better"] = compare_pages.better_text(own, others)
            if len(run.results) > 1:
                sections["pieces"] = compare_pages.delivery_table(run.results)
    return sections


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="python -m cases.compare", description=__doc__)
    options.add_argument("--peers", default=",".join(NAMES), help=f"of {', '.join(NAMES)}")
    options.add_argument("--only", default="", metavar="REGEX", help="cases whose `class: name` has this in it")
    options.add_argument("--why", action="store_true", help="say of every case that failed what was wrong")
    options.add_argument(
        "--pieces", action="store_true", help="then to ingressd in pieces, in four ways: two minutes more"
    )
    options.add_argument(
        "--count", action="store_true", help="then what nginx and HAProxy count in what we let through"
    )
    options.add_argument("--write-docs", action="store_true", help="write what was found into docs/security.md")
    return options


def main(arguments: list[str]) -> int:
    """The command. 1 when ingressd failed a case, or nothing could be played."""
    options = parser().parse_args(arguments)
    runs = []
    for name in options.peers.split(","):
        try:
            runs.append(Run(name, version_of(name)))
        except MissingError as error:
            print(f"left out: {error}", file=sys.stderr)
    todo = jobs(options.only)
    if not runs or not todo:
        print("nothing to play", file=sys.stderr)
        return 1
    if options.write_docs and (len(runs) < len(NAMES) or options.only):
        parser().error("--write-docs takes every case and all three proxies")
    play_all(runs, todo, pieces=options.pieces, say=lambda text: print(text, file=sys.stderr, flush=True))
    sections = sections_of(runs)
    if options.count:
        sections["counted"] = counted(lambda text: print(text, file=sys.stderr, flush=True))
    print("first accepted outcome / another accepted outcome / failed\n")
    print("\n\n".join(text for name, text in sections.items() if name in ("table", "pieces", "counted")))
    if options.why:
        for run in runs:
            for one in run.results[WHOLE].values():
                if one.wrong:
                    print(f"\n{run.version}, {one.group}: {one.name}", *one.wrong, sep="\n  ")
    if options.write_docs:
        compare_pages.write(sections)
    failed = [run for run in runs if run.peer == "ingressd" and any(one.wrong for one in run.results[WHOLE].values())]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
