"""More clients than file descriptors: 256 of these, 400 of those."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from loadtest.abuse.canary import Canary, none_failed
from loadtest.abuse.outcome import Outcome, at_most, told
from loadtest.abuse.place import CANARY, HOST, PLAIN, cpu_share, placed
from loadtest.abuse.slow import ADDED_MS, BASELINE_S
from loadtest.control.child import Child
from loadtest.launch import status_of

SCENARIO = "descriptors"
LIMIT = 256
CLIENTS = 400
LEAVE = 250
CPU_PERCENT = 5.0
"""Added, of a CPU, while nobody can be let in."""
AGAIN_S = 1.0

SETTINGS = {**PLAIN, "upstream-keepalive-connections": "0"}
"""So that every request needs a descriptor more, for its endpoint."""


def measure(scenario: str, command: Sequence[str]) -> list[Outcome]:
    """The scenario."""
    with (
        placed(command, settings=SETTINGS, descriptors=LIMIT) as place,
        Canary(HOST, place.canary_port, fresh=False, name=CANARY) as canary,
        Child("loadtest.abuse.abusers") as abusers,
    ):
        worker = place.workers()["worker 0"]
        canary.for_seconds(1.0)
        canary.begin()
        cpu_before = cpu_share(worker, BASELINE_S)
        before = canary.end()
        canary.begin()
        opened = abusers.ask("open", kind="no request", host=HOST, port=place.http_port, count=CLIENTS)
        time.sleep(0.5)
        files = len(os.listdir(f"/proc/{worker}/fd"))
        cpu_during = cpu_share(worker, BASELINE_S)
        during = canary.end()
        abusers.ask("close", first=LEAVE)
        began = time.monotonic()
        try:
            status = status_of(place.http_port, tls=False, path="/101")
        except OSError:
            status = 0
        again_s = time.monotonic() - began
        lines = place.output.count("\n")
    return [
        told(scenario, "clients that came, descriptors in use", f"{len(opened['began'])}, {files} of {LIMIT}"),
        at_most(scenario, "CPU added", 100 * (cpu_during - cpu_before), CPU_PERCENT, unit="%", digits=1),
        at_most(
            scenario, "established traffic, p99 added", during.p99_ms - before.p99_ms, ADDED_MS, unit="ms", digits=1
        ),
        none_failed(scenario, "established traffic", during),
        at_most(
            scenario,
            f"after relief, a new client has {status} after",
            again_s if status == 200 else 1e9,
            AGAIN_S,
            unit="s",
            digits=2,
        ),
        at_most(scenario, "lines of log", lines, 60),
    ]
