"""Playing one raw case and keeping everything that client and upstreams saw.

Steps of `send`: a string, or a list of strings and maps: `{send, times, pieces, pause_ms}` writes `send` repeated
`times`, `pieces` bytes at a time with a pause after each; `{wait_ms}`, `{wait_for: text}` (from the proxy),
`{half_close: true}`, `{reset: true}`. Steps of `upstream` are the same, plus `{wait_bytes: N}` (more, from the proxy),
`{close: true}`, and first of all `{on: connect}`.
"""

from __future__ import annotations

import contextlib
import re
import ssl
import time
from dataclasses import dataclass, field
from random import Random
from typing import Any

from cases.grammar import Answer, Request, possible_requests, read_answers, read_requests
from cases.recorder import CANARY, Connection, Recorder, Steps
from stage.ports import Address
from stage.wire import Client, Reply, ask, request_bytes

QUIET_S = 0.15
"""An answered client that hears nothing more for this long takes the connection for kept open."""
PATIENCE_S = 3.2
"""How long a client waits for the first byte: longer than the time limits that the fixture sets (2 and 3 s)."""
LONG_S = 9.0
"""The same for a case marked `long`."""


_CANARY_REQUEST = request_bytes(CANARY, host="a.test")


@dataclass
class Entrance:
    """The listener a case comes in by, and how the canary request after it does."""

    address: Address
    canary: Address
    tls: ssl.SSLContext | None = None
    before_canary: bytes = b""
    plain_http: bool = True
    """What the client sends is HTTP from the first byte."""


@dataclass
class Observed:
    """What one case looked like from outside."""

    sent: bytes = b""
    http_sent: bytes | None = None
    """What of it is HTTP, when all of it can be known to be."""
    received: bytes = b""
    closed: bool = False
    closed_s: float | None = None
    first_byte_s: float | None = None
    listened: bool = True
    """The client has read to the end of what there was."""
    answers: list[Answer] = field(default_factory=list)
    requests: list[tuple[str, Request]] = field(default_factory=list)
    upstream_bytes: bytes = b""
    upstreams_closed: bool = True
    unfinished_open: list[str] = field(default_factory=list)
    """Targets of unfinished requests whose connection stayed open."""
    faults: list[str] = field(default_factory=list)
    possible: int = 0
    reused: bool = False
    canary: Reply = field(default_factory=Reply)
    canary_s: float = 0.0

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


def play(
    case: dict[str, Any], recorder: Recorder, entrance: Entrance, *, pieces: int = 0, seed: int | None = None
) -> Observed:
    """Run the case; `pieces` bytes at a time, or with a seed in pieces of any size, whatever the client sends."""
    seen = Observed()
    recorder.begin(as_steps(case.get("upstream", [])))
    cut = Random(seed) if seed is not None else None
    started = time.monotonic()
    with Client(entrance.address, tls=entrance.tls, server_name="a.test", timeout_s=40.0) as client:
        _send(client, as_steps(case["send"]), seen, pieces=pieces, cut=cut)
        _listen(client, seen, started, LONG_S if case.get("long") else PATIENCE_S)
    time.sleep(0.03)  # What the proxy does to its upstreams when the client has gone.
    seen.answers = read_answers(seen.received, methods_in(seen.sent))
    tunnelled = any(answer.status == 101 for answer in seen.answers)
    used = recorder.used()
    unfinished: list[tuple[Connection, str]] = []
    for connection in used:
        said = connection.of_case
        if tunnelled:  # What follows the head is opaque.
            said = said[: said.find(b"\r\n\r\n") + 4]
        reading = read_requests(said, upgrades=case.get("upgrades", False))
        seen.requests += [(connection.upstream, request) for request in reading.requests]
        seen.upstream_bytes += connection.of_case
        seen.faults += reading.faults
        seen.possible += max(possible_requests(said), len(reading.requests))
        unfinished += [(connection, request.target) for request in reading.requests if not request.complete]
    asked = time.monotonic()
    seen.canary = ask(entrance.canary, raw=entrance.before_canary + _CANARY_REQUEST, timeout_s=5.0)
    seen.canary_s = time.monotonic() - asked
    seen.reused = any(CANARY.encode() in connection.of_case for connection in used if connection.upstream == "u1")
    seen.upstreams_closed = all(connection.closed for connection in used)
    seen.unfinished_open = [target for connection, target in unfinished if not connection.closed]
    seen.listened = "reset" not in str(case["send"])
    seen.http_sent = seen.sent if entrance.plain_http else None
    return seen


def _whole(parts: list[bytes], seen: Observed) -> bool:
    """Has everything come that the client waits for?"""
    answers = read_answers(b"".join(parts), methods_in(seen.sent)) if parts else []
    return bool(answers) and answers[-1].complete and answers[-1].status >= 101


def methods_in(data: bytes) -> list[str]:
    """The methods of the requests in what a client sent."""
    return [method.decode() for method in re.findall(rb"(?m)^([A-Z]+) \S+ HTTP/1", data)]


def _send(client: Client, steps: Steps, seen: Observed, *, pieces: int, cut: Random | None) -> None:
    for step in steps:
        if "wait_ms" in step:
            time.sleep(step["wait_ms"] / 1000)
        if "wait_for" in step:
            client.wait_for(step["wait_for"].encode("latin-1"))
        data = step.get("send", "").encode("latin-1") * step.get("times", 1)
        seen.sent += data
        short = len(data) < 4096
        size = step.get("pieces") or (pieces if short else 0) or len(data) or 1
        starts = list(range(0, len(data), size))
        if cut is not None and short and len(data) > 1 and "pieces" not in step:
            starts = [0, *sorted(cut.sample(range(1, len(data)), min(len(data) - 1, cut.randrange(1, 9))))]
        with contextlib.suppress(ConnectionError):  # An early answer: the rest is not wanted.
            for start, end in zip(starts, [*starts[1:], len(data)], strict=bool(data)):
                client.send(data[start:end])
                if step.get("pause_ms"):
                    time.sleep(step["pause_ms"] / 1000)
                elif cut is not None:
                    time.sleep(0.0005)
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
                seen.closed_s = time.monotonic() - started
                break
            if not parts:
                seen.first_byte_s = time.monotonic() - started
            parts.append(data)
    except (TimeoutError, OSError):
        pass
    seen.received = b"".join(parts)
