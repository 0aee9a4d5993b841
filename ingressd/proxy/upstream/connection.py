"""One HTTP/1.1 connection to an endpoint: writes requests, reads responses, knows when it may be used again.

A connection that saw any framing fault or one surplus byte is never used again (RFC 9112 section 9.2: a client that
receives data it did not ask for must not take it for the answer to a later request). Nor is what was there before the
request left an answer to it: the receive queue is looked at right before the request is written.
"""

from __future__ import annotations

from typing import Any, Final

from ingressd.protocol.chunked import BodyError, ChunkedDecoder
from ingressd.protocol.h1 import (
    CHUNKED,
    END_OF_HEAD,
    LENGTH,
    NO_BODY,
    HeadError,
    HeadLimits,
    ResponseHead,
    find_head_end,
    parse_response_head,
)
from ingressd.proxy.drain.linger import read_left
from ingressd.proxy.tls.transport import TlsTransport
from ingressd.proxy.upstream.evidence import is_speech, receive_queue, round_trip_s
from ingressd.proxy.upstream.failure import Failure
from ingressd.proxy.upstream.outbox import BULK_BYTES, Outbox

IDLE: Final = 0
AWAIT_HEAD: Final = 1
BODY: Final = 2
TUNNEL: Final = 3
CLOSED: Final = 4

MAX_INTERIM_RESPONSES: Final = 64
"""A flood of 1xx is a fault of the upstream, not something to relay without end."""

LATE_408: Final = (b"HTTP/1.1 408", b"HTTP/1.0 408")
"""How servers tell an idle connection that they close it (RFC 9110 section 15.5.9)."""


class ResponseHandler:
    """What an exchange offers to the connection that carries its request."""

    __slots__ = ()

    def on_interim(self, connection: UpstreamConnection, head: ResponseHead) -> None:
        """A 1xx other than 100 and 101."""
        raise NotImplementedError

    def on_response(self, connection: UpstreamConnection, head: ResponseHead, body: bytes, end: bool) -> None:
        """The head of the final response with what came of its body."""
        raise NotImplementedError

    def on_response_body(self, connection: UpstreamConnection, body: bytes, end: bool) -> None:
        """More of the body, decoded."""
        raise NotImplementedError

    def on_upgrade(self, connection: UpstreamConnection, head: ResponseHead, data: bytes) -> None:
        """A 101; from here on bytes are opaque and come through `on_tunnel`."""
        raise NotImplementedError

    def on_tunnel(self, data: bytes) -> None:
        """Opaque bytes after a 101."""
        raise NotImplementedError

    def on_tunnel_end(self) -> None:
        """The endpoint will send no more opaque bytes."""
        raise NotImplementedError

    def on_tunnel_over(self, connection: UpstreamConnection) -> None:
        """Both sides have ended, and what the client sent has gone out; the connection is closed."""
        raise NotImplementedError

    def on_upstream_failed(self, connection: UpstreamConnection, failure: Failure, detail: str) -> None:
        """The attempt failed; the connection is closed."""
        raise NotImplementedError

    def on_upstream_paused(self) -> None:
        """The endpoint reads slower than we write: stop reading the client."""
        raise NotImplementedError

    def on_upstream_resumed(self) -> None:
        """The endpoint caught up."""
        raise NotImplementedError


