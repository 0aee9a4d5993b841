"""The handshake of an accepted connection: how its bytes may come, and how it may fail."""

from __future__ import annotations

import ssl

import pytest
from proxy.tls.peers import Connection, FakeLoop, client_context, make_share, make_store

from ingressd.model.units import TlsPolicy
from ingressd.proxy.tls.server import MAX_HELLO_BYTES, MAX_HELLO_RECORDS

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def test_nothing_above_before_the_handshake_is_done(store):
    connection = Connection(store, client_context())
    assert connection.server.handshaking
    assert connection.app.calls == []
    connection.handshake()
    assert not connection.server.handshaking
    assert connection.app.calls == ["made"]
    assert connection.app.transport is connection.server


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("step", [1, 7, 65536])
def test_bytes_may_come_in_any_pieces(store, version, step):
    connection = Connection(store, client_context(version)).handshake(step)
    assert connection.peer.done
    for round_ in range(2):
        message = b"request %d" % round_
        connection.send(message, step)
        assert connection.app.received.endswith(message)
        connection.server.write(b"response")
        assert connection.receive() == b"response"


def _fragmented(hello: bytes, size: int) -> bytes:
    body = hello[5:]
    return b"".join(
        hello[:3] + len(body[at : at + size]).to_bytes(2, "big") + body[at : at + size]
        for at in range(0, len(body), size)
    )


@pytest.mark.parametrize("step", [1, 65536])
def test_a_client_hello_may_span_records(store, step):
    connection = Connection(store, client_context(), "b.test")
    connection.peer.step()
    hello = connection.peer.outgoing.read()
    connection.raw.feed(_fragmented(hello, 100), step)
    connection.settle()
    connection.peer.incoming.write(connection.raw.take())
    connection.handshake()
    assert connection.names == ("b.test",)


def test_a_client_hello_in_crumbs_is_refused(store):
    connection = Connection(store, client_context())
    connection.peer.step()
    connection.raw.feed(_fragmented(connection.peer.outgoing.read(), 1), 6)
    connection.settle()
    assert connection.raw.take() == bytes.fromhex("15030300020232")
    assert connection.raw.closed
    assert len(_fragmented(b"\x16\x03\x01\x00\x00" + bytes(MAX_HELLO_RECORDS), 1)) < MAX_HELLO_BYTES


def test_a_client_hello_without_end_is_refused(store):
    connection = Connection(store, client_context())
    connection.raw.feed(b"\x16\x03\x01\x40\x00\x01\x00\x40\x00" + bytes(MAX_HELLO_BYTES))
    assert connection.raw.closed


def test_a_request_in_the_flight_of_finished_is_delivered(store):
    connection = Connection(store, client_context())
    connection.peer.step()
    connection.raw.feed(connection.peer.outgoing.read())
    connection.peer.incoming.write(connection.raw.take())
    connection.peer.step()
    connection.raw.feed(connection.peer.outgoing.read() + connection.peer.send(b"early bird"))
    assert connection.app.calls == ["made"]
    assert connection.app.received == b"early bird"


def test_what_openssl_refuses_is_answered_with_an_alert(certificates):
    store = make_store({"a": certificates["a"]}, {"": "a"}, policy=TlsPolicy(protocols=("TLSv1.3",)))
    connection = Connection(store, client_context(ssl.TLSVersion.TLSv1_2)).handshake()
    assert connection.peer.error.reason == "TLSV1_ALERT_PROTOCOL_VERSION"
    assert connection.raw.closed
    assert connection.app.calls == []


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", b"\x16\x09\x01\x00\x01\x00", b"\x16\x03\x01\x00\x00"]
)
def test_garbage_in_a_handshake_record_is_a_decode_error(store, garbage):
    connection = Connection(store, client_context())
    connection.raw.feed(garbage)
    assert connection.raw.take() == bytes.fromhex("15030300020232")
    assert connection.raw.closed
    connection.settle()
    assert connection.share.counters.tls_failures == 1
    assert connection.lost == [connection.server]


