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
# struct tcp_info of linux/tcp.h: 8 bytes of flags, 24 words of 32 bits, then words of 64.
_INFO_BYTES: Final = 128
_UNACKED_AT: Final = 24
_LAST_ACK_RECEIVED_MS_AT: Final = 56
_BYTES_ACKED_AT: Final = 120


def receive_queue(transport: Any) -> Any:
    """A poll object over one connection, made once: `poll(0)` lists what has come and was not read yet.

    A third of a microsecond a look. None when there is no socket.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return None
    queue = select.poll()
    queue.register(sock.fileno(), select.POLLIN | select.POLLRDHUP)
    return queue


def is_speech(found: list[tuple[int, int]]) -> bool:
    """Whether what `poll` found are bytes, and not the end of the connection (perhaps with a 408 before it)."""
    return not found[0][1] & _LEFT


def anything_acknowledged(transport: Any) -> bool:
    """Whether the peer's kernel has acknowledged a byte of what was written. True when that cannot be known.

    Every segment of an answer acknowledges what had arrived when it left, so an answer beside nothing acknowledged was
    sent before the request came. Two microseconds: for first answers on new connections, not for every one.
    """
    info = _tcp_info(transport)
    # The SYN counts as one byte.
    return info is None or _word(info, "Q", _BYTES_ACKED_AT) > 1


def is_deaf(transport: Any, seconds: float) -> bool:
    """Whether something written is not acknowledged and the peer's kernel has acknowledged nothing for so long.

    A peer that takes its time, or has its window shut, acknowledges all the same; one that is gone does not.
    """
    info = _tcp_info(transport)
    if info is None:
        return False
    return _word(info, "I", _UNACKED_AT) > 0 and _word(info, "I", _LAST_ACK_RECEIVED_MS_AT) >= seconds * 1000


def _word(info: bytes, kind: str, at: int) -> int:
    (value,) = struct.unpack_from(kind, info, at)
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
