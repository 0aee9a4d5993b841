"""`python -m loadtest.overload`: goodput at ten times the peak, who is told to come back, and how soon all is well.

ingressd gets a share of a CPU by a control group; the load comes from CPU 1. The peak is looked for twice: 64
connections that ask again as soon as they are answered, and the clients of the overload (as many connections, as many
new ones) at rates around that. `--nginx` measures nginx instead. Takes a minute and a quarter.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest import certificate
from loadtest.backend import start_backend
from loadtest.launch import LOAD_CPU, PROXY_CPU, MissingError, Place, Running, find, free_ports
from loadtest.overload.cgroup import PERIOD_US, ControlGroup
from loadtest.overload.generator import BUCKET_S, quantile
from loadtest.overload.watch import CpuMeter, Prober, Yardstick
from loadtest.peers import ingressd, nginx

CLOSED_LOOP = 64
RAMP = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
RAMP_S = 3.0
REST_S = 4.0
"""So long it may take to accept everybody who is connected before the load begins."""


def generate(port: int, phases: list[tuple[str, float, float]], **asked: Any) -> list[dict[str, Any]]:
    """Run the generator on its CPU."""
    order = {"port": port, "phases": phases, "fresh": 0.0, "timeout_s": 1.0, "rest_s": 0.5, **asked}
    argv = [sys.executable, "-m", "loadtest.overload.generator", json.dumps(order)]
    done = subprocess.run(
        argv,
        check=True,
        stdout=subprocess.PIPE,
        timeout=90,
        cwd=Path(__file__).parents[2],
        preexec_fn=lambda: os.sched_setaffinity(0, {LOAD_CPU}),
    )
    result: list[dict[str, Any]] = json.loads(done.stdout)
    return result


def seconds_to_baseline(before: dict[str, Any], after: dict[str, Any]) -> float:
    """From the end of the load until the p99 of every later tenth is at most twice that of all tenths before it.

    Or a period of the quota: who has used his share rests for so long, whatever there is to do.
    """
    usual = max(PERIOD_US / 1000, 2 * max((p99 for _, p99 in before["buckets"].values()), default=0.0))
    expected = before["rate"] * BUCKET_S * 0.8
    well = 0.0
    for number in range(int(after["seconds"] / BUCKET_S)):
        count, p99 = after["buckets"].get(str(number), (0, 0.0))
        if count < expected or p99 > usual:
            well = (number + 1) * BUCKET_S
    return well


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured: requests/s of the closed loop, summaries of phases, and what was seen beside them."""

    peak: float
    ramp: list[dict[str, Any]]
    phases: list[dict[str, Any]]
    admin: Prober
    health: Prober
    cpu: CpuMeter
    yardstick: Yardstick


