"""A kept-alive client is closed only while nothing of it is unread, or its request would be lost unanswered."""

from __future__ import annotations

import select
from typing import Any


def has_unread(transport: Any) -> bool:
    """Whether the kernel holds bytes (or an end) of this connection that the loop has not read yet."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))
