"""Playing one raw case and keeping everything that client and upstreams saw.

Steps of `send`: a string, or a list of strings and maps: `{send, times, pieces, pause_ms}` writes `send` repeated
`times`, `pieces` bytes at a time with a pause after each; `{wait_ms}`, `{wait_for: text}` (from the proxy),
`{half_close: true}`, `{reset: true}`. Steps of `upstream` are the same, plus `{wait_bytes: N}` (more, from the proxy),
`{wait_heard: text}` (by the client), `{close: true}`, and first of all `{on: connect}`.

No outcome depends on how fast anybody was. The client listens until an accepted outcome is there, for `PATIENCE_S` at
most, which is shorter than every limit of the proxy but those that the case is about (`limits`). That no more comes is
known by order: the worker has one loop, so what it had to say was said when it has answered others who came later.
"""

from __future__ import annotations

import contextlib
import re
import select
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from cases.grammar import Answer, Request, possible_requests, read_answers, read_requests
from cases.recorder import CANARY, Connection, Recorder, Steps
from stage.load import cpu_s
from stage.ports import Address
from stage.wire import Client, Reply, ask, request_bytes

QUIET_S = 0.15
"""What a scripted upstream says in pauses of its own comes within this time after a whole answer."""
PATIENCE_S = 30.0
"""How long is waited for what has to come."""
UNJUDGED_S = 9.0
"""The same when nobody says what that is: longer than the limits of other proxies (2 and 3 s) and than three tries."""
LATER_CLIENTS = 2
"""How many clients, one after the other, are answered before the worker has no more to say to an earlier one."""

Settled = Callable[["Observed"], bool]
"""Whether what was seen so far is an outcome that the case accepts."""
_CANARY_REQUEST = request_bytes(CANARY, host="a.test")
_LATER_REQUEST = request_bytes("/", host="nobody.test")


@dataclass
class Entrance:
    """The listener a case comes in by, and how the canary request after it does."""

    address: Address
    canary: Address
    tls: ssl.SSLContext | None = None
    before_canary: bytes = b""
    plain_http: bool = True
    """What the client sends is HTTP from the first byte."""
    worker: int = 0
    """The process id of the one worker; 0 for another proxy than ours, of which no order is known."""
    quiet_s: float = QUIET_S
    """How long such a proxy must have been silent to have no more to say."""

    def others_are_answered(self) -> None:
        """Return when clients that came later than everything before were answered."""
        if not self.worker:
            time.sleep(self.quiet_s)
            return
        for _ in range(LATER_CLIENTS):
            reply = ask(self.canary, raw=self.before_canary + _LATER_REQUEST, timeout_s=PATIENCE_S)
            assert reply.status == 404, f"another client got {reply.status} {reply.detail}"


@dataclass
class Observed:
    """What one case looked like from outside."""

    sent: bytes = b""
    http_sent: bytes | None = None
    """What of it is HTTP, when all of it can be known to be."""
    received: bytes = b""
    closed: bool = False
    cut_short: bool = False
    """The proxy ended the connection before the client had sent all it wanted to."""
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
    worker_cpu_s: float = 0.0
    """What the case cost the worker, the next request included."""

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
    case: dict[str, Any],
    recorder: Recorder,
    entrance: Entrance,
    settled: Settled | None = None,
    *,
    pieces: int = 0,
    seed: int | None = None,
) -> Observed:
    """Run the case; `pieces` bytes at a time, or with a seed in pieces of any size, whatever the client sends."""
    patience_s, settled = (PATIENCE_S, settled) if settled else (UNJUDGED_S, _any)
    seen = Observed(listened="reset" not in str(case["send"]), http_sent=b"" if entrance.plain_http else None)
    script = as_steps(case.get("upstream", []))
    recorder.begin(script)
    cut = Random(seed) if seed is not None else None
    spent_s = cpu_s(entrance.worker) if entrance.worker else 0.0
    with Client(entrance.address, tls=entrance.tls, server_name="a.test", timeout_s=90.0) as client:
        _send(client, as_steps(case["send"]), seen, pieces=pieces, cut=cut)
        _listen(client, seen, case, recorder, entrance, settled, patience_s)
    entrance.others_are_answered()  # What the proxy does to its upstreams when the client has gone.
    until = time.monotonic() + patience_s
    while True:
        used = _look_upstream(seen, recorder, case)
        if (settled(seen) and not seen.unfinished_open) or time.monotonic() > until:
            break
        time.sleep(0.01)
    seen.canary = ask(entrance.canary, raw=entrance.before_canary + _CANARY_REQUEST, timeout_s=PATIENCE_S)
    seen.reused = any(CANARY.encode() in connection.of_case for connection in used if connection.upstream == "u1")
    seen.worker_cpu_s = cpu_s(entrance.worker) - spent_s if entrance.worker else 0.0
    return seen


