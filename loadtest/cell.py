"""One cell of the matrix (scheme, body size, connections): interleaved rounds over all peers, medians and ranges."""

from __future__ import annotations

import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from loadtest import procfs, wrk
from loadtest.field import Peer
from loadtest.launch import LOAD_CPU, PROXY_CPU

QUIET_SHARE = 0.12


class Cell(NamedTuple):
    """What is asked of every peer."""

    scheme: str
    size_bytes: int
    connections: int

    def __str__(self) -> str:
        return f"{self.scheme} {self.size_bytes} B x {self.connections}"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one peer.

    `own_busy` is the share of the run that the peer's tree was on a CPU; `cpu_busy` and `load_busy` are how busy the
    proxy's CPU and the load's CPU were, whoever used them; `load_own` is the share of wrk and backend.
    """

    cpu_us_per_request: float
    own_busy: float
    cpu_busy: float
    load_busy: float
    load_own: float
    rps: float
    p50_us: float
    p99_us: float
    errors: int
    requests: int

    @property
    def disturbed(self) -> bool:
        """Somebody else used one of the CPUs: caches and wake-ups then cost the peer too, and requests come late."""
        return max(self.cpu_busy - self.own_busy, self.load_busy - self.load_own) > QUIET_SHARE


def run_once(peer: Peer, cell: Cell, *, seconds: float) -> Run:
    """Drive one peer once. ValueError when wrk got no answer at all."""
    url = f"{cell.scheme}://localhost:{peer.port(cell.scheme)}/{cell.size_bytes}"
    pids = procfs.tree(peer.running.pid)
    proxy_before, load_before = procfs.cpu_ticks(PROXY_CPU), procfs.cpu_ticks(LOAD_CPU)
    load_pids = [running.pid for running in peer.load]
    load_used = procfs.cpu_used(load_pids)
    wrk_s = _children_s()
    started, before = time.monotonic(), procfs.cpu_used(pids)
    report = wrk.run(url, cell.connections, seconds=seconds, cpu=LOAD_CPU)
    after = procfs.cpu_used(procfs.tree(peer.running.pid))
    elapsed = time.monotonic() - started
    load_s = _children_s() - wrk_s + procfs.cpu_between(load_used, procfs.cpu_used(load_pids))
    proxy_after, load_after = procfs.cpu_ticks(PROXY_CPU), procfs.cpu_ticks(LOAD_CPU)
    peer.truncate_log()
    if not report.requests:
        raise ValueError(f"{peer.name} answered nothing")
    used_s = procfs.cpu_between(before, after)
    return Run(
        cpu_us_per_request=used_s / report.requests * 1e6,
        own_busy=used_s / elapsed,
        cpu_busy=_share(proxy_before, proxy_after),
        load_busy=_share(load_before, load_after),
        load_own=load_s / elapsed,
        rps=report.rps,
        p50_us=report.p50_us,
        p99_us=report.p99_us,
        errors=report.errors,
        requests=report.requests,
    )


def _children_s() -> float:
    """CPU of the children that we have waited for: wrk."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def wait_quiet(limit_s: float) -> None:
    """Wait until both CPUs were left alone for a moment, but not for ever."""
    deadline = time.monotonic() + limit_s
    while True:
        before = [procfs.cpu_ticks(cpu) for cpu in (PROXY_CPU, LOAD_CPU)]
        time.sleep(0.3)
        after = [procfs.cpu_ticks(cpu) for cpu in (PROXY_CPU, LOAD_CPU)]
        if all(_share(*pair) <= QUIET_SHARE for pair in zip(before, after, strict=True)) or time.monotonic() > deadline:
            return


def _share(before: tuple[int, int], after: tuple[int, int]) -> float:
    return (after[0] - before[0]) / max(1, after[1] - before[1])


def interleaved(names: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """(round, name), every round beginning with another name so that nobody always follows the same neighbour."""
    for number in range(rounds):
        shift = number % len(names)
        for name in [*names[shift:], *names[:shift]]:
            yield number, name


def measure(
    peers: Sequence[Peer],
    cell: Cell,
    *,
    seconds: float,
    rounds: int,
    patience_s: float,
    say: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    """All rounds of one cell: peer → `summary()`. A peer that fails a run loses that run, and we say so."""
    by_name = {peer.name: peer for peer in peers}
    runs: dict[str, list[Run]] = {name: [] for name in by_name}
    for peer in peers:
        _attempt(peer, cell, seconds=1, say=say)
    for number, name in interleaved(list(by_name), rounds):
        wait_quiet(patience_s)
        run = _attempt(by_name[name], cell, seconds=seconds, say=say)
        if run is not None and run.disturbed and patience_s:
            say(f"{cell} round {number + 1} {name}: somebody else used a CPU, once more")
            wait_quiet(patience_s)
            run = _attempt(by_name[name], cell, seconds=seconds, say=say) or run
        if run is not None:
            runs[name].append(run)
            say(
                f"{cell} round {number + 1} {name}: {run.cpu_us_per_request:.1f} us, {run.rps:.0f}/s,"
                f" CPU 0 {run.cpu_busy:.0%}, CPU 1 {run.load_busy:.0%}, {run.errors} errors"
            )
    baseline = runs.get("nginx")
    return {
        name: summary(done, baseline=baseline, memory_kib=procfs.memory_kib(by_name[name].running.pid))
        for name, done in runs.items()
        if done
    }


def _attempt(peer: Peer, cell: Cell, *, seconds: float, say: Callable[[str], None]) -> Run | None:
    try:
        return run_once(peer, cell, seconds=seconds)
    except (ValueError, subprocess.TimeoutExpired) as exc:
        say(f"{cell} {peer.name}: no result: {exc}")
        return None


def undisturbed(runs: Sequence[Run]) -> Sequence[Run]:
    """The runs that nobody disturbed, or all when there is none."""
    return [run for run in runs if not run.disturbed] or runs


def summary(runs: Sequence[Run], *, baseline: Sequence[Run] | None, memory_kib: tuple[int, int]) -> dict[str, Any]:
    """Medians, the range of the CPU cost, and the ratio of medians to nginx of the same rounds.

    Disturbed runs only count when there is no other.
    """
    counted = undisturbed(runs)
    medians: dict[str, Any] = {
        key: statistics.median(getattr(run, key) for run in counted)
        for key in ("cpu_us_per_request", "own_busy", "cpu_busy", "load_busy", "rps", "p50_us", "p99_us")
    }
    costs = [run.cpu_us_per_request for run in counted]
    ratio = None
    if baseline:
        reference = statistics.median(run.cpu_us_per_request for run in undisturbed(baseline))
        ratio = medians["cpu_us_per_request"] / reference
    return {
        **medians,
        "cpu_us_min": min(costs),
        "cpu_us_max": max(costs),
        "ratio_to_nginx": ratio,
        "errors": sum(run.errors for run in runs),
        "disturbed": sum(run.disturbed for run in runs),
        "pss_kib": memory_kib[0],
        "rss_kib": memory_kib[1],
        "runs": [asdict(run) for run in runs],
    }
