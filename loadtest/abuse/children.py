"""Where the processes beside ingressd run, and how many files they may open."""

from __future__ import annotations

import contextlib
import os
import resource

from loadtest.launch import LOAD_CPU

FILES = 20_000
ABUSE_NICE = 10
"""Of those that abuse and their endpoint: the canary must not wait for them on its own CPU."""


def allow_files() -> None:
    """Raise the limit of open files as far as it goes; for us and whom we start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def on_load_cpu(*, nice: int = 0) -> None:
    """In a child: keep off the CPU of the proxy, and let others go first."""
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {LOAD_CPU})
    allow_files()
    os.nice(nice)
