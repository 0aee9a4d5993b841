"""Workers that are killed, and programs that are replaced, under load."""

from __future__ import annotations

import contextlib
import os
import random
import re
import select
import signal
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from loadtest.abuse.fetching import Record
from loadtest.abuse.outcome import Outcome, at_most, told
from loadtest.abuse.place import HOST, PLAIN, Place, placed
from loadtest.control.child import Child
from loadtest.control.owners import inodes_by_peer_port
from loadtest.launch import MissingError

EVERY_S = 2.0
RATE = 250.0
"""Of each kind, so 500 in all."""
CLIENTS = {"new": 12, "kept": 12}
HAND_OVERS = 10
ACCEPTING_S = 0.5
PATIENCE_S = 10.0
LOOK_S = 0.02
SERVES_S = 30.0
_SERVES = re.compile(r"process (\d+) serves; what ran before it drains")
_TARGET = re.compile(r"(?m)^tfd: +(\d+)")
Span = tuple[float, float]


def kill(pid: int) -> Span:
    """Kill a process; from when on it may have been dead until when it was: then all that it held is closed."""
    watch = os.pidfd_open(pid)
    try:
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        select.select([watch], [], [], 5)
        return began, time.monotonic()
    finally:
        os.close(watch)


def failures(records: Iterable[Record], deaths: Sequence[Span]) -> tuple[list[Record], list[Record]]:
    """Those that the death of a worker excuses, for they may have been inside, and the others."""
    excused: list[Record] = []
    unexcused: list[Record] = []
    for record in records:
        began, ended, wrong = record
        if wrong:
            inside = any(began <= gone and ended >= killed for killed, gone in deaths)
            inside = inside and not wrong.startswith("no connection")
            (excused if inside else unexcused).append(record)
    return excused, unexcused


def _shown(records: Sequence[Record]) -> str:
    return f"{len(records)}" + (f": {records[0][2]}" if records else "")


def killed_workers(scenario: str, command: Sequence[str], *, seconds: float) -> list[Outcome]:
    """SIGKILL to a random worker every two seconds."""
    choice = random.Random(5)
    deaths: list[Span] = []
    back: list[float] = []
    accepting: list[float] = []
    with placed(command, settings=PLAIN, workers=2) as place, Child("loadtest.abuse.fetching") as clients:
        clients.ask("begin", kinds=CLIENTS, host=HOST, port=place.http_port, rate=RATE)
        until = time.monotonic() + seconds
        time.sleep(1.0)
        while time.monotonic() < until:
            workers = place.workers()
            victim = choice.choice(sorted(workers))
            deaths.append(kill(workers[victim]))
            successor, at = _replaced(place, victim, workers[victim])
            back.append(at - deaths[-1][0])
            accepting.append(_accepts(place, successor) - deaths[-1][0])
            time.sleep(max(0.0, deaths[-1][0] + EVERY_S - time.monotonic()))
        records = {kind: [(a, b, c) for a, b, c in those] for kind, those in clients.ask("end").items()}
    new, kept = (failures(records[kind], deaths) for kind in ("new", "kept"))
    slowest = max(ended - began for began, ended, _ in records["new"])
    return [
        told(scenario, "workers killed; a new process after, at most", f"{len(deaths)}; {max(back):.2f} s"),
        at_most(scenario, "its successor waits for clients after", max(accepting), ACCEPTING_S, unit="s", digits=2),
        told(scenario, "the same, median", f"{statistics.median(accepting):.2f} s"),
        Outcome(scenario, f"new connections, failed of {len(records['new'])}", _shown(new[1]), "0", not new[1]),
        Outcome(
            scenario, f"requests on kept ones, failed of {len(records['kept'])}", _shown(kept[1]), "0", not kept[1]
        ),
        told(scenario, "lost inside the dead workers, new and kept", f"{len(new[0])} and {len(kept[0])}"),
        told(scenario, "the slowest on a new connection", f"{slowest * 1e3:.0f} ms"),
    ]


def _replaced(place: Place, name: str, old: int) -> tuple[int, float]:
    """The process that took its place, and when it was there."""
    until = time.monotonic() + PATIENCE_S
    while (found := place.workers().get(name)) in (None, old):
        if time.monotonic() > until:
            raise MissingError(f"{name} was not replaced")
        time.sleep(LOOK_S)
    assert found is not None
    return found, time.monotonic()


def _accepts(place: Place, pid: int) -> float:
    """When this worker waits for clients. Whether it has one says nothing: another that is idle may win them all."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        listening = inodes_by_peer_port(Path("/proc/net/tcp").read_text(), place.http_port)[0]
        if listening in _awaited(pid):
            return time.monotonic()
        time.sleep(LOOK_S)
    raise MissingError(f"worker {pid} accepts nobody")


def _awaited(pid: int) -> set[int]:
    """The inodes of the sockets that a process waits for by epoll."""
    found = set()
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            if os.readlink(entry.path) == "anon_inode:[eventpoll]":
                for number in _TARGET.findall(Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text()):
                    target = os.readlink(f"/proc/{pid}/fd/{number}")
                    if target.startswith("socket:["):
                        found.add(int(target[8:-1]))
    return found


def hand_overs(scenario: str, command: Sequence[str]) -> list[Outcome]:
    """SIGUSR2, ten times."""
    took: list[float] = []
    with placed(command, settings=PLAIN, workers=2) as place, Child("loadtest.abuse.fetching") as clients:
        clients.ask("begin", kinds=CLIENTS, host=HOST, port=place.http_port, rate=RATE)
        time.sleep(0.5)
        for number in range(1, HAND_OVERS + 1):
            began = time.monotonic()
            os.kill(place.pid, signal.SIGUSR2)
            while len(_SERVES.findall(place.output)) < number:
                if time.monotonic() > began + SERVES_S:
                    raise MissingError(f"no hand-over within {SERVES_S:g} s: {place.output[-400:]}")
                time.sleep(0.05)
            took.append(time.monotonic() - began)
        time.sleep(1.0)
        records = {kind: [(a, b, c) for a, b, c in those] for kind, those in clients.ask("end").items()}
    new, kept = (failures(records[kind], []) for kind in ("new", "kept"))
    return [
        told(scenario, "hand-overs; each took, at most", f"{len(took)}; {max(took):.1f} s"),
        Outcome(scenario, f"new connections, failed of {len(records['new'])}", _shown(new[1]), "0", not new[1]),
        Outcome(
            scenario, f"requests on kept ones, failed of {len(records['kept'])}", _shown(kept[1]), "0", not kept[1]
        ),
        at_most(
            scenario, "the slowest on a new connection", 1e3 * max(b - a for a, b, _ in records["new"]), 1e3, unit="ms"
        ),
    ]
