"""How a client's connection ends: in order, with time for a slow client to take the last bytes, or with a reset."""

from __future__ import annotations

import socket
import struct
from math import inf
from typing import Final

from ingressd.protocol.chunked import ChunkedDecoder
from ingressd.proxy.drain.linger import was_reset
from ingressd.proxy.http.downstream import Downstream
from ingressd.proxy.http.exchange import Exchange

HEAD: Final = 0
"""Waiting for a request, or in the middle of its head."""
BODY: Final = 1
"""A request is being answered and its body has not ended."""
WAIT: Final = 2
"""A request is being answered and has come whole."""
TUNNEL: Final = 3
"""After a 101: opaque bytes."""
LINGER: Final = 4
"""The last answer is out, we have said that we write no more, and read what the client still sends."""
CLOSED: Final = 5
QUEUED: Final = 6
"""A whole request has come, and waits for its turn: we are overloaded."""

LINGER_S: Final = 2.0
LATE_LINGER_S: Final = 0.5
"""The same for a client that has let its time pass already."""
LAST_BYTES_TIMES: Final = 3
"""How many times `client-send-timeout` a client that takes something has for what is left when its connection ends."""
PROBE_AFTER_S: Final = 2.0
"""When a client that has half-closed is sent an interim response: some read one as the answer, so most never get it."""
LOOK_FOR_RESET_EVERY_S: Final = 0.5
PROCESSING: Final = b"HTTP/1.1 102 Processing\r\n\r\n"
_RESET: Final = struct.pack("ii", 1, 0)


class Ending(Downstream):
    """The end of a connection. `ClientConnection` sets every attribute, and is the only class made of it."""

    __slots__ = (
        "_chunked_answer",
        "_decoder",
        "_eof",
        "_exchange",
        "_last_bytes_s",
        "_pending",
        "_reading_paused",
        "_unsent_bytes",
        "phase",
    )

    phase: int
    _chunked_answer: bool
    _decoder: ChunkedDecoder | None
    _eof: bool  # the client will send no more
    _exchange: Exchange | None
    _last_bytes_s: float
    _pending: bytearray | None
    _reading_paused: bool
    _unsent_bytes: int

    def _write(self, data: bytes) -> None:
        if self.phase != CLOSED:
            self.bytes_sent += len(data)
            self.worker.outbox.write(self.transport, data)

    def abort(self) -> None:
        """End the connection so that the client cannot take what it got for a whole answer."""
        if self.phase == CLOSED:
            return
        if not self._chunked_answer and not self.tls:
            sock = self.transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.phase = CLOSED
        self._forget()
        self.transport.abort()

    def cut_off(self) -> None:
        """End the connection at once, whatever it has still to take."""
        self.abort()
        self.transport.abort()

    def truncate(self, framed: bool) -> None:
        """The answer cannot be finished: what has come goes out, and framing (or a reset) shows that it is short."""
        self._exchange = None
        if framed:
            self._close()
        else:
            self.abort()

    def _linger(self) -> None:
        """Say that we write no more and let the client finish: closing over unread bytes resets the answer away."""
        self._pending = None
        if self._eof or self.tls or not self.transport.can_write_eof():
            self._close()
            return
        self.phase = LINGER
        if self._reading_paused:
            self.resume_reading()
        self.worker.outbox.flush()
        self.transport.write_eof()
        if not self._await_last_bytes():
            self.set_deadline(self.worker.clock() + LINGER_S)

    def _close(self) -> None:
        if self.phase != CLOSED:
            self.phase = CLOSED
            self._forget()
            self.worker.outbox.flush()
            self._await_last_bytes()
            self.transport.close()

    def _await_last_bytes(self) -> bool:
        """Give a slow client time to take what has been written to it; whether it needs any."""
        unsent: int = self.transport.get_write_buffer_size()
        self._unsent_bytes = unsent
        if unsent:
            now = self.worker.clock()
            timeout_s = self.worker.current.send_timeout_s
            self._last_bytes_s = now + LAST_BYTES_TIMES * timeout_s
            self.set_deadline(now + timeout_s)
        return unsent > 0

    def _forget(self) -> None:
        self.worker.wheel.remove(self)
        self.deadline_s = inf
        self._pending = None
        self._decoder = None

    def _probe(self) -> None:
        """Write something harmless to a client that has half-closed: if it is gone altogether, its kernel says so.

        RFC 9110 section 15.2: a client must be able to parse interim responses it did not ask for.
        """
        exchange = self._exchange
        if self.phase == WAIT and exchange is not None and not exchange.answering and exchange.speaks_11:
            self._write(PROCESSING)
            self.worker.loop.call_later(LOOK_FOR_RESET_EVERY_S, self._look_for_reset)

    def _look_for_reset(self) -> None:
        """Nobody else does: behind the end of its stream a connection is not read."""
        exchange = self._exchange
        if self.phase != WAIT or exchange is None or exchange.answering:
            return
        if was_reset(self.transport):
            self.abort()
        else:
            self.worker.loop.call_later(LOOK_FOR_RESET_EVERY_S, self._look_for_reset)

    def _last_bytes_deadline(self, now: float) -> None:
        """An ended connection has had its time. What the kernel holds outlives a close; what waits here would not."""
        unsent = self.transport.get_write_buffer_size()
        if 0 < unsent < self._unsent_bytes and now < self._last_bytes_s:
            self._unsent_bytes = unsent
            self.set_deadline(min(now + self.worker.current.send_timeout_s, self._last_bytes_s))
        elif unsent:
            self.phase = CLOSED
            self._forget()
            self.transport.abort()
        else:
            self._close()
