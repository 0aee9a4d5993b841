"""slowhttptest, whose four kinds of attack others measure themselves by (Debian: `apt install slowhttptest`)."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from loadtest.abuse.canary import Canary, none_failed
from loadtest.abuse.children import on_load_cpu
from loadtest.abuse.held import Lives
from loadtest.abuse.outcome import Outcome, at_most, told
from loadtest.abuse.place import CANARY, DEADLINE_S, HOST, placed, waited_s
from loadtest.abuse.slow import ADDED_MS, BASELINE_S, GRACE_S
from loadtest.launch import die_with_parent, find

RATE = 300
SECONDS = 12
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
MODES = {
    "slowhttptest -H": ["-H", "-i", "1", "-x", "24", "-u", "101"],
    "slowhttptest -B": ["-B", "-i", "1", "-s", "100000", "-x", "10", "-u", "2"],
    "slowhttptest -X": ["-X", "-w", "64", "-y", "512", "-n", "1", "-z", "32", "-k", "3", "-u", "4194304"],
    "slowhttptest -R": ["-R", "-a", "5", "-b", "2000", "-u", "101"],
}


def _begin() -> None:
    die_with_parent()
    on_load_cpu(nice=10)


def measure(scenario: str, command: Sequence[str], *, clients: int) -> list[Outcome]:
    """One mode. MissingError without the program."""
    program = find("slowhttptest")
    with placed(command) as place, Canary(HOST, place.canary_port, name=CANARY) as canary:
        *mode, path = MODES[scenario]
        url = f"http://localhost:{place.http_port}/{path}"
        argv = [program, "-c", str(clients), "-r", str(RATE), "-l", str(SECONDS), "-p", "3", *mode, url]
        canary.for_seconds(1.0)
        before = canary.for_seconds(BASELINE_S)
        worker = place.workers()["worker 0"]
        lives, waited = Lives(place.http_port), waited_s(worker)
        canary.begin()
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=_begin
        ) as attack:
            at_once = 0
            while attack.poll() is None:
                lives.watch(0.3)
                at_once = max(at_once, len(lives.open))
            assert attack.stdout is not None
            said = attack.stdout.read().decode(errors="replace")
        lives.watch(DEADLINE_S + 2 * GRACE_S)
        during = canary.end()
        waited = waited_s(worker) - waited
    return [
        told(scenario, "clients at once", f"{at_once} of {lives.count}"),
        at_most(scenario, "canary, p99 added", during.p99_ms - before.p99_ms, ADDED_MS, unit="ms", digits=1),
        none_failed(scenario, "canary", during),
        told(scenario, "the worker had to wait for its CPU", f"{waited * 1e3:.0f} ms"),
        at_most(scenario, "closed after", lives.longest_s(), DEADLINE_S + GRACE_S, unit="s", digits=1),
        told(scenario, "its own verdict", verdict(said)),
    ]


def verdict(said: str) -> str:
    """What it says of the service, and how it ended, in its last status."""
    lines = [" ".join(_COLOUR.sub("", line).split()) for line in said.splitlines()]
    available = [line for line in lines if line.startswith("service available")]
    ended = [line for line in lines if line.startswith("Exit status")]
    yes = "YES" if available and "YES" in available[-1] else "NO"
    return f"service available: {yes}; {(ended or ['no exit status'])[-1]}"
