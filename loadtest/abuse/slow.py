"""Clients that are slow on purpose, in their hundreds: who waits for them, and when are they let go?"""

from __future__ import annotations

from collections.abc import Sequence

from ingressd.proxy.http.ending import LAST_BYTES_TIMES
from loadtest import procfs
from loadtest.abuse.canary import Canary, none_failed
from loadtest.abuse.held import Lives
from loadtest.abuse.outcome import Outcome, at_most, told
from loadtest.abuse.place import CANARY, DEADLINE_S, HOST, placed, waited_s
from loadtest.control.child import Child

BASELINE_S = 4.0
ADDED_MS = 20.0
GRACE_S = 1.0
AT_A_TIME = 100
LAST = "a last answer read at 2 KiB a second"
SCENARIOS = {
    "slow heads": ("http", ("heads that drip lines", "heads that drip bytes")),
    "slow bodies": ("http", ("bodies that drip", "chunks that drip")),
    "slow readers": (
        "http",
        (
            "much asked, nothing read",
            "much asked, 128 bytes a second read",
            "fifty answers asked, nothing read",
            LAST,
        ),
    ),
    "handshakes": (
        "https",
        ("no ClientHello", "half a ClientHello", "half a ClientHello that drips", "a ClientHello and no more"),
    ),
    "over TLS": (
        "https",
        (
            "TLS and no request",
            "TLS and a head that drips lines",
            "TLS and a body that drips",
            "TLS, much asked, nothing read",
        ),
    ),
    "idle": ("http", ("no request", "a request and no other")),
    "websockets": (
        "http",
        (
            "silent WebSockets",
            "half-closed WebSockets",
            "flooded WebSockets, nothing read",
            "flooded WebSockets, nothing read, pings sent",
        ),
    ),
}
"""By name: the listener, and the kinds of clients, who come together in equal parts."""


def deadline_s(kind: str) -> float:
    """When a client of this kind has to be gone."""
    return LAST_BYTES_TIMES * DEADLINE_S if kind == LAST else DEADLINE_S


def measure(scenario: str, command: Sequence[str], *, clients: int) -> list[Outcome]:
    """One scenario."""
    listener, kinds = SCENARIOS[scenario]
    with (
        placed(command) as place,
        Canary(HOST, place.canary_port, name=CANARY) as canary,
        Child("loadtest.abuse.abusers") as abusers,
    ):
        port = place.https_port if listener == "https" else place.http_port
        canary.for_seconds(1.0)
        before = canary.for_seconds(BASELINE_S)
        worker = place.workers()["worker 0"]
        memory, waited = procfs.memory_kib(place.pid)[0], waited_s(worker)
        lives = Lives(port)
        canary.begin()
        began: dict[str, dict[int, float]] = {}
        failed: list[str] = []
        for kind in kinds:
            began[kind] = {}
            for _ in range(0, clients // len(kinds), AT_A_TIME):
                opened = abusers.ask("open", kind=kind, host=HOST, port=port, count=AT_A_TIME)
                began[kind].update(opened["began"])
                failed += opened["failed"]
                lives.look()
        grown = procfs.memory_kib(place.pid)[0] - memory
        lives.watch(max(map(deadline_s, kinds)) + 3 * GRACE_S)
        during = canary.end()
        waited = waited_s(worker) - waited
    count = sum(len(those) for those in began.values())
    outcomes = [
        told(scenario, "clients at once", f"{count}" + (f", {len(failed)} failed: {failed[0]}" if failed else "")),
        at_most(scenario, "canary, p99 added", during.p99_ms - before.p99_ms, ADDED_MS, unit="ms", digits=1),
        none_failed(scenario, "canary", during),
        told(scenario, "the worker had to wait for its CPU", f"{waited * 1e3:.0f} ms"),
        told(scenario, "memory for each", f"{grown / max(1, count):.1f} KiB"),
    ]
    for kind, since in began.items():
        took = lives.longest_since_s(since)
        outcomes.append(
            at_most(scenario, f"{kind}: closed after", took, deadline_s(kind) + GRACE_S, unit="s", digits=1),
        )
    return outcomes
