"""Any bytes through codec, routing and serialiser: a data plane whose transports are played, and the invariants of the
raw cases as oracle (`cases/invariants.py`).

- Everything that is written to an upstream parses under the one strict grammar, and no careless reading of it finds
  more requests than there are.
- No more requests reach upstreams than h11 finds in what the client sent.
- As many whole requests upstream as answers from there, each to its own request; nothing after an answer that closes.
- A request for a guarded prefix stays within it however the path is decoded.
- How the bytes are cut changes neither the requests nor their answers.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

import uvloop
from cases.grammar import Answer, Request, possible_requests, read_answers, read_requests
from cases.invariants import requests_sent
from cases.raw_judge import within
from stage.played import PlayedUpstream, Stage, make_stage

from ingressd.model.problem import Origin
from ingressd.model.units import Endpoint, Endpoints, ProcessPolicy, Route, RoutePolicy, Upstream, VirtualHost
from ingressd.proxy.upstream.pool import DISTRUST_S

POOLED = 6
"""More connections than requests of one input, or we would connect to something real."""
ROUTES = (("a.example", "/public", "pub"), ("a.example", "/", "u1"), ("b.example", "/", "u2"))
UPSTREAMS = ("pub", "u1", "u2", "u")
"""The last takes every other host."""


def _units() -> list[VirtualHost | Upstream | Endpoints]:
    origin = Origin("Config", "", "routes")
    made: list[VirtualHost | Upstream | Endpoints] = [
        VirtualHost(
            host,
            tuple(
                Route(origin=origin, path_type="Prefix", path=path, upstream=f"/{upstream}")
                for name, path, upstream in ROUTES
                if name == host
            ),
        )
        for host in ("a.example", "b.example")
    ]
    for number, (_, _, upstream) in enumerate(ROUTES):
        made += [Upstream(f"/{upstream}", origin), Endpoints(f"/{upstream}", (Endpoint("127.0.0.1", 9 + number),))]
    return made


@dataclass
class Spoken:
    """One upstream connection: what came over it, and how many of its requests were answered."""

    upstream: str
    connection: PlayedUpstream
    received: bytes = b""
    answered: int = 0


@dataclass
class Seen:
    """What came of one client's bytes."""

    requests: list[tuple[str, Request]] = field(default_factory=list)
    """In the order in which they were answered; the unfinished ones behind."""
    answers: list[Answer] = field(default_factory=list)
    streams: list[bytes] = field(default_factory=list)
    """What came over each upstream connection that was used."""
    faults: list[str] = field(default_factory=list)
    possible: int = 0
    ended: bool = False

    def whole(self) -> list[tuple[str, str, str, list[str], bytes]]:
        """The whole requests, as far as they must not depend on how bytes were cut."""
        return [(name, r.method, r.target, r.all("host"), r.body) for name, r in self.requests if r.complete]


