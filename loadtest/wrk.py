"""Drive a URL with wrk and read what it printed."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import NamedTuple

UNITS_US = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6, "h": 3600e6}


class Report(NamedTuple):
    """One run of wrk. `errors` counts socket errors and answers that were neither 2xx nor 3xx."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    errors: int

    @property
    def rps(self) -> float:
        return self.requests / self.seconds


def parse_duration_us(text: str) -> float:
    """`1.23ms` → 1230.0. ValueError when it is no duration."""
    match = re.fullmatch(r"([\d.]+)(us|ms|s|m|h)", text)
    if match is None:
        raise ValueError(f"not a duration: {text!r}")
    return float(match[1]) * UNITS_US[match[2]]


def parse(text: str) -> Report:
    """Parse the output of `wrk --latency`. ValueError when it holds no result."""
    total = re.search(r"(\d+) requests in ([\d.]+\w+),", text)
    p50 = re.search(r"^\s+50%\s+(\S+)", text, re.MULTILINE)
    p99 = re.search(r"^\s+99%\s+(\S+)", text, re.MULTILINE)
    if total is None or p50 is None or p99 is None:
        raise ValueError(f"wrk printed no result: {text.strip()[-300:]!r}")
    errors = 0
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    if sockets is not None:
        errors += sum(int(group) for group in sockets.groups())
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    if refused is not None:
        errors += int(refused[1])
    seconds = parse_duration_us(total[2]) / 1e6
    return Report(int(total[1]), seconds, parse_duration_us(p50[1]), parse_duration_us(p99[1]), errors)


def command(url: str, connections: int, *, seconds: float, cpu: int) -> list[str]:
    """The command line: one thread, pinned, kept-alive connections."""
    taskset, wrk = shutil.which("taskset") or "taskset", shutil.which("wrk") or "wrk"
    duration = f"{max(1, round(seconds))}s"
    return [
        taskset,
        "-c",
        str(cpu),
        wrk,
        "-t1",
        f"-c{connections}",
        f"-d{duration}",
        "--timeout",
        "10s",
        "--latency",
        url,
    ]


def run(url: str, connections: int, *, seconds: float, cpu: int) -> Report:
    """Run wrk to its end. ValueError when it printed no result, TimeoutExpired when it hangs."""
    done = subprocess.run(
        command(url, connections, seconds=seconds, cpu=cpu),
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=False,
    )
    return parse(done.stdout + done.stderr)
