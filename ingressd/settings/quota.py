"""How many CPUs and how much memory we may use."""

from __future__ import annotations

import math
import os

UNLIMITED_BYTES = 1 << 62
"""Version 1 has no word for "no limit" but a number about as large as this."""


def default_workers(*, root: str = "/") -> int:
    """The cgroup's CPU quota rounded up, else the CPUs this process may run on; at least 1.

    `root` is where the file system begins, for tests. Both cgroup versions; of nested groups the tightest counts.
    """
    cpus = len(os.sched_getaffinity(0))
    quotas = [quota for quota in (_version_2(root), _version_1(root)) if quota is not None]
    return max(1, min(cpus, *(math.ceil(quota) for quota in quotas))) if quotas else max(1, cpus)


def memory_limit(*, root: str = "/") -> int | None:
    """The cgroup's limit of memory in bytes, the tightest of nested groups; None when there is none.

    `root` is where the file system begins, for tests. Both cgroup versions.
    """
    groups = _groups(root)
    places = (("sys/fs/cgroup", "", "memory.max"), ("sys/fs/cgroup/memory", "memory", "memory.limit_in_bytes"))
    limits = []
    for mount, controller, name in places:
        for folder in _upwards(os.path.join(root, mount), groups.get(controller, "")):
            text = _read(os.path.join(folder, name))
            if text.isdigit() and 0 < int(text) < UNLIMITED_BYTES:
                limits.append(int(text))
    return min(limits, default=None)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _groups(root: str) -> dict[str, str]:
    """Controllers to the path of our group ("" is version 2's)."""
    groups = {}
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            for controller in parts[1].split(","):
                groups[controller] = parts[2]
    return groups


def _upwards(base: str, group: str) -> list[str]:
    """The folders of a group and of all groups around it."""
    parts = [part for part in group.split("/") if part and part != ".."]
    return [os.path.join(base, *parts[:depth]) for depth in range(len(parts), -1, -1)]


def _version_2(root: str) -> float | None:
    quotas = []
    for folder in _upwards(os.path.join(root, "sys/fs/cgroup"), _groups(root).get("", "")):
        words = _read(os.path.join(folder, "cpu.max")).split()
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def _version_1(root: str) -> float | None:
    quotas = []
    group = _groups(root).get("cpu", "")
    for mount in ("cpu", "cpu,cpuacct"):
        for folder in _upwards(os.path.join(root, "sys/fs/cgroup", mount), group):
            quota, period = (_read(os.path.join(folder, name)) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
            if quota.isdigit() and period.isdigit() and int(quota) and int(period):
                quotas.append(int(quota) / int(period))
    return min(quotas, default=None)
