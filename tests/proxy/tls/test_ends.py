"""How a connection ends: close_notify, half close, truncation, faults."""

from __future__ import annotations

import ssl

import pytest
from proxy.tls.peers import Connection, client_context

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(params=VERSIONS, ids=["1.2", "1.3"])
def connection(store, request):
    return Connection(store, client_context(request.param)).handshake()


def test_close_sends_what_was_written_then_close_notify(connection):
    connection.server.write(b"last words")
    connection.server.close()
    assert connection.server.is_closing()
    connection.peer.incoming.write(connection.raw.take())
    assert connection.peer.tls.read(100) == b"last words"
    assert connection.peer.tls.read(100) == b"", "a clean end"
    connection.settle()
    assert connection.app.calls == ["made", "lost"]
    assert connection.app.lost is None


def test_closing_twice_and_writing_after_is_harmless(connection):
    connection.server.close()
    connection.server.close()
    connection.server.write(b"too late")
    connection.settle()
    connection.server.write(b"much too late")
    connection.server.pause_reading()
    connection.server.resume_reading()
    connection.server.abort()
    assert connection.app.calls == ["made", "lost"]


def test_abort_sends_no_close_notify(connection):
    connection.raw.writes.clear()
    connection.server.abort()
    assert connection.raw.aborted
    assert not connection.raw.writes


def test_close_notify_of_the_peer_closes_when_nobody_objects(connection):
    connection.raw.feed(connection.peer.send(b"bye") + connection.peer.close_notify())
    assert connection.app.received == b"bye"
    connection.settle()
    assert connection.app.calls == ["made", "eof", "lost"]
    assert connection.app.lost is None


def test_a_half_closed_peer_still_gets_its_answer(connection):
    connection.app.keep_open = True
    connection.raw.feed(connection.peer.send(b"question") + connection.peer.close_notify())
    connection.raw.feed_eof()
    assert not connection.raw.closed
    connection.server.write(b"answer")
    connection.server.close()
    connection.peer.incoming.write(connection.raw.take())
    assert b"answer" in connection.peer.tls.read(100)
    connection.settle()
    assert connection.app.calls == ["made", "eof", "lost"]
    assert connection.app.lost is None


def test_close_notify_waits_while_reading_is_paused(connection):
    connection.app.on_data = lambda _: connection.server.pause_reading()
    connection.raw.feed(connection.peer.send(b"bye") + connection.peer.close_notify())
    assert connection.app.calls == ["made"]
    connection.server.resume_reading()
    connection.settle()
    assert connection.app.calls == ["made", "eof", "lost"]


def test_an_end_without_close_notify_is_told_as_truncation(connection):
    connection.send(b"half a requ")
    connection.raw.feed_eof()
    connection.settle()
    assert connection.app.calls == ["made", "lost"]
    assert isinstance(connection.app.lost, ssl.SSLEOFError)


def test_a_broken_record_ends_the_connection_after_what_was_good(connection):
    good = connection.peer.send(b"good")
    bad = bytearray(connection.peer.send(b"bad"))
    bad[-1] ^= 1
    connection.raw.writes.clear()
    connection.raw.feed(good + bytes(bad))
    assert connection.app.received == b"good"
    assert connection.raw.writes, "an alert"
    connection.settle()
    assert isinstance(connection.app.lost, ssl.SSLError)
    assert not connection.share.incoming.pending


def test_bytes_after_close_notify_are_ignored(connection):
    connection.app.keep_open = True
    connection.raw.feed(connection.peer.close_notify())
    connection.raw.feed(b"\x17\x03\x03\x00\x05hello")
    connection.raw.feed(b"nonsense")
    assert connection.app.chunks == []
    assert connection.app.calls == ["made", "eof"]


def test_a_fault_of_one_connection_does_not_reach_another(store):
    from proxy.tls.peers import FakeLoop, make_share

    share = make_share(FakeLoop())
    bad = Connection(store, client_context(), share=share).handshake()
    good = Connection(store, client_context(), share=share).handshake()
    bad.raw.feed(b"\x17\x03\x03\x00\x20" + bytes(32) + good.peer.send(b"stolen")[:20])
    good = Connection(store, client_context(), share=share).handshake()
    good.send(b"untouched")
    assert good.app.received == b"untouched"


def test_the_listener_hears_of_the_end_once(connection):
    connection.server.close()
    connection.settle()
    assert connection.lost == [connection.server]
    assert connection.server.get_protocol() is None


def test_another_protocol_can_take_over(connection):
    from proxy.tls.peers import RecordingApp

    tunnel = RecordingApp()
    connection.server.set_protocol(tunnel)
    connection.send(b"opaque")
    connection.raw.feed_eof()
    connection.settle()
    assert tunnel.received == b"opaque"
    assert tunnel.calls == ["lost"]
    assert connection.app.calls == ["made"]
