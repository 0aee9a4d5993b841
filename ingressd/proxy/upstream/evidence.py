"""What the kernel knows of a connection to an endpoint, beyond the bytes: what came when, and what has arrived there.

An answer that left the endpoint before our request reached it answers somebody else's, or nobody's (RFC 9112 section
9.2). Bytes alone do not tell the order of events; the receive queue and the acknowledgements do.
"""

from __future__ import annotations

import select
import socket
import struct
from typing import Any, Final

_LEFT: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR
# struct tcp_info of linux/tcp.h: 8 bytes of flags, 24 words of 32 bits, 4 of 64, and 32 again.
_INFO_BYTES: Final = 152
_UNACKED_AT: Final = 24
_LAST_ACK_RECEIVED_MS_AT: Final = 56
_MIN_ROUND_TRIP_US_AT: Final = 148


def receive_queue(transport: Any) -> Any:
    """`poll` over one connection, made once: called with 0, it lists what has come and was not read yet.

    A third of a microsecond a look. None when there is no socket.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return None
    queue = select.poll()
    queue.register(sock.fileno(), select.POLLIN | select.POLLRDHUP)
    return queue.poll


def is_speech(found: list[tuple[int, int]]) -> bool:
    """Whether what `poll` found are bytes, and not the end of the connection (perhaps with a 408 before it)."""
    return not found[0][1] & _LEFT


def round_trip_s(transport: Any) -> float:
    """The shortest time that a segment and its acknowledgement have taken so far; 0.0 when that cannot be known."""
    info = _tcp_info(transport)
    return _word(info, _MIN_ROUND_TRIP_US_AT) * 1e-6 if info is not None else 0.0


def is_unacknowledged(transport: Any) -> bool:
    """Whether something written has not been acknowledged yet.

    Every segment of an answer acknowledges what had arrived when it left, so whoever answers without acknowledging the
    request had not got it. Two microseconds: for answers that come too soon, not for every one.
    """
    info = _tcp_info(transport)
    return info is not None and _word(info, _UNACKED_AT) > 0


def is_deaf(transport: Any, seconds: float) -> bool:
    """Whether something written is not acknowledged and the peer's kernel has acknowledged nothing for so long.

    A peer that takes its time, or has its window shut, acknowledges all the same; one that is gone does not.
    """
    info = _tcp_info(transport)
    if info is None:
        return False
    return _word(info, _UNACKED_AT) > 0 and _word(info, _LAST_ACK_RECEIVED_MS_AT) >= seconds * 1000


def _word(info: bytes, at: int) -> int:
    (value,) = struct.unpack_from("I", info, at)
    return int(value)


def _tcp_info(transport: Any) -> bytes | None:
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return None
    try:
        info: bytes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except OSError:
        return None
    return info if len(info) == _INFO_BYTES else None
