"""What /proc says of a process tree: its members, the CPU it used, the memory it holds.

Parsers take text, readers take a pid.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Stat(NamedTuple):
    """What we use of /proc/PID/stat (proc(5)). Ticks are of `TICKS_PER_S`."""

    parent: int
    own_ticks: int
    reaped_ticks: int


class Cpu(NamedTuple):
    """CPU used by a tree until now: coarse in clock ticks (loses nothing), fine in ns by thread (loses ended ones)."""

    ticks: int
    threads_ns: Mapping[int, int]


def parse_stat(text: str) -> Stat:
    """Parse /proc/PID/stat. The command may hold spaces and parentheses, so fields count from the last `)`."""
    fields = text[text.rindex(")") + 2 :].split()
    return Stat(int(fields[1]), int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14]))


def parse_kib(text: str, key: str) -> int:
    """The KiB of one `Key:   123 kB` line of smaps_rollup or status; KeyError when there is none."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    raise KeyError(key)


def parse_cpu_line(text: str, cpu: int) -> tuple[int, int]:
    """(busy, total) ticks of one CPU from /proc/stat. Waiting for a disk is not busy."""
    for line in text.splitlines():
        name, *values = line.split()
        if name == f"cpu{cpu}":
            ticks = [int(value) for value in values[:8]]
            return sum(ticks) - ticks[3] - ticks[4], sum(ticks)
    raise KeyError(cpu)


def descendants(root: int, parents: Mapping[int, int]) -> list[int]:
    """`root` and everything below it, by a pid → parent mapping."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue.extend(children.get(pid, ()))
    return found


def tree(root: int) -> list[int]:
    """The pids of a living process tree."""
    parents: dict[int, int] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = parse_stat((entry / "stat").read_text()).parent
            except (FileNotFoundError, ProcessLookupError):
                continue
    return [pid for pid in descendants(root, parents) if pid in parents]


def cpu_used(pids: Iterable[int]) -> Cpu:
    """CPU of these processes, all threads, and of the children they have reaped."""
    ticks = 0
    threads: dict[int, int] = {}
    for pid in pids:
        try:
            stat = parse_stat((PROC / str(pid) / "stat").read_text())
            ticks += stat.own_ticks + stat.reaped_ticks
            for task in (PROC / str(pid) / "task").iterdir():
                threads[int(task.name)] = int((task / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return Cpu(ticks, threads)


def cpu_between(before: Cpu, after: Cpu) -> float:
    """Seconds of CPU between two readings: in ns when no thread ended in between, else by clock ticks (10 ms)."""
    if before.threads_ns and before.threads_ns.keys() <= after.threads_ns.keys():
        return sum(ns - before.threads_ns.get(task, 0) for task, ns in after.threads_ns.items()) / 1e9
    return (after.ticks - before.ticks) / TICKS_PER_S


def cpu_ticks(cpu: int) -> tuple[int, int]:
    """(busy, total) ticks of one CPU since boot, whoever used it."""
    return parse_cpu_line((PROC / "stat").read_text(), cpu)


def memory_kib(root: int) -> tuple[int, int]:
    """(PSS, RSS) of a tree in KiB. PSS shares out pages that several processes map: its sum counts every page once."""
    pss = rss = 0
    for pid in tree(root):
        try:
            rollup = (PROC / str(pid) / "smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pss += parse_kib(rollup, "Pss")
        rss += parse_kib(rollup, "Rss")
    return pss, rss
