"""What must hold after every raw case, whatever its outcome was.

I1 what left for upstreams is canonical (`grammar.read_requests`; its faults are in `Observed`).
I2 no more requests upstream than a strict reader, h11, sees in what the client sent.
I3 a connection that has seen a fault is not used again: nothing follows an answer that said it closes, and an upstream
   connection with an unfinished request is closed.
I4 every answer belongs to the request that caused it: upstreams echo the target in X-T.
I5 nothing of a refused request is complete upstream: as many whole requests there as answers from there.
I6 the next request is served at once, no traceback is logged, and file descriptors are back; tasks and memory, which
   only grow when something leaks, are looked at after all cases of a file.
I7 the outcome does not depend on how the network cuts what the client sends: each case is played whole and in pieces.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import h11
from cases.grammar import read_requests
from cases.raw_runner import PATIENCE_S, Observed
from cases.recorder import CANARY, Recorder, nonce
from stage.load import role
from stage.running import Ingressd
from stage.wire import ask

WORKER_CPU_S = 2.0
"""No case keeps a worker busy; CPU time, because the clock also tells what else the machine does."""
BACK_S = PATIENCE_S
TRIES = 3
"""A request to an upstream that fails may be seen so many times, each time on another connection."""
GROWTH_KIB = 16 * 1024
OWN_TASKS = 5
"""Those that a worker has when nothing happens."""


def requests_sent(data: bytes) -> int:
    """How many requests a strict reader finds in a client's bytes, unfinished bodies included."""
    count, rest = 0, data
    while rest is not None:
        found, rest = _first_request(rest)
        count += found
    reading = read_requests(data)
    return max(count, 0 if reading.faults else len(reading.requests))


def _first_request(data: bytes) -> tuple[int, bytes | None]:
    """Whether h11 finds a request, and what follows it; None when nothing after it is a request any more."""
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 21)
    # h11 takes no empty line before a request, and RFC 9112 section 2.2 asks servers to.
    server.receive_data(data.lstrip(b"\r\n"))
    found, old_style = 0, False
    try:
        while (event := server.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Request):
                found = 1
                options = b",".join(value for name, value in event.headers if name == b"connection").lower()
                # It knows no HTTP/1.0 that goes on (RFC 9112, 9.3); others do.
                old_style = event.http_version == b"1.0" and b"keep-alive" in options and b"close" not in options
            elif isinstance(event, h11.EndOfMessage):
                goes_on = old_style or server.their_state in (h11.DONE, h11.MIGHT_SWITCH_PROTOCOL)
                return 1, server.trailing_data[0] if goes_on else None
            elif isinstance(event, h11.ConnectionClosed):
                break
    except h11.RemoteProtocolError:
        pass
    return found, None


def broken(seen: Observed, *, scripted: bool, upgrades: bool) -> Iterator[str]:
    """The invariants that the bytes of one case break."""
    for fault in seen.faults[:3]:
        yield f"I1: egress is not canonical: {fault}"
    if seen.http_sent is not None and not upgrades:
        sent = requests_sent(seen.http_sent) * (TRIES if scripted else 1)
        if len(seen.requests) > sent:
            yield f"I2: {len(seen.requests)} requests upstream, {sent} sent"
    yield from _used_again(seen)
    if seen.http_sent is not None and not scripted and not upgrades:
        yield from _misdirected(seen)
    if seen.canary.status != 200 or seen.canary.one("x-t") != CANARY:
        yield f"I6: the next request got {seen.canary.status} {seen.canary.detail}"
    if seen.worker_cpu_s > WORKER_CPU_S:
        yield f"I6: the case took {seen.worker_cpu_s:.2f} s of CPU time"


def _used_again(seen: Observed) -> Iterator[str]:
    closing = [
        index for index, answer in enumerate(seen.final) if "close" in ",".join(answer.all("connection")).lower()
    ]
    if closing and closing[0] != len(seen.final) - 1:
        yield f"I3: answers {[answer.status for answer in seen.final]} go on after one that closes"
    if seen.unfinished_open:
        yield f"I3: a connection with half a request is open upstream: {seen.unfinished_open}"
    for answer in seen.answers:
        if len(answer.all("content-length")) + len(answer.all("transfer-encoding")) > 1:
            yield f"I3: an answer framed twice: {answer.fields}"


def _misdirected(seen: Observed) -> Iterator[str]:
    echoed = [answer.all("x-t")[0] for answer in seen.final if answer.all("x-t")]
    left = sorted(nonce(request.target) for _, request in seen.requests)
    for target in echoed:
        if target not in left:
            yield f"I4: an answer to {target!r}, and upstreams saw {left}"
        else:
            left.remove(target)
    whole = sum(request.complete for _, request in seen.requests)
    if whole > len(echoed) and seen.listened:
        yield f"I5: {whole} whole requests upstream, {len(echoed)} answers from there"


class Baseline:
    """What the processes held before the first case."""

    def __init__(self, ingressd: Ingressd, recorder: Recorder) -> None:
        self._ingressd, self._recorder = ingressd, recorder
        (self.worker,) = [pid for pid in ingressd.children() if role(pid) == "worker 0"]
        self._files = self._open_files()
        self._memory_kib = ingressd.memory_kib()
        # The worker's own tasks run for as long as it does; its first count may be older than they are.
        ingressd.wait_until(lambda: self._number("ingressd_tasks") >= OWN_TASKS)
        self._tasks = self._number("ingressd_tasks")

    def _open_files(self) -> int:
        """Of the worker, without its connections to upstreams: those that are pooled may stay."""
        ports = {f"{port:04X}" for _, port in self._recorder.addresses.values()}
        lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        pooled = {f"socket:[{fields[9]}]" for fields in lines if fields[2].rpartition(":")[2] in ports}
        files = 0
        for file in Path(f"/proc/{self.worker}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                files += os.readlink(file) not in pooled
        return files

    def _number(self, metric: str) -> int:
        text = ask(self._ingressd.admin, "/metrics").text
        found = re.search(rf"(?m)^{metric} ([0-9.]+)$", text)
        assert found, text
        return int(float(found[1]))

    def files_broken(self) -> Iterator[str]:
        """After each case."""
        until = time.monotonic() + BACK_S
        while (files := self._open_files()) > self._files and time.monotonic() < until:
            time.sleep(0.005)
        if files > self._files:
            yield f"I6: {files} file descriptors, {self._files} before the first case"

    def rest_broken(self) -> Iterator[str]:
        """After all cases."""
        if role(self.worker) != "worker 0":
            yield "I6: the worker was replaced"
        until = time.monotonic() + BACK_S  # Workers report once a second.
        while (tasks := self._number("ingressd_tasks")) > self._tasks and time.monotonic() < until:
            time.sleep(0.1)
        if tasks > self._tasks:
            yield f"I6: {tasks} tasks, {self._tasks} before the first case"
        grown = self._ingressd.memory_kib() - self._memory_kib
        if grown > GROWTH_KIB:
            yield f"I6: memory grew by {grown} KiB"
        if "Traceback (most recent call last)" in self._ingressd.output():
            yield f"I6: a traceback in the log:\n{self._ingressd.output()}"
