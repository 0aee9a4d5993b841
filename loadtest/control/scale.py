"""Route scale: what 5,000 routes and 5,000 Services cost in memory and CPU, at rest and while they change."""

from __future__ import annotations

import time
from typing import Any

from loadtest import procfs
from loadtest.control import world
from loadtest.control.churn import Mutations, steadily
from loadtest.control.system import System
from loadtest.launch import MissingError

LOOK_S = 2.0


def measure(system: System, *, applications: int, per_s: float, seconds: float) -> dict[str, Any]:
    """PSS of every process at rest and at its worst while applications change, and the CPU that takes."""
    time.sleep(2.0)
    at_rest = system.memory_kib()
    greatest: dict[str, int] = {}
    worst_kib = 0
    looked_s = -LOOK_S

    def look(now_s: float) -> None:
        nonlocal looked_s, worst_kib, greatest
        if now_s - looked_s < LOOK_S:
            return
        looked_s = now_s
        present = system.memory_kib()
        if sum(present.values()) > worst_kib:
            worst_kib, greatest = sum(present.values()), present

    mutations = Mutations(system, first=0, count=applications // 5)
    mutations.prepare()
    tree = procfs.tree(system.pid)
    before = procfs.cpu_used(tree)
    took_s = steadily(mutations, count=int(per_s * seconds), seconds=seconds, between=look)
    cpu_s = procfs.cpu_between(before, procfs.cpu_used(tree))
    look(float("inf"))
    # A worker compiles a host when it is asked for first: what it takes when all have been.
    unvisited = system.client.ask("visit", hosts=[world.host_of(index) for index in range(applications)])
    if unvisited:
        raise MissingError(f"{unvisited} routes do not answer")
    time.sleep(2.0)
    return {
        "asked_kib": system.memory_kib(),
        "applications": applications,
        "changes_per_s": per_s,
        "seconds": took_s,
        "at_rest_kib": at_rest,
        "churning_kib": greatest,
        "cpu_percent": cpu_s / took_s * 100,
    }
