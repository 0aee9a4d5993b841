"""Playing one raw case and keeping everything that client and upstreams saw.

Steps of `send`: a string, or a list of strings and maps: `{send, times, pieces, pause_ms}` writes `send` repeated
`times`, `pieces` bytes at a time with a pause after each; `{wait_ms}`, `{wait_for: text}` (from the proxy),
`{half_close: true}`, `{reset: true}`. Steps of `upstream` are the same, plus `{wait_bytes: N}` (more, from the proxy),
`{close: true}`, and first of all `{on: connect}`.
"""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass, field
from typing import Any

from cases.grammar import Answer, Request, possible_requests, read_answers, read_requests
from cases.recorder import CANARY, Recorder, Steps
from stage.ports import Address
from stage.wire import Client, Reply, ask

QUIET_S = 0.3
"""An answered client that hears nothing more for this long takes the connection for kept open."""
PATIENCE_S = 3.2
"""How long a client waits for the first byte: longer than the time limits that the fixture sets (2 and 3 s)."""
LONG_S = 9.0
"""The same for a case marked `long`."""


@dataclass
class Observed:
    """What one case looked like from outside."""

    sent: bytes = b""
    received: bytes = b""
    closed: bool = False
    first_byte_s: float | None = None
    answers: list[Answer] = field(default_factory=list)
    requests: list[tuple[str, Request]] = field(default_factory=list)
    upstream_bytes: bytes = b""
    upstreams_closed: bool = True
    faults: list[str] = field(default_factory=list)
    possible: int = 0
    reused: bool = False
    canary: Reply = field(default_factory=Reply)

    @property
    def final(self) -> list[Answer]:
        """The answers that are no 1xx, but for 101."""
        return [a for a in self.answers if not 100 <= a.status < 200 or a.status == 101]


def as_steps(written: str | list[Any]) -> Steps:
    """The steps of `send` or `upstream` as maps."""
    return [
        {"send": step} if isinstance(step, str) else step
        for step in ([written] if isinstance(written, str) else written)
    ]


def play(case: dict[str, Any], recorder: Recorder, proxy: Address, *, pieces: int = 0) -> Observed:
    """Run the case; with `pieces`, whatever is sent leaves so many bytes at a time."""
    seen = Observed()
    recorder.begin(as_steps(case.get("upstream", [])))
    started = time.monotonic()
    with Client(proxy, timeout_s=40.0) as client:
        _send(client, as_steps(case["send"]), seen, pieces)
        _listen(client, seen, started, LONG_S if case.get("long") else PATIENCE_S)
    time.sleep(0.03)  # What the proxy does to its upstreams when the client has gone.
    used = recorder.used()
    for connection in used:
        reading = read_requests(connection.of_case, upgrades=case.get("upgrades", False))
        seen.requests += [(connection.upstream, request) for request in reading.requests]
        seen.upstream_bytes += connection.of_case
        seen.faults += reading.faults
        seen.possible += max(possible_requests(connection.of_case), len(reading.requests))
    seen.canary = ask(proxy, CANARY, host="a.test", timeout_s=5.0)
    seen.reused = any(CANARY.encode() in connection.of_case for connection in used if connection.upstream == "u1")
    seen.upstreams_closed = all(connection.closed for connection in used)
    seen.answers = read_answers(seen.received, methods_in(seen.sent))
    return seen


def _whole(parts: list[bytes], seen: Observed) -> bool:
    """Has everything come that the client waits for?"""
    answers = read_answers(b"".join(parts), methods_in(seen.sent)) if parts else []
    return bool(answers) and answers[-1].complete and answers[-1].status >= 101


def methods_in(data: bytes) -> list[str]:
    """The methods of the requests in what a client sent."""
    return [method.decode() for method in re.findall(rb"(?m)^([A-Z]+) \S+ HTTP/1", data)]


def _send(client: Client, steps: Steps, seen: Observed, pieces: int) -> None:
    for step in steps:
        if "wait_ms" in step:
            time.sleep(step["wait_ms"] / 1000)
        if "wait_for" in step:
            client.wait_for(step["wait_for"].encode("latin-1"))
        data = step.get("send", "").encode("latin-1") * step.get("times", 1)
        seen.sent += data
        size = step.get("pieces") or (pieces if len(data) < 4096 else 0) or len(data) or 1
        with contextlib.suppress(ConnectionError):  # An early answer: the rest is not wanted.
            for start in range(0, len(data), size):
                client.send(data[start : start + size])
                if step.get("pause_ms"):
                    time.sleep(step["pause_ms"] / 1000)
            if step.get("half_close"):
                client.half_close()
        if step.get("reset"):
            client.reset()


def _listen(client: Client, seen: Observed, started: float, patience_s: float) -> None:
    """Read until the proxy closes or has nothing more to say."""
    parts: list[bytes] = []
    try:
        while True:
            client.give_up_in(QUIET_S if _whole(parts, seen) else patience_s)
            data = client.receive()
            if not data:
                seen.closed = True
                break
            if not parts:
                seen.first_byte_s = time.monotonic() - started
            parts.append(data)
    except (TimeoutError, OSError):
        pass
    seen.received = b"".join(parts)
