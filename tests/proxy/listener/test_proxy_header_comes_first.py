"""A listener with the PROXY protocol: nothing is read before the header, and not everyone is believed."""

from __future__ import annotations

from typing import Any

import pytest
from stage.played import PlayedTransport, Stage, play

from ingressd.model.units import ProcessPolicy
from ingressd.proxy.http.client import ClientConnection
from ingressd.proxy.listener.preface import ProxyPreface

HEADER = b"PROXY TCP4 9.9.9.9 8.8.8.8 1111 1234\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([9, 9, 9, 9, 8, 8, 8, 8, 4, 87, 4, 210])
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
OWN = b"PROXY TCP4 192.0.2.7 8.8.8.8 1111 443\r\n"
REQUEST = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
FAR = ProcessPolicy(proxy_protocol=True, trusted_proxies=("10.0.0.0/8",))


class Switching(PlayedTransport):
    """Takes another protocol, as uvloop's transports do."""

    protocol: Any = None

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return bool(self.ended)


class Arrival:
    """A connection as the acceptor would make it, from 192.0.2.7."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.transport = Switching()
        self.preface = ProxyPreface(stage.worker, self._make)
        self.transport.protocol = self.preface
        self.preface.connection_made(self.transport)

    def _make(self, peer: tuple[str, int] | None, port: bytes | None) -> ClientConnection:
        return ClientConnection(self.stage.worker, listener="http", port=port or b"80", tls=False, peer=peer)

    def send(self, data: bytes, *, step: int = 0) -> None:
        for start in range(0, len(data), step or len(data)):
            piece = data[start : start + (step or len(data))]
            if self.transport.ended:
                return
            self.transport.protocol.get_buffer(len(piece))[: len(piece)] = piece
            self.transport.protocol.buffer_updated(len(piece))

    @property
    def client(self) -> ClientConnection:
        found = self.transport.protocol
        assert isinstance(found, ClientConnection)
        return found

    @property
    def refused(self) -> bool:
        return self.transport.ended == "aborted" and self.transport.written == b""


def forwarded(stage: Stage, arrival: Arrival, upstream: Any) -> dict[bytes, bytes]:
    lines = stage.sent(upstream).split(b"\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}


@pytest.mark.parametrize("header", [HEADER, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("step", [0, 1, 3, 7])
def test_the_header_names_the_client(header: bytes, step: int) -> None:
    def scene(stage: Stage) -> None:
        upstream = stage.pooled()
        arrival = Arrival(stage)
        arrival.send(header + REQUEST, step=step)
        fields = forwarded(stage, arrival, upstream)
        assert fields[b"x-forwarded-for"] == fields[b"x-real-ip"] == b"9.9.9.9"
        assert fields[b"x-forwarded-port"] == b"1234"
        assert fields[b"x-forwarded-proto"] == b"http"
        assert (arrival.client.peer_ip, arrival.client.peer_port) == ("9.9.9.9", 1111)

    play(scene, process=ProcessPolicy(proxy_protocol=True))


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", LOCAL])
def test_a_header_without_addresses_leaves_those_of_the_connection(header: bytes) -> None:
    def scene(stage: Stage) -> None:
        upstream = stage.pooled()
        arrival = Arrival(stage)
        arrival.send(header + REQUEST)
        fields = forwarded(stage, arrival, upstream)
        assert fields[b"x-forwarded-for"] == b"192.0.2.7"
        assert fields[b"x-forwarded-port"] == b"80"

    play(scene, process=ProcessPolicy(proxy_protocol=True))


@pytest.mark.parametrize(
    "data",
    [REQUEST, b"PROXY\r\n" + REQUEST, HEADER[:-2] + b"\n" + REQUEST, b"PROXY " + b"9" * 200, b"\x16\x03\x01", b"\0"],
)
def test_without_a_good_header_the_connection_ends_without_a_word(data: bytes) -> None:
    def scene(stage: Stage) -> None:
        arrival = Arrival(stage)
        arrival.send(data)
        assert arrival.refused
        assert stage.worker.counters.proxy_headers_refused == 1
        assert not stage.worker.clients

    play(scene, process=ProcessPolicy(proxy_protocol=True))


@pytest.mark.parametrize("header", [HEADER, V2, b"PROXY UNKNOWN\r\n", LOCAL])
def test_a_sender_that_is_not_trusted_speaks_for_nobody(header: bytes) -> None:
    def scene(stage: Stage) -> None:
        arrival = Arrival(stage)
        arrival.send(header + REQUEST)
        assert arrival.refused

    play(scene, process=FAR)


def test_a_sender_that_is_not_trusted_may_name_itself() -> None:
    """Nothing is claimed that the kernel does not say; what else stands in the header does not count."""

    def scene(stage: Stage) -> None:
        upstream = stage.pooled()
        arrival = Arrival(stage)
        arrival.send(OWN + REQUEST)
        fields = forwarded(stage, arrival, upstream)
        assert fields[b"x-forwarded-for"] == b"192.0.2.7"
        assert fields[b"x-forwarded-port"] == b"80"
        assert fields[b"x-forwarded-proto"] == b"http"
        assert arrival.client.peer_port == 40000

    play(scene, process=FAR)


def test_trust_in_nobody_closes_everybody_else() -> None:
    """What a malformed `proxy-real-ip-cidr` comes to."""

    def scene(stage: Stage) -> None:
        arrival = Arrival(stage)
        arrival.send(HEADER + REQUEST)
        assert arrival.refused

    play(scene, process=ProcessPolicy(proxy_protocol=True, trusted_proxies=()))


@pytest.mark.parametrize(
    ("own_s", "head_s", "ended"),
    [(2.0, 60.0, ""), (5.0, 2.0, "closed")],  # In order: the head that was to follow is late, too.
    ids=["own time", "that of heads is less"],
)
def test_a_header_that_does_not_come_in_time_ends_the_connection(own_s: float, head_s: float, ended: str) -> None:
    def scene(stage: Stage) -> None:
        late, early = Arrival(stage), Arrival(stage)
        late.send(HEADER[:-1])
        early.send(HEADER)
        stage.now[0] += 2.1
        stage.worker.wheel.advance(stage.now[0])
        assert late.refused
        assert early.transport.ended == ended

    process = ProcessPolicy(proxy_protocol=True, proxy_protocol_timeout_s=own_s, client_header_timeout_s=head_s)
    play(scene, process=process)


def test_a_health_check_that_says_nothing_is_no_failure() -> None:
    def scene(stage: Stage) -> None:
        silent, cut = Arrival(stage), Arrival(stage)
        assert silent.preface.eof_received() is False
        silent.preface.connection_lost(None)
        assert stage.worker.counters.proxy_headers_refused == 0
        cut.send(HEADER[:5])
        cut.preface.eof_received()
        assert stage.worker.counters.proxy_headers_refused == 1

    play(scene, process=ProcessPolicy(proxy_protocol=True))


def test_a_second_header_is_a_bad_request() -> None:
    def scene(stage: Stage) -> None:
        arrival = Arrival(stage)
        arrival.send(HEADER + HEADER + REQUEST)
        stage.worker.outbox.flush()
        assert arrival.transport.written.startswith(b"HTTP/1.1 400 ")

    play(scene, process=ProcessPolicy(proxy_protocol=True))