def test_alpn_chooses_http_1_1(store):
    connection = Connection(store, client_context(alpn=("h2", "http/1.1"))).handshake()
    assert connection.peer.tls.selected_alpn_protocol() == "http/1.1"
    assert connection.server.get_extra_info("alpn") == "http/1.1"


def test_a_client_that_wants_only_h2_gets_no_protocol(store):
    connection = Connection(store, client_context(alpn=("h2",))).handshake()
    assert connection.peer.done
    assert connection.server.get_extra_info("alpn") is None


def test_what_a_transport_knows(store):
    connection = Connection(store, client_context(ssl.TLSVersion.TLSv1_3), "A.test").handshake()
    server = connection.server
    assert server.get_extra_info("sni") == "a.test"
    assert server.host == "a.test"
    assert server.get_extra_info("tls_version") == "TLSv1.3"
    assert server.get_extra_info("cipher")[0] == "TLS_AES_256_GCM_SHA384"
    assert server.get_extra_info("peername") == ("192.0.2.1", 4711)
    assert server.get_extra_info("ssl_object") is not None
    assert server.get_extra_info("nonsense", 5) == 5


@pytest.mark.parametrize("begun", [False, True])
def test_time_out_of_a_handshake_aborts(store, begun):
    connection = Connection(store, client_context())
    if begun:
        connection.peer.step()
        connection.raw.feed(connection.peer.outgoing.read())
    connection.server.on_deadline(0.0)
    connection.settle()
    assert connection.raw.aborted
    assert connection.app.calls == []
    assert connection.lost == [connection.server]
    assert connection.share.counters.tls_failures == int(begun)


def test_time_out_after_the_handshake_does_nothing(store):
    connection = Connection(store, client_context()).handshake()
    connection.server.on_deadline(0.0)
    assert not connection.raw.closed


def test_a_client_that_leaves_while_it_waits_in_the_gate(store):
    loop = FakeLoop()
    share = make_share(loop)
    connections = [Connection(store, client_context(), share=share) for _ in range(6)]
    for connection in connections:
        connection.peer.step()
        connection.raw.feed(connection.peer.outgoing.read())
    assert [bool(connection.raw.writes) for connection in connections] == [True] * 4 + [False] * 2
    connections[4].raw.feed_eof()
    loop.turn()
    loop.turn()
    assert not connections[4].raw.writes
    assert connections[5].raw.writes


def test_handshakes_are_capped_in_each_turn_and_keep_their_order(store):
    loop = FakeLoop()
    share = make_share(loop)
    connections = [Connection(store, client_context(), share=share) for _ in range(11)]
    for connection in connections:
        connection.peer.step()
        connection.raw.feed(connection.peer.outgoing.read())
    begun = []
    while loop.soon:
        begun.append(sum(bool(connection.raw.writes) for connection in connections))
        loop.turn()
    assert begun[:3] == [4, 8, 11]
    assert [bool(connection.raw.writes) for connection in connections] == [True] * 11


@pytest.mark.parametrize("version", VERSIONS)
def test_many_handshakes_interleaved_over_the_shared_bios(store, version):
    share = make_share(FakeLoop())
    connections = [
        Connection(store, client_context(version), ("a.test", "b.test")[i % 2], share=share) for i in range(8)
    ]
    for _ in range(4):
        for connection in connections:
            connection.peer.step()
            flight = connection.peer.outgoing.read()
            if flight:
                connection.raw.feed(flight, 200)
            share.loop.turn()
        for connection in connections:
            connection.peer.incoming.write(connection.raw.take())
    for number, connection in enumerate(connections):
        assert connection.peer.done
        assert connection.names == (("a.test", "b.test")[number % 2],)
        connection.send(b"message %d" % number)
        assert connection.app.received == b"message %d" % number
