"""Syscalls per request: by perf's tracepoints (root; hardly disturbs), else by strace (slow, but the counts hold)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtest import procfs, wrk
from loadtest.cell import Cell
from loadtest.field import Peer
from loadtest.launch import LOAD_CPU, MissingError

READS = ("read", "readv", "recvfrom", "recvmsg")
WRITES = ("write", "writev", "sendto", "sendmsg", "sendfile64")
POLLS = ("epoll_wait", "epoll_pwait", "epoll_ctl")
NAMED = (
    *READS,
    *WRITES,
    *POLLS,
    "io_uring_enter",
    "futex",
    "accept4",
    "close",
    "getsockopt",
    "setsockopt",
    "getpid",
    "getrandom",
)
ALIASES = {"sendfile": "sendfile64"}
TOTAL = "total"


def parse_perf(text: str) -> dict[str, int]:
    """`perf stat -x,` → syscall → count. Lines of events that were not counted are left out."""
    counts: dict[str, int] = {}
    for line in text.splitlines():
        fields = line.split(",")
        if len(fields) < 3 or not fields[0].isdigit():
            continue
        name = TOTAL if fields[2] == "raw_syscalls:sys_enter" else fields[2].removeprefix("syscalls:sys_enter_")
        counts[name] = int(fields[0])
    return counts


def parse_strace(text: str) -> dict[str, int]:
    """`strace -c` → syscall → count, with the total of the last line."""
    counts: dict[str, int] = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 5 or not fields[0].replace(".", "").isdigit() or not fields[3].isdigit():
            continue
        name = fields[-1]
        counts[ALIASES.get(name, name)] = int(fields[3])
    return counts


def per_request(counts: Mapping[str, int], requests: int) -> dict[str, Any]:
    """Reads, writes, polls and all others for one request, and what the others are."""
    reads, writes, polls = (sum(counts.get(name, 0) for name in names) for names in (READS, WRITES, POLLS))
    others = {
        name: round(count / requests, 3)
        for name, count in counts.items()
        if name not in (*READS, *WRITES, *POLLS, TOTAL) and count / requests >= 0.02
    }
    return {
        "reads": reads / requests,
        "writes": writes / requests,
        "polls": polls / requests,
        "total": counts.get(TOTAL, 0) / requests,
        "others": others,
    }


def count(peer: Peer, cell: Cell, *, seconds: float) -> dict[str, Any]:
    """Count during one wrk run. Missing when neither perf nor strace can."""
    url = f"{cell.scheme}://localhost:{peer.port(cell.scheme)}/{cell.size_bytes}"
    load = wrk.command(url, cell.connections, seconds=seconds, cpu=LOAD_CPU)
    pids = procfs.tree(peer.running.pid)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "counts"
        for program, counted in (("perf", _with_perf), ("strace", _with_strace)):
            if shutil.which(program) is None:
                continue
            report, counts = counted(pids, load, path)
            peer.truncate_log()
            if counts.get(TOTAL):
                return {"by": program, **per_request(counts, max(1, report.requests))}
    raise MissingError("neither perf (as root) nor strace can count syscalls here")


def _with_perf(pids: Sequence[int], load: Sequence[str], path: Path) -> tuple[wrk.Report, dict[str, int]]:
    events = ["raw_syscalls:sys_enter", *(f"syscalls:sys_enter_{name}" for name in NAMED)]
    argv = ["perf", "stat", "-x,", "-o", str(path), "-e", ",".join(events), "-p", ",".join(map(str, pids)), "--", *load]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    if not path.exists() or done.returncode:
        return wrk.Report(0, 1.0, 0, 0, 0), {}
    return wrk.parse(done.stdout), parse_perf(path.read_text())


def _with_strace(pids: Sequence[int], load: Sequence[str], path: Path) -> tuple[wrk.Report, dict[str, int]]:
    argv = ["strace", "-c", "-f", "-o", str(path)]
    for pid in pids:
        argv += ["-p", str(pid)]
    tracer = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.3)
    done = subprocess.run(list(load), capture_output=True, text=True, timeout=60, check=False)
    os.kill(tracer.pid, signal.SIGINT)
    tracer.wait(10)
    return wrk.parse(done.stdout), parse_strace(path.read_text()) if path.exists() else {}
