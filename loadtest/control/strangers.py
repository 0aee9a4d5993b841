"""How much of the machine others used while something was measured: times are only worth what was left to us."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from loadtest import procfs

QUIET_SHARE = 0.05
"""Up to here a measurement counts as undisturbed."""
Results = dict[str, Any]


def _busy_ticks() -> tuple[int, int]:
    """(busy, total) ticks of all CPUs since boot."""
    cpus = [procfs.cpu_ticks(cpu) for cpu in range(os.cpu_count() or 1)]
    return sum(busy for busy, _ in cpus), sum(total for _, total in cpus)


def undisturbed(measure: Callable[[], Results], *, tries: int, say: Callable[[str], None]) -> Results:
    """Measure until nobody else used more than `QUIET_SHARE` of the CPUs, `tries` times at most; the quietest result.

    `strangers` in it is what others used. Everything of ours descends from this process.
    """
    best: Results | None = None
    for number in range(tries):
        ours = procfs.cpu_used(procfs.tree(os.getpid()))
        busy, total = _busy_ticks()
        found = measure()
        used = procfs.cpu_used(procfs.tree(os.getpid())).ticks - ours.ticks
        busy, total = (after - before for after, before in zip(_busy_ticks(), (busy, total), strict=True))
        found["strangers"] = max(0.0, (busy - used) / max(1, total))
        if best is None or found["strangers"] < best["strangers"]:
            best = found
        if best["strangers"] <= QUIET_SHARE:
            break
        say(f"others used {found['strangers']:.0%} of the CPUs" + (", once more" if number + 1 < tries else ""))
    assert best is not None, "not a single try"
    return best
