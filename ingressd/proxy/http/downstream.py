"""What an exchange asks of the connection it answers on, whatever version of HTTP that speaks.

Arguments are by position where the hot path passes them: compiled, these calls are C calls, which take no keywords.
"""

from __future__ import annotations

from typing import Any, Final

from ingressd.protocol.h1 import RequestHead
from ingressd.proxy.runtime.worker import Worker

END: Final = 1
"""The answer is whole with this."""
BODILESS: Final = 2
"""By status or method no body follows, whatever the length."""
CLOSE: Final = 4
"""Nothing more can be served on this connection."""
UNKNOWN_LENGTH: Final = -1


class Downstream:
    """The client's side of an exchange."""

    __slots__ = (
        "bytes_sent",
        "deadline_s",
        "head_bytes_sent",
        "peer_ip",
        "port",
        "tls",
        "transport",
        "wheel_at_s",
        "wheel_slot",
        "worker",
        "writing_paused",
    )

    worker: Worker
    transport: Any
    peer_ip: str
    port: bytes
    tls: bool
    bytes_sent: int
    head_bytes_sent: int
    writing_paused: bool
    deadline_s: float
    wheel_slot: int
    wheel_at_s: float

    def write_head(self, head: RequestHead | None, start: bytes, length: int, body: bytes, flags: int) -> None:
        """Write the head of an answer, with what there is of its body in the same write.

        `start` is the status line and the header lines, each with its CRLF, without framing and connection; `length` is
        that of the whole body in bytes, or UNKNOWN_LENGTH.
        """
        raise NotImplementedError

    def write_body(self, data: bytes, end: bool) -> None:
        """Write more of the body of the answer."""
        raise NotImplementedError

    def announced_bytes(self) -> int:
        """How many bytes of the request's body have been announced by a chunk and have not come yet."""
        return 0

    def set_deadline(self, at_s: float) -> None:
        """Be woken at `at_s` (monotonic seconds) if nothing moves the deadline before."""
        raise NotImplementedError

    def on_deadline(self, now: float) -> None:
        """From the timer wheel: a time-out passed."""
        raise NotImplementedError

    def refuse(self, status: int, lines: bytes, *, body: bytes | None, close: bool, head: RequestHead | None) -> None:
        """Write one of our own answers; `body` None is the page that names the status."""
        raise NotImplementedError

    def write_continue(self) -> None:
        """RFC 9110 section 10.1.1: the client waits for a 100 before it sends the body."""
        raise NotImplementedError

    def write_interim(self, message: bytes) -> None:
        """A 1xx of the upstream."""
        raise NotImplementedError

    def pause_reading(self) -> None:
        """Stop reading the client: what it sends cannot go on yet."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        """Read the client again."""
        raise NotImplementedError

    def begin_tunnel(self, message: bytes) -> None:
        """Write a 101 and what came behind it; from here on bytes are opaque."""
        raise NotImplementedError

    def write_tunnel(self, data: bytes) -> None:
        """Opaque bytes after a 101."""
        raise NotImplementedError

    def end_tunnel(self) -> None:
        """The upstream will send no more."""
        raise NotImplementedError

    def close_tunnel(self) -> None:
        """The upstream is gone: what it sent goes out, then the connection ends."""
        raise NotImplementedError

    def truncate(self, framed: bool) -> None:
        """The answer cannot be finished: what has come goes out, and framing (or a reset) shows that it is short."""
        raise NotImplementedError

    def abort(self) -> None:
        """End the connection so that the client cannot take what it got for a whole answer."""
        raise NotImplementedError
