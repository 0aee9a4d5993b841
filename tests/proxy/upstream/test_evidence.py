"""What the kernel says of a connection, from real sockets."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ingressd.proxy.upstream.evidence import is_deaf, is_speech, is_unacknowledged, receive_queue, round_trip_s


class Transport:
    """All that is asked of one."""

    def __init__(self, sock: socket.socket | None) -> None:
        self._sock = sock

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        assert name == "socket"
        return self._sock


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    yield ours, theirs
    ours.close()
    theirs.close()


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + 2
    while not (found := condition()):
        assert time.monotonic() < end, "never"
        time.sleep(0.002)
    return found


def test_the_queue_tells_bytes_from_an_end(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    queue = receive_queue(Transport(ours))
    assert queue(0) == []
    theirs.sendall(b"x")
    assert is_speech(until(lambda: queue(0)))
    theirs.close()
    assert until(lambda: not is_speech(queue(0)))


def test_a_reset_is_an_end(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    queue = receive_queue(Transport(ours))
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    assert not is_speech(until(lambda: queue(0)))


def test_what_was_read_is_not_in_the_queue_any_more(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    queue = receive_queue(Transport(ours))
    theirs.sendall(b"x")
    until(lambda: queue(0))
    ours.recv(1)
    assert queue(0) == []


def test_acknowledged_bytes_are_seen(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    assert not is_unacknowledged(Transport(ours))
    ours.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert until(lambda: not is_unacknowledged(Transport(ours)))


def test_the_round_trip_of_loopback_is_short(pair: tuple[socket.socket, socket.socket]) -> None:
    """So short that no answer of a process comes within it."""
    ours, _ = pair
    assert 0.0 < round_trip_s(Transport(ours)) < 0.01


def test_a_peer_that_only_takes_its_time_is_not_deaf(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    ours.sendall(b"GET / HTTP/1.1\r\n\r\n")
    until(lambda: not is_unacknowledged(Transport(ours)))
    time.sleep(0.02)
    assert not is_deaf(Transport(ours), 0.01)


def test_without_a_socket_nothing_is_known() -> None:
    gone = socket.socket()
    gone.close()
    for transport in (Transport(None), Transport(gone)):
        assert receive_queue(transport) is None
        assert not is_unacknowledged(transport)
        assert round_trip_s(transport) == 0.0
        assert not is_deaf(transport, 0.0)