class UpstreamConnection:
    """A connection and the state of the one message on it."""

    __slots__ = (
        "_buffer",
        "_decoder",
        "_eof",
        "_finished",
        "_head",
        "_held",
        "_high_water",
        "_interims",
        "_left",
        "_limits",
        "_method",
        "_outbox",
        "_poisoned",
        "_queue",
        "_reading_paused",
        "_request_ended",
        "_scanned",
        "_unsent",
        "faulty",
        "handler",
        "idle_since_s",
        "on_lost",
        "opened_s",
        "requests",
        "reused",
        "round_trip_s",
        "server_name",
        "state",
        "transport",
    )

    def __init__(
        self,
        buffer: memoryview,
        outbox: Outbox,
        *,
        limits: HeadLimits,
        server_name: str,
        opened_s: float,
        high_water_bytes: int = 65536,
    ) -> None:
        """`high_water_bytes`: what may wait to be written before `on_upstream_paused` is called."""
        self._high_water = high_water_bytes
        self._buffer = buffer
        self._outbox = outbox
        self._limits = limits
        self.server_name = server_name
        self.opened_s = opened_s
        self.idle_since_s = opened_s
        self.state = IDLE
        self.requests = 0
        self.reused = False
        self.round_trip_s = 0.0
        """Nothing that answers what we write comes sooner than this behind it."""
        self.handler: ResponseHandler | None = None
        self.transport: Any = None
        self.on_lost: Any = None
        """Called with this connection when it is gone, whatever it was doing."""
        self._held: bytes = b""
        self._scanned = 0
        self._method = b""
        self._left = 0
        self._decoder: ChunkedDecoder | None = None
        self._head: ResponseHead | None = None
        self._poisoned = False
        self._queue: Any = None
        self._unsent = False
        self.faulty = False
        """It broke the framing or said what nobody asked for: its endpoint may do so on other connections, too."""
        self._request_ended = True
        self._reading_paused = False
        self._interims = 0
        self._eof = False
        self._finished = False

    def __repr__(self) -> str:
        state = ("idle", "awaiting head", "body", "tunnel", "closed")[self.state]
        return f"<UpstreamConnection {state}, {self.requests} requests>"

    # ------------------------------------------------------------------------------------------------ sending
    def send(self, handler: ResponseHandler, method: bytes, message: bytes, end: bool) -> None:
        """Write the head of a request and what there is of its body; `end` says that this is all of it."""
        self.handler = handler
        self.state = AWAIT_HEAD
        self.requests += 1
        self._method = method
        self._request_ended = end
        self._interims = 0
        self._unsent = True
        self._outbox.write(self, message)

    def retire(self) -> None:
        """The next request is the last, for it says so (RFC 9112, 9.6)."""
        self._poisoned = True

    def send_body(self, data: bytes, end: bool) -> None:
        """Write more of the request's body, already framed."""
        if end:
            self._request_ended = True
        if data and self.state != CLOSED:
            self._outbox.write(self, data)

    def write(self, data: bytes) -> None:
        """From the outbox, at the end of the turn: the request leaves, unless something has come before it."""
        if self._unsent:
            queue = self._queue
            if queue is not None:
                found = queue(0)
                if found:
                    self._preceded(is_speech(found))
                    return
            self._unsent = False
        elif self.state == CLOSED:
            return
        self.transport.write(data)

    def _preceded(self, spoke: bool) -> None:
        """The endpoint has ended, or said something, before the request left: whatever that is, it answers nothing."""
        self.faulty = self.faulty or spoke
        self._fail(Failure.STALE, "")

    def write_tunnel(self, data: bytes) -> None:
        """Write opaque bytes after a 101."""
        if self.state == TUNNEL:
            self._outbox.write(self.transport, data)

    # ------------------------------------------------------------------------------------------------ asyncio
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self.state == CLOSED:
            transport.abort()
            return
        transport.set_write_buffer_limits(self._high_water)
        self.round_trip_s = round_trip_s(transport)
        if not isinstance(transport, TlsTransport):  # There, what waits may be TLS's own: tickets, key updates.
            self._queue = receive_queue(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(self._buffer[:nbytes].tobytes())

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state == AWAIT_HEAD:
            if self._unsent:
                self._preceded(not data.startswith(LATE_408))
            else:
                self._receive_head(data)
        elif state == BODY:
            self._receive_body(data, 0)
        elif state == TUNNEL:
            if self.handler is not None:
                self.handler.on_tunnel(data)
        else:
            # Nobody asked: an idle connection that speaks (a late 408, or an attack) is of no use to anybody.
            self.faulty = self.faulty or not data.startswith(LATE_408)
            self.close()
        if len(data) >= BULK_BYTES:
            self._outbox.flush()

    def eof_received(self) -> bool:
        if self.state == TUNNEL:
            self._eof = True
            if self.handler is not None and not self._finished:
                self.handler.on_tunnel_end()
            return not self._finished
        self._lost(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.state == TUNNEL and self.handler is not None:
            self.state = CLOSED
            handler, self.handler = self.handler, None
            if self._finished and exc is None:
                handler.on_tunnel_over(self)
            else:
                handler.on_upstream_failed(self, Failure.TRUNCATED, str(exc or "closed"))
        elif exc is not None and self.state in (AWAIT_HEAD, BODY) and not isinstance(self.transport, TlsTransport):
            # A write met a reset: what the endpoint said before it, an early answer perhaps, is still to be read.
            left = read_left(self.transport)
            if left:
                self.data_received(left)
        self._lost(exc)
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost(self)

    def pause_writing(self) -> None:
        if self.handler is not None:
            self.handler.on_upstream_paused()

    def resume_writing(self) -> None:
        if self.handler is not None:
            self.handler.on_upstream_resumed()

    # ------------------------------------------------------------------------------------------------ receiving
    def _receive_head(self, data: bytes) -> None:
        if self._held:
            data = self._held + data
        start = 0
        while True:
            try:
                end = data.find(END_OF_HEAD, start) + 4
                if end < start + 5:  # Not there, or nothing before it: whoever knows the grammar decides.
                    end = find_head_end(data, start, scanned=self._scanned, limits=self._limits, response=True)
                    if end < 0:
                        self._held = data[start:] if start else data
                        self._scanned = len(self._held)
                        return
                self._scanned = 0
                head = parse_response_head(data[start:end], method=self._method, limits=self._limits)
            except HeadError as error:
                self._fail(Failure.BAD_RESPONSE, error.reason)
                return
            if head.status >= 200:
                break
            start = end
            if not self._interim(head, data[end:]):
                return
        self._held = b""
        self._head = head
        self._begin_body(head, data, end)

    def _interim(self, head: ResponseHead, rest: bytes) -> bool:
        """Deal with a 1xx; whether to go on reading heads."""
        handler = self.handler
        if handler is None:
            return False
        if head.status == 101:
            self._held = b""
            self.state = TUNNEL
            handler.on_upgrade(self, head, rest)
            return False
        self._interims += 1
        if self._interims > MAX_INTERIM_RESPONSES:
            self._fail(Failure.BAD_RESPONSE, "too many interim responses")
            return False
        if head.status != 100:
            handler.on_interim(self, head)
        return self.state == AWAIT_HEAD

    def _begin_body(self, head: ResponseHead, data: bytes, start: int) -> None:
        handler = self.handler
        if handler is None:
            self.close()
            return
        framing = head.framing
        if framing == LENGTH:
            length = head.content_length or 0
            have = len(data) - start
            if have >= length:
                if have > length:
                    self._poisoned = self.faulty = True
                self._ended()
                handler.on_response(self, head, data[start : start + length], True)
                return
            self._left = length - have
            self.state = BODY
            handler.on_response(self, head, data[start:] if have else b"", False)
        elif framing == NO_BODY:
            if len(data) > start:
                self._poisoned = self.faulty = True
            self._ended()
            handler.on_response(self, head, b"", True)
        elif framing == CHUNKED:
            decoder = self._decoder = ChunkedDecoder(response=True)
            try:
                payload, consumed = decoder.feed(data, start)
            except BodyError as error:
                # The head is good: it goes out, and the broken body shows as a truncated answer.
                self.state = BODY
                handler.on_response(self, head, b"", False)
                self._fail(Failure.TRUNCATED, error.reason)
                return
            if decoder.done:
                if consumed < len(data):
                    self._poisoned = self.faulty = True
                self._ended()
                handler.on_response(self, head, payload, True)
                return
            self.state = BODY
            handler.on_response(self, head, payload, False)
        else:
            self._poisoned = True
            self.state = BODY
            handler.on_response(self, head, data[start:], False)

    def _receive_body(self, data: bytes, start: int) -> None:
        handler = self.handler
        head = self._head
        if handler is None or head is None:
            self.close()
            return
        framing = head.framing
        if framing == LENGTH:
            have = len(data)
            left = self._left
            if have >= left:
                if have > left:
                    self._poisoned = self.faulty = True
                    data = data[:left]
                self._ended()
                handler.on_response_body(self, data, True)
                return
            self._left = left - have
            handler.on_response_body(self, data, False)
        elif framing == CHUNKED:
            decoder = self._decoder
            if decoder is None:
                self.close()
                return
            try:
                payload, consumed = decoder.feed(data, start)
            except BodyError as error:
                self._fail(Failure.TRUNCATED, error.reason)
                return
            if decoder.done:
                if consumed < len(data):
                    self._poisoned = self.faulty = True
                self._ended()
                handler.on_response_body(self, payload, True)
            elif payload:
                handler.on_response_body(self, payload, False)
        else:
            handler.on_response_body(self, data, False)

    def _ended(self) -> None:
        """The response is whole: forget the message, keep the verdict on the connection."""
        head = self._head
        if head is None or not head.keep_alive or not self._request_ended or head.upgrade is not None:
            # An Upgrade that was offered and not taken leaves two opinions on what follows.
            self._poisoned = True
        self.state = IDLE
        self.handler = None
        self._head = None
        self._decoder = None
        if self._reading_paused:
            self.resume_reading()

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent: idle, alive, and never a framing fault."""
        return self.state == IDLE and not self._poisoned

    # ------------------------------------------------------------------------------------------------ flow, ends
    def pause_reading(self) -> None:
        """Stop reading the endpoint: the client is slower."""
        if not self._reading_paused and self.state != CLOSED:
            self._reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read the endpoint again."""
        if self._reading_paused and self.state != CLOSED:
            self._reading_paused = False
            self.transport.resume_reading()

    def close(self) -> None:
        """Close without telling the handler: it has decided so, or there is none."""
        self.handler = None
        self._unsent = False
        if self.state != CLOSED:
            self.state = CLOSED
            self._held = b""
            if self.transport is not None:
                self.transport.abort()

    def finish_tunnel(self) -> None:
        """No more bytes will come from the client: say so, and close once the endpoint has ended too.

        TLS has no half-close that peers agree on; there, one end is the end of both directions.
        """
        if self.state != TUNNEL:
            return
        self._finished = True
        self._outbox.flush()
        if self._eof or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()

    def _lost(self, exc: Exception | None) -> None:
        state, handler, head = self.state, self.handler, self._head
        if state == CLOSED:
            return
        # The retry law ends at the first response byte: half a head is an answer, and a bad one.
        silent = not self._held
        unsent, self._unsent = self._unsent, False
        self.state = CLOSED
        self.handler = None
        self._held = b""
        self._poisoned = True
        if handler is not None:
            if state == AWAIT_HEAD:
                failure = (Failure.STALE if unsent else Failure.CLOSED) if silent else Failure.BAD_RESPONSE
                handler.on_upstream_failed(self, failure, str(exc or "closed"))
            elif state == BODY:
                until_close = head is not None and head.framing not in (LENGTH, CHUNKED, NO_BODY)
                if until_close and exc is None:
                    handler.on_response_body(self, b"", True)
                else:
                    handler.on_upstream_failed(self, Failure.TRUNCATED, str(exc or "closed"))
        if self.transport is not None:
            self.transport.abort()

    def _fail(self, failure: Failure, detail: str) -> None:
        if failure is not Failure.STALE:
            self.faulty = True
        handler = self.handler
        self.close()
        if handler is not None:
            handler.on_upstream_failed(self, failure, detail)
