"""Back-pressure: whoever is slow, nobody buffers more than one read or what was written."""

from __future__ import annotations

import os

import pytest
from proxy.tls.peers import Connection, FakeLoop, client_context, make_share

from ingressd.proxy.tls.transport import WRITE_SLICE_BYTES


@pytest.fixture
def connection(store):
    return Connection(store, client_context()).handshake()


@pytest.mark.parametrize("size", [1, 16384, 16385, 65536, 1_000_000])
def test_large_messages_cross_both_ways(connection, size):
    data = os.urandom(size)
    connection.send(data)
    assert connection.app.received == data
    assert max(map(len, connection.app.chunks)) <= 65536
    connection.server.write(data)
    assert connection.receive() == data


def test_pieces_of_any_size_arrive_in_order(connection):
    data = os.urandom(50_000)
    connection.send(data, 977)
    assert connection.app.received == data


@pytest.mark.parametrize("size", [100, 40_000, 65_536])
def test_one_write_above_is_one_write_below(connection, size):
    connection.raw.writes.clear()
    connection.server.write(bytes(size))
    assert len(connection.raw.writes) == 1


def test_writelines_is_one_write(connection):
    connection.raw.writes.clear()
    connection.server.writelines([b"head", b"", b"body"])
    assert len(connection.raw.writes) == 1
    assert connection.receive() == b"headbody"


def test_a_huge_write_leaves_in_slices(connection):
    connection.raw.writes.clear()
    connection.server.write(bytes(2_000_000))
    assert max(map(len, connection.raw.writes)) < WRITE_SLICE_BYTES + 20_000


def test_an_empty_write_sends_nothing(connection):
    connection.raw.writes.clear()
    connection.server.write(b"")
    assert not connection.raw.writes


def test_any_bytes_like_value_can_be_written(connection):
    connection.server.write(bytearray(b"one "))
    connection.server.write(memoryview(b"xxtwo")[2:])
    assert connection.receive() == b"one two"


def test_pause_stops_reading_below(connection):
    connection.server.pause_reading()
    connection.server.pause_reading()
    assert not connection.raw.reading
    assert not connection.server.is_reading()
    connection.server.resume_reading()
    connection.server.resume_reading()
    assert connection.raw.reading
    connection.send(b"after")
    assert connection.app.received == b"after"


def test_pause_within_delivery_holds_what_one_read_brought_and_no_more(connection):
    connection.app.on_data = lambda _: connection.server.pause_reading()
    one, two = connection.peer.send(b"one"), connection.peer.send(b"two")
    connection.raw.feed(one)
    assert not connection.raw.reading
    connection.app.on_data = None
    connection.server.resume_reading()
    connection.raw.feed(two)
    assert connection.app.received == b"onetwo"


def test_pause_at_connection_made_holds_the_early_request(store):
    connection = Connection(store, client_context())
    app = connection.app
    made = app.connection_made

    def paused(transport):
        made(transport)
        transport.pause_reading()

    app.connection_made = paused
    connection.peer.step()
    connection.raw.feed(connection.peer.outgoing.read())
    connection.peer.incoming.write(connection.raw.take())
    connection.peer.step()
    connection.raw.feed(connection.peer.outgoing.read() + connection.peer.send(b"early"))
    assert app.received == b""
    connection.server.resume_reading()
    assert app.received == b"", "never within resume_reading"
    connection.settle()
    assert app.received == b"early"


def test_held_plaintext_comes_before_what_is_read_next(store):
    connection = Connection(store, client_context()).handshake()
    connection.server._held = b"one "
    connection.send(b"two")
    assert connection.app.received == b"one two"


def test_signals_of_the_write_buffer_are_passed_on(connection):
    connection.server.pause_writing()
    connection.server.resume_writing()
    assert connection.app.calls == ["made", "pause", "resume"]


def test_a_write_from_within_delivery_of_another_connection_mixes_nothing(store):
    share = make_share(FakeLoop())
    left, right = (Connection(store, client_context(), share=share).handshake() for _ in range(2))
    left.app.on_data = right.server.write
    right.app.on_data = left.server.write
    data = os.urandom(100_000)
    left.send(data, 1000)
    assert right.receive() == data
    right.send(data, 60_000)
    assert left.receive() == data


def test_nothing_is_kept_in_the_shared_bios(store):
    share = make_share(FakeLoop())
    connection = Connection(store, client_context(), share=share).handshake()
    for at, byte in enumerate(connection.peer.send(os.urandom(3000))):
        connection.raw.feed(bytes((byte,)))
        assert not share.incoming.pending, at
        assert not share.outgoing.pending, at