def measure(arguments: argparse.Namespace, folder: Path) -> Found:
    http, https, admin, backend = free_ports(4)
    (folder / "ingressd").mkdir()
    cert = certificate.write_certificate(folder)
    place = Place(folder / "ingressd", http, https, admin, backend, *cert)
    (folder / "backend").mkdir()
    command = nginx.command(place) if arguments.nginx else ingressd.command(place, build=arguments.ingressd)
    many = {"connections": arguments.connections, "preconnected": arguments.connections // 2}
    clients = {**many, "fresh": arguments.fresh, "timeout_s": arguments.timeout, "rest_s": REST_S}
    with (
        start_backend(folder / "backend", backend, sizes=(101,)),
        ControlGroup("cpu", arguments.cpus) as group,
        Running("proxy", group.command(command), folder=place.folder, cpu=PROXY_CPU) as running,
    ):
        running.wait_ready(http, timeout_s=40)
        [closed] = generate(http, [("peak", 0, 5)], connections=CLOSED_LOOP, preconnected=CLOSED_LOOP)
        peak = closed["ok"] / closed["seconds"]
        time.sleep(1)
        yardstick = Yardstick(PROXY_CPU)
        yardstick.start()
        ramp = generate(http, [("ramp", peak * share, RAMP_S) for share in RAMP], **clients)
        time.sleep(1)
        watchers = (Prober(admin), Prober(http), CpuMeter(running.pid))
        for watcher in watchers:
            watcher.start()
        usual = peak * arguments.usual
        phases = [("before", usual, 6), ("overload", peak * arguments.times, arguments.seconds), ("after", usual, 8)]
        found = generate(http, phases, **clients)
        for watcher in (*watchers, yardstick):
            watcher.stop()
        if not arguments.nginx:
            (folder / "metrics.txt").write_bytes(_get(admin, "/metrics"))
    return Found(peak, ramp, found, *watchers, yardstick)


def _get(port: int, path: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        pieces = []
        while piece := sock.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def _line(phase: dict[str, Any]) -> str:
    seconds, offered = phase["seconds"], max(1, phase["offered"])
    answered = phase["ok"] + phase["shed"] + phase["other"]
    return "; ".join(
        (
            f"{phase['name']:9}offered {offered / seconds:.0f}/s, answered {100 * answered / offered:.0f} %",
            f"200 {phase['ok'] / seconds:.0f}/s, p50 {phase['p50_ms']} p99 {phase['p99_ms']} ms",
            f"503 {phase['shed'] / seconds:.0f}/s, p50 {phase['shed_p50_ms']} p99 {phase['shed_p99_ms']} ms, "
            f"{phase['shed_without_retry_after']} without Retry-After",
            f"other {phase['other']}, reset {phase['reset']}, gave up {phase['timed_out']}",
            f"no connection left for {phase['unsent']}, generator late {phase['late_ms']} ms",
        )
    )


def _on_an_even_machine(found: Found) -> str:
    """Goodput as if the CPU had been as fast in the overload as in the ramp."""

    def took(phase: dict[str, Any]) -> float:
        return found.yardstick.between(phase["began"], phase["began"] + phase["seconds"])

    def fair(phase: dict[str, Any]) -> float:
        return float(phase["ok"] / phase["seconds"] * took(phase))

    overload = found.phases[1]
    best = max(found.ramp, key=fair)
    share = 100 * fair(overload) / fair(best) if fair(best) else 0.0
    return (
        f"a fixed piece of work took {1000 * took(best):.2f} ms of CPU time at that peak, "
        f"{1000 * took(overload):.2f} ms meanwhile: without that, {share:.0f} % of the peak of the same clients"
    )


def report(found: Found) -> str:
    """The figures, one a line."""
    before, overload, after = found.phases
    begin, end = overload["began"], overload["began"] + overload["seconds"]
    goodput = overload["ok"] / overload["seconds"]
    same = max(phase["ok"] / phase["seconds"] for phase in found.ramp)
    refused = overload["shed"] + overload["reset"] + overload["other"]
    told = overload["shed"] - overload["shed_without_retry_after"]
    lines = [
        f"peak, closed loop of {CLOSED_LOOP}: {found.peak:.0f}/s",
        f"peak of the clients of the overload: {same:.0f}/s; of what was offered: "
        + ", ".join(f"{p['ok'] / p['seconds']:.0f} of {p['offered'] / p['seconds']:.0f}" for p in found.ramp),
        *map(_line, found.phases),
    ]
    for name, prober in (("admin", found.admin), ("proxy", found.health)):
        took = [1000 * seconds for seconds in prober.between(begin, end)]
        lines.append(
            f"/healthz of the {name} port, new connections, meanwhile: {len(took)} answered, "
            f"{len([at for at in prober.failed if begin <= at < end])} not; "
            f"p50 {quantile(took, 0.5):.0f} p99 {quantile(took, 0.99):.0f} max {max(took, default=0):.0f} ms"
        )
    cpus = found.cpu.share(begin, end)
    lines.append(f"CPUs used meanwhile: {cpus:.3f}, {1e6 * cpus / max(1.0, goodput):.0f} us for each request served")
    lines.append(
        f"goodput at {overload['rate'] / found.peak:.0f} times the peak: {100 * goodput / same:.0f} % "
        f"of the peak of the same clients, {100 * goodput / found.peak:.0f} % of the closed loop's"
    )
    lines.append(_on_an_even_machine(found))
    lines.append(f"of those who were refused, told when to come back: {100 * told / max(1, refused):.0f} %")
    lines.append(f"back at the baseline after {seconds_to_baseline(before, after):.1f} s")
    return "\n".join(lines)


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m loadtest.overload", description=__doc__)
    options.add_argument("--ingressd", default=find("ingressd"), metavar="COMMAND")
    options.add_argument("--nginx", action="store_true", help="measure nginx")
    options.add_argument("--cpus", type=float, default=0.1)
    options.add_argument("--times", type=float, default=10.0)
    options.add_argument("--usual", type=float, default=0.3, help="the baseline, as a share of the peak")
    options.add_argument("--seconds", type=float, default=12.0)
    options.add_argument("--connections", type=int, default=2000, help="that clients have open at most")
    options.add_argument(
        "--fresh", type=float, default=0.05, help="share of requests that come over a connection of their own"
    )
    options.add_argument("--timeout", type=float, default=1.0, help="after which a client goes away")
    options.add_argument("--keep", type=Path, default=None)
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="loadtest-") as name:
        folder = arguments.keep or Path(name)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        try:
            found = measure(arguments, folder)
        except MissingError as exc:
            print(f"cannot measure: {exc}", file=sys.stderr)
            return 1
    print(f"load average {' '.join(f'{load:.1f}' for load in os.getloadavg())}; {arguments.cpus} CPUs")
    print(report(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
