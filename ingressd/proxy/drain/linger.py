"""A kept-alive client is closed only while nothing of it is unread, or its request would be lost unanswered."""

from __future__ import annotations

import os
import select
from typing import Any, Final

READ_BYTES: Final = 65536


def has_unread(transport: Any) -> bool:
    """Whether the kernel holds bytes (or an end) of this connection that the loop has not read yet."""
    return _has_news(transport, select.POLLIN | select.POLLHUP | select.POLLERR)


def was_reset(transport: Any) -> bool:
    """Whether the peer of a connection that is not read any more (its end has come) has reset it since."""
    return _has_news(transport, 0)  # A reset is told unasked. A FIN that was read is not one.


def read_left(transport: Any) -> bytes:
    """What the kernel still holds of a connection that has failed, 64 KiB at most; b"" when there is nothing."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return b""
    try:
        return os.read(sock.fileno(), READ_BYTES)
    except OSError:
        return b""


def _has_news(transport: Any, asked: int) -> bool:
    """Whether the kernel has any of these poll(2) events to tell of a connection's socket."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), asked)
    return bool(poll.poll(0))