class ExchangeChecker:
    """One data plane for a whole run, as a process would have it."""

    def __init__(self, *, seed: int = 0, slow_oracle_every: int = 1) -> None:
        self.random = random.Random(seed)
        self.slow_oracle_every = slow_oracle_every
        self.accepted = self.refused = 0
        self._loop = uvloop.new_event_loop()
        self._stage: Stage = self._loop.run_until_complete(self._make_stage())
        self._since_turn = 0

    async def _make_stage(self) -> Stage:
        process = ProcessPolicy(
            request_line_bytes=2000,
            field_line_bytes=2000,
            head_bytes=6000,
            max_header_fields=30,
            keep_alive_requests=20,
        )
        return await make_stage(process=process, policy=RoutePolicy(ssl_redirect=False), more=_units())

    def close(self) -> None:
        """Let go of the data plane."""
        self._stage.dataplane.close()
        self._loop.close()

    def _turn(self) -> None:
        """What the loop was asked to do is done now and then: or it would be held for ever, and a turn so long would
        look like overload."""
        self._since_turn += 1
        if self._since_turn >= 50:
            self._since_turn = 0
            self._loop.call_soon(self._loop.stop)
            self._loop.run_forever()

    # ------------------------------------------------------------------------------------------------ requests
    def exchange(self, data: bytes) -> None:
        """A client sends `data`; upstreams answer every request with its target."""
        whole = self.play([data])
        self._judge(data, whole)
        cut = self.play(self._pieces(data))
        self._judge(data, cut)
        assert cut.whole() == whole.whole()
        assert [a.all("x-t") for a in cut.answers if a.all("x-t")] == [
            a.all("x-t") for a in whole.answers if a.all("x-t")
        ]
        self.accepted += len(whole.whole())
        self.refused += any(answer.status >= 400 for answer in whole.answers)

    def _pieces(self, data: bytes) -> list[bytes]:
        if self.random.random() < 0.2:
            return [data[i : i + 1] for i in range(len(data))]
        cuts = sorted(self.random.randrange(len(data) + 1) for _ in range(self.random.randrange(4)))
        return [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)], strict=True) if i < j]

    def play(self, pieces: Iterable[bytes]) -> Seen:
        """A client sends these pieces and goes away; upstreams answer every request with its target."""
        self._turn()
        stage = self._stage
        spoken = [Spoken(name, stage.pooled(f"/{name}")) for name in UPSTREAMS for _ in range(POOLED)]
        client = stage.client()
        seen = Seen()
        for piece in pieces:
            if client.transport.ended:
                break
            client.data_received(piece)
            self._serve(spoken, seen)
        seen.ended = bool(client.transport.ended)
        client.connection_lost(None)
        stage.worker.outbox.flush()
        seen.answers = [a for a in read_answers(client.transport.written, []) if a.status >= 200 or a.status == 101]
        for one in spoken:
            one.received += one.connection.transport.take()
            reading = read_requests(one.received, upgrades=True)
            seen.faults += reading.faults
            seen.streams += [one.received] if one.received else []
            seen.possible += possible_requests(one.received)
            seen.requests += [(one.upstream, request) for request in reading.requests[one.answered :]]
        for name in UPSTREAMS:
            endpoint = stage.endpoint_of(f"/{name}")
            endpoint.pool.drop_idle()
            assert stage.worker.column[endpoint.base] == 0, "an exchange is still counted"
        assert not stage.worker.clients
        return seen

    def _serve(self, spoken: list[Spoken], seen: Seen) -> None:
        busy = True
        while busy:
            self._stage.worker.outbox.flush()
            busy = False
            for one in spoken:
                said = one.connection.transport.take()
                if not said:
                    continue
                one.received += said
                requests = read_requests(one.received, upgrades=True).requests
                for request in requests[one.answered :]:
                    if request.complete and not one.connection.transport.ended:
                        busy = True
                        one.answered += 1
                        seen.requests.append((one.upstream, request))
                        head = f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-T: {request.target}\r\n\r\n"
                        one.connection.data_received(
                            head.encode("latin-1") + (b"" if request.method == "HEAD" else b"ok")
                        )

    def _judge(self, data: bytes, seen: Seen) -> None:
        assert not seen.faults, seen.faults
        assert seen.possible <= len(seen.requests), "a careless reader finds more"
        for upstream, request in seen.requests:
            assert upstream != "pub" or within(request.target, "/public"), request.target
        if any(request.method == "HEAD" for _, request in seen.requests):
            return  # Whoever reads the answers would have to know which.
        echoed = [answer.all("x-t")[0] for answer in seen.answers if answer.all("x-t")]
        assert echoed == [request.target for _, request in seen.requests if request.complete]
        for number, answer in enumerate(seen.answers):
            assert answer.status >= 200, answer
            assert answer.complete, answer
            if "close" in ",".join(answer.all("connection")).lower():
                assert number == len(seen.answers) - 1, "answers after one that closes"
                assert seen.ended
            assert answer.all("x-t") or answer.status in (200, 404) or number == len(seen.answers) - 1
        if self.random.randrange(self.slow_oracle_every) == 0:
            assert len(seen.requests) <= requests_sent(data), "more requests upstream than were sent"

    # ------------------------------------------------------------------------------------------------ answers
    def answer(self, data: bytes) -> None:
        """An upstream answers a request with `data`, in pieces. A connection is kept after exactly one answer."""
        answers, kept = self._reply(self._pieces(data))
        final = [one for one in answers if one.status >= 200 or one.status == 101]
        if kept:
            assert final[0].complete
            shorter, kept_short = self._reply([data[:-1]])
            assert not (kept_short and shorter == answers), "kept with a byte of the answer still to come"
            assert not self._reply([data + b"X"])[1], "kept with a byte too many"
        self.accepted += bool(final and final[0].status != 502)
        self.refused += bool(final and final[0].status == 502)

    def _reply(self, pieces: list[bytes]) -> tuple[list[Answer], bool]:
        """What the client gets, and whether the connection would have been used again when all had come."""
        self._turn()
        stage = self._stage
        second, first = stage.pooled("/u2"), stage.pooled("/u2")
        client = stage.client()
        client.data_received(b"GET /1 HTTP/1.1\r\nHost: b.example\r\n\r\n")
        stage.worker.outbox.flush()
        assert b"GET /1 " in first.transport.take()
        for piece in pieces:
            if not first.transport.ended:
                first.data_received(piece)
        kept = first.reusable and not first.transport.ended
        if not first.transport.ended:
            first.eof_received()
        first.connection_lost(None)
        stage.worker.outbox.flush()
        answers = read_answers(client.transport.written, [])
        final = [one for one in answers if one.status >= 200 or one.status == 101]
        retried = b"GET /1 " in second.transport.take()
        assert len(final) == (not retried), answers
        assert all(one.status >= 100 for one in answers), answers
        for one in answers:
            assert len(one.all("content-length")) + len(one.all("transfer-encoding")) <= 1, one
        if final and not final[0].complete:
            assert client.transport.ended, "a truncated answer is cut off"
        client.connection_lost(None)
        stage.worker.outbox.flush()
        pool = stage.endpoint_of("/u2").pool
        pool.drop_idle()
        pool.release(stage.pooled("/u2"), stage.now[0])  # What was said of the endpoint is heard now,
        stage.now[0] += DISTRUST_S + 1  # and forgotten by then.
        return answers, kept