def _any(seen: Observed) -> bool:
    return True


def _look_upstream(seen: Observed, recorder: Recorder, case: dict[str, Any]) -> list[Connection]:
    """Take note of what upstreams have seen so far; the connections that brought it."""
    tunnelled = any(answer.status == 101 for answer in seen.answers)
    used = recorder.used()
    unfinished: list[tuple[Connection, str]] = []
    seen.requests, seen.upstream_bytes, seen.faults, seen.possible = [], b"", [], 0
    # Before their bytes: a connection that is closed has said all.
    closed = {id(connection) for connection in used if connection.closed}
    for connection in used:
        said = of_case = connection.of_case
        if tunnelled:  # What follows the head is opaque.
            said = said[: said.find(b"\r\n\r\n") + 4]
        reading = read_requests(said, upgrades=case.get("upgrades", False))
        seen.requests += [(connection.upstream, request) for request in reading.requests]
        seen.upstream_bytes += of_case
        seen.faults += reading.faults
        seen.possible += max(possible_requests(said), len(reading.requests))
        unfinished += [(connection, request.target) for request in reading.requests if not request.complete]
    seen.upstreams_closed = all(id(connection) in closed for connection in used)
    seen.unfinished_open = [target for connection, target in unfinished if id(connection) not in closed]
    return used


def _whole(parts: list[bytes], seen: Observed) -> bool:
    """Has everything come that the client waits for?"""
    answers = read_answers(b"".join(parts), methods_in(seen.sent)) if parts else []
    return bool(answers) and answers[-1].complete and not answers[-1].until_close and answers[-1].status >= 101


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
        try:
            for start, end in zip(starts, [*starts[1:], len(data)], strict=bool(data)):
                client.send(data[start:end])
                if step.get("pause_ms"):
                    time.sleep(step["pause_ms"] / 1000)
                elif cut is not None:
                    time.sleep(0.0005)
            if step.get("half_close"):
                client.half_close()
        except ConnectionError:  # An early answer: the rest is not wanted.
            seen.cut_short = True
        if step.get("reset"):
            client.reset()
    if seen.http_sent is not None:
        seen.http_sent = seen.sent


def _listen(
    client: Client,
    seen: Observed,
    case: dict[str, Any],
    recorder: Recorder,
    entrance: Entrance,
    settled: Settled,
    patience_s: float,
) -> None:
    """Read until the proxy closes, or has nothing more to say and what it said is accepted."""
    parts: list[bytes] = []
    until = time.monotonic() + patience_s
    with contextlib.suppress(TimeoutError, OSError):
        while not seen.closed and time.monotonic() < until:
            if _whole(parts, seen) and not _more_comes(client, "upstream" in case, entrance):
                seen.received = b"".join(parts)
                seen.answers = read_answers(seen.received, methods_in(seen.sent))
                _look_upstream(seen, recorder, case)
                if settled(seen):
                    break
            client.give_up_in(0.05 if _whole(parts, seen) else until - time.monotonic())
            try:
                data = client.receive()
            except TimeoutError:
                continue
            seen.closed = not data
            parts.append(data)
            recorder.heard = b"".join(parts)
    seen.received = b"".join(parts)
    seen.answers = read_answers(seen.received, methods_in(seen.sent))


def _more_comes(client: Client, scripted: bool, entrance: Entrance) -> bool:
    """Whether more than a whole answer is there when all that was to come at once has come."""
    if scripted:
        return bool(select.select([client.sock], [], [], QUIET_S)[0])
    entrance.others_are_answered()
    return bool(select.select([client.sock], [], [], 0)[0])
