"""The client's side of HTTP/1: one connection, its requests in order, and the bytes that answer them.

What may be held of a client: one head within its limits, and one read (64 KiB) of a body or of pipelined requests; then
the connection is not read until that has gone on.
"""

from __future__ import annotations

from math import inf
from typing import Any, Final

from ingressd.protocol.chunked import LAST_CHUNK, BodyError, ChunkedDecoder, chunk
from ingressd.protocol.h1 import END_OF_HEAD, HeadError, RequestHead, find_head_end, parse_request_head
from ingressd.proxy.drain.linger import has_unread
from ingressd.proxy.http.answers import PAGES, status_line
from ingressd.proxy.http.downstream import BODILESS, CLOSE, END
from ingressd.proxy.http.ending import (
    BODY,
    CLOSED,
    HEAD,
    LATE_LINGER_S,
    LINGER,
    PROBE_AFTER_S,
    QUEUED,
    TUNNEL,
    WAIT,
    Ending,
)
from ingressd.proxy.http.errors import OVERLOADED
from ingressd.proxy.http.exchange import Exchange
from ingressd.proxy.runtime.memory import CONNECTION_BYTES, TLS_BYTES
from ingressd.proxy.runtime.runtime import MIN_BODY_RATE_BYTES_PER_S
from ingressd.proxy.runtime.worker import Worker
from ingressd.proxy.upstream.outbox import BULK_BYTES

HELD_BYTES: Final = 16384
"""From so many bytes of later requests on a client is read no more; the last read may have brought 64 KiB."""
FRESH_S: Final = 1.0
CLOSE_LINE: Final = b"Connection: close\r\n"
KEEP_ALIVE_LINE: Final = b"Connection: keep-alive\r\n"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
ENDED_EARLY: Final = "client ended its request early"


class ClientConnection(Ending):
    """One connection of a client, plain or over TLS: the transport decides."""

    __slots__ = (
        "_body_left",
        "_body_window_bytes",
        "_body_window_s",
        "_keep",
        "_opened_s",
        "_pumping",
        "_scanned",
        "_served",
        "listener",
        "peer_port",
    )

    def __init__(
        self, worker: Worker, *, listener: str, port: bytes, tls: bool, peer: tuple[str, int] | None = None
    ) -> None:
        """`peer` is the client that a PROXY header names; without it, it is the peer of the transport."""
        self.worker = worker
        self.listener = listener
        self.port = port
        """Declared port of the listener, for X-Forwarded-Port, or the one that a PROXY header names."""
        self.tls = tls
        self.transport: Any = None
        self.peer_ip, self.peer_port = peer or ("", 0)
        self.phase = HEAD
        self.deadline_s = inf
        self.wheel_slot = -1
        self.wheel_at_s = 0.0
        self.bytes_sent = 0
        self.head_bytes_sent = 0
        self.writing_paused = False
        self._exchange: Exchange | None = None
        self._pending: bytearray | None = None
        self._scanned = 0
        self._served = 0
        self._body_left = 0
        self._decoder: ChunkedDecoder | None = None
        self._body_window_s = 0.0
        self._body_window_bytes = 0
        self._reading_paused = False
        self._pumping = False
        self._eof = False
        self._keep = False
        self._last_bytes_s = 0.0
        self._opened_s = 0.0
        self._chunked_answer = False
        self._unsent_bytes = 0

    def __repr__(self) -> str:
        phase = ("head", "body", "wait", "tunnel", "linger", "closed", "queued")[self.phase]
        return f"<ClientConnection {self.peer_ip}:{self.peer_port} {phase}, {self._served} served>"

    # ------------------------------------------------------------------------------------------------ asyncio
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(self.worker.current.buffer_bytes)
        if not self.peer_ip:
            peer = transport.get_extra_info("peername")
            if peer:
                self.peer_ip = peer[0].removeprefix("::ffff:")
                self.peer_port = peer[1]
        worker = self.worker
        worker.clients.add(self)
        worker.counters.connections += 1
        self._opened_s = worker.clock()
        self.set_deadline(self._opened_s + worker.current.head_timeout_s)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.worker.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(self.worker.buffer[:nbytes].tobytes())

    def data_received(self, data: bytes) -> None:
        phase = self.phase
        if phase == HEAD:
            if self._pending is not None:
                self._pending += data
                self._pump()
            else:
                self._receive_head(data)
        elif phase == BODY:
            self._receive_body(data, 0)
        elif phase in (WAIT, QUEUED):
            self._hold(data)
        elif phase == TUNNEL and self._exchange is not None:
            self._exchange.on_client_tunnel(data)
        if len(data) >= BULK_BYTES:
            self.worker.outbox.flush()

    def eof_received(self) -> bool:
        self._eof = True
        phase = self.phase
        if phase == BODY and self._exchange is not None:
            self._exchange.refuse(400, ENDED_EARLY, close=True)
            return True
        if phase == WAIT:
            # RFC 9112 section 9.6 lets a client half-close after its request; the answer still goes out. A client that
            # went away altogether looks the same, until something is written: so something is, after a moment.
            self.worker.loop.call_later(PROBE_AFTER_S, self._probe)
            return True
        if phase == TUNNEL and self._exchange is not None:
            self._exchange.on_client_tunnel_end()
            return True
        self._close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        worker = self.worker
        exchange, self._exchange = self._exchange, None
        if self.phase != CLOSED:
            self.phase = CLOSED
        self._forget()
        worker.clients.discard(self)
        worker.counters.connections -= 1
        if self.writing_paused:
            worker.memory.drain()
        if self._reading_paused:
            worker.memory.drain()
        if exchange is not None:
            exchange.on_client_gone()

    def pause_writing(self) -> None:
        self.writing_paused = True
        self.worker.memory.fill()
        if self._exchange is not None:
            self._exchange.on_client_paused()
        elif self.phase == HEAD:
            # Whoever takes no answers is not asked for the next request: each would add one to what is held of it.
            self.pause_reading()
            self.set_deadline(self.worker.clock() + self.worker.current.send_timeout_s)

    def resume_writing(self) -> None:
        self.writing_paused = False
        self.worker.memory.drain()
        if self._exchange is not None:
            self._exchange.on_client_resumed()
        elif self.phase == HEAD:
            self.resume_reading()
            self._next_request(self.worker.clock())

    # ------------------------------------------------------------------------------------------------ receiving
    def _pump(self) -> None:
        """Take requests out of what is pending, one after the other, as long as each is answered at once."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self.phase == HEAD and self._pending and not self.writing_paused:
                pending, self._pending = self._pending, None
                self._receive_head(pending)
                if self._scanned:  # An unfinished head.
                    if self._eof:
                        self._close()
                    break
        finally:
            self._pumping = False
        if self._eof and self.phase == BODY and self._exchange is not None:
            self._exchange.refuse(400, ENDED_EARLY, close=True)
        elif self._reading_paused and (self.phase == BODY or (self.phase == HEAD and not self.writing_paused)):
            self.resume_reading()

    def _receive_head(self, data: bytes | bytearray) -> None:
        worker = self.worker
        runtime = worker.current
        if worker.shedding is not None and worker.shedding.holds_back(
            self, data, 0.0 if self._served else self._opened_s
        ):
            return
        try:
            end = data.find(END_OF_HEAD) + 4
            if end < 5:  # Not there, or nothing before it: whoever knows the grammar decides.
                end = find_head_end(data, 0, scanned=self._scanned, limits=runtime.limits)
                if end < 0:
                    self._unfinished_head(data)
                    return
            head = parse_request_head(bytes(data[:end]), runtime.limits)
        except HeadError as error:
            self._scanned = 0
            self._refuse_head(error)
            return
        self._scanned = 0
        now = worker.clock()
        exchange = Exchange(self, runtime, head, now)
        exchange.bytes_received = end
        self._exchange = exchange
        self._served += 1
        self.bytes_sent = 0
        if head.chunked:
            self.phase = BODY
            decoder = self._decoder = ChunkedDecoder()
            try:
                payload, consumed = decoder.feed(bytes(data), end)
            except BodyError as error:
                exchange.refuse(error.status, error.reason, close=True)
                return
            ended = decoder.done
        elif head.content_length:
            self.phase = BODY
            payload = bytes(data[end : end + head.content_length])
            self._body_left = head.content_length - len(payload)
            consumed = end + len(payload)
            ended = self._body_left == 0
        else:
            payload = b""
            consumed = end
            ended = True
        if ended:
            self.phase = WAIT
        else:
            self._body_window_s = now
            self._body_window_bytes = len(payload)
        if consumed < len(data):
            self._hold(data[consumed:])
        exchange.begin(payload, ended)

    @property
    def queued(self) -> bool:
        """Whether its request waits for `go_on` or `turn_away`."""
        return self.phase == QUEUED

    def queue(self, data: bytes | bytearray) -> None:
        """Keep a whole request (and what came behind it) for later: we are overloaded."""
        self._scanned = 0
        self._pending = data if isinstance(data, bytearray) else bytearray(data)
        self.phase = QUEUED

    def go_on(self) -> None:
        """Serve the request that waits."""
        self.phase = HEAD
        self._pump()

    def turn_away(self) -> None:
        """Answer the request that waits with a 503. What follows it is read on, unless that is its body."""
        pending, self._pending = self._pending or bytearray(), None
        end = pending.find(END_OF_HEAD) + 4
        try:
            head = parse_request_head(bytes(pending[:end]), self.worker.current.limits)
        except HeadError as error:
            self._refuse_head(error)
            return
        whole = not head.chunked and not head.content_length
        self.phase = WAIT if whole else BODY
        if end < len(pending):
            self._pending = pending[end:]
        exchange = self._exchange = Exchange(self, self.worker.current, head, self.worker.clock())
        exchange.bytes_received = end
        self._served += 1
        self.bytes_sent = 0
        exchange.refuse(503, OVERLOADED, close=not whole)

    def _unfinished_head(self, data: bytes | bytearray) -> None:
        if self._pending is None:
            self._pending = data if isinstance(data, bytearray) else bytearray(data)
            if not self._scanned:
                self.set_deadline(self.worker.clock() + self.worker.current.head_timeout_s)
        self._scanned = len(data)

    def _refuse_head(self, error: HeadError) -> None:
        """Answer a request that is none: nothing after it can be trusted, so the connection ends."""
        self.worker.counters.bad_requests += 1
        exchange = Exchange(self, self.worker.current, None, self.worker.clock())
        self._exchange = exchange
        self._served += 1
        self.bytes_sent = 0
        self._pending = None
        self.phase = WAIT
        exchange.refuse(error.status, error.reason, close=True)

    def _receive_body(self, data: bytes, start: int) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        decoder = self._decoder
        if decoder is not None:
            try:
                payload, consumed = decoder.feed(data, start)
            except BodyError as error:
                exchange.refuse(error.status, error.reason, close=True)
                return
            ended = decoder.done
        else:
            left = self._body_left
            payload = data if len(data) <= left else data[:left]
            consumed = len(payload)
            self._body_left = left = left - consumed
            ended = left == 0
        self._body_window_bytes += len(payload)
        if ended:
            self.phase = WAIT
            self._decoder = None
            if consumed < len(data):
                self._hold(data[consumed:])
        exchange.on_request_body(payload, ended)

    def announced_bytes(self) -> int:
        """As in `Downstream`."""
        decoder = self._decoder
        return decoder.left if decoder is not None else 0

    def _hold(self, data: bytes | bytearray) -> None:
        """Keep what belongs to later requests until this one is answered."""
        if self._pending is None:
            self._pending = data if isinstance(data, bytearray) else bytearray(data)
        else:
            self._pending += data
        if len(self._pending) >= HELD_BYTES:
            self.pause_reading()

    def pause_reading(self) -> None:
        """Stop reading the client: what it sends cannot go on yet."""
        if not self._reading_paused and self.phase != CLOSED:
            self._reading_paused = True
            self.worker.memory.fill()
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read the client again."""
        if self._reading_paused and self.phase != CLOSED:
            self._reading_paused = False
            self.worker.memory.drain()
            self._body_window_s = self.worker.clock()
            self._body_window_bytes = 0
            self.transport.resume_reading()

    # ------------------------------------------------------------------------------------------------ answering
    def write_continue(self) -> None:
        """RFC 9110 section 10.1.1: the client waits for a 100 before it sends the body."""
        self._write(CONTINUE)

    def write_interim(self, message: bytes) -> None:
        """A 1xx of the upstream."""
        self._write(message)

    def write_head(self, head: RequestHead | None, start: bytes, length: int, body: bytes, flags: int) -> None:
        """As in `Downstream`. The connection is kept only if the client wants it and has sent the whole request."""
        worker = self.worker
        keep = (
            head is not None
            and head.keep_alive
            and not flags & CLOSE
            and self.phase == WAIT
            and not worker.draining
            and (not self._eof or self._pending is not None)
            and self._served < worker.current.keep_alive_requests
        )
        if length >= 0:
            framing = b"Content-Length: %d\r\n" % length
            chunked = False
        elif flags & BODILESS:
            framing = b""
            chunked = False
        elif head is not None and head.version >= 11:
            framing = b"Transfer-Encoding: chunked\r\n"
            chunked = True
            if body:
                body = chunk(body)
            if flags & END:
                body += LAST_CHUNK
        else:
            framing = b""
            chunked = False
            keep = False
        if not keep:
            framing += CLOSE_LINE
        elif head is not None and head.version < 11:
            framing += KEEP_ALIVE_LINE
        self._keep = keep
        self._chunked_answer = chunked
        self.head_bytes_sent = len(start) + len(framing) + 2
        self._write(start + framing + b"\r\n" + body)
        if flags & END:
            self._answered()

    def write_body(self, data: bytes, end: bool) -> None:
        """Write more of the body of the answer."""
        if self._chunked_answer:
            if data:
                data = chunk(data)
            if end:
                data += LAST_CHUNK
        if data:
            self._write(data)
        if end:
            self._answered()

    def write_tunnel(self, data: bytes) -> None:
        """Opaque bytes after a 101."""
        self._write(data)

    def begin_tunnel(self, message: bytes) -> None:
        """Write a 101 and what came behind it; from here on bytes are opaque."""
        self.phase = TUNNEL
        self.worker.counters.connections_upgraded += 1
        self._write(message)
        pending, self._pending = self._pending, None
        if self._reading_paused:
            self.resume_reading()
        if pending and self._exchange is not None:
            self._exchange.on_client_tunnel(bytes(pending))

    def end_tunnel(self) -> None:
        """The upstream will send no more."""
        if self.phase == TUNNEL and not self._eof and self.transport.can_write_eof():
            self.worker.outbox.flush()
            self.transport.write_eof()
        else:
            self._close()

    def close_tunnel(self) -> None:
        """The upstream is gone: what it sent goes out, then the connection ends."""
        self._exchange = None
        self._close()

    def refuse(self, status: int, lines: bytes, *, body: bytes | None, close: bool, head: RequestHead | None) -> None:
        """Write one of our own answers. `close` ends the connection behind it."""
        if body is None:
            body = PAGES.get(status, b"")
            lines += b"Content-Type: text/html\r\n"
        length = len(body)
        flags = END | CLOSE if close else END
        if head is not None and head.method == b"HEAD":
            flags |= BODILESS
            body = b""
        start = status_line(status) + self.worker.date_line + lines
        self.write_head(head, start, length, body, flags)

    def _answered(self) -> None:
        """The answer is out: on to the next request, or to the end."""
        exchange, self._exchange = self._exchange, None
        now = self.worker.clock()
        if exchange is not None:
            exchange.finish(now)
        self._decoder = None
        if self.phase == CLOSED:
            return
        if not self._keep:
            self._linger()
            return
        self.phase = HEAD
        if self._pending:
            self.worker.outbox.flush()  # So that `pause_writing` comes before the next request, and not in it.
        if not self.writing_paused:
            self._next_request(now)

    def _next_request(self, now: float) -> None:
        if self._pending:
            self.set_deadline(now + self.worker.current.head_timeout_s)
            self._pump()
        elif self._eof:
            self._close()
        else:
            if self._reading_paused:
                self.resume_reading()
            self.set_deadline(now + self.worker.current.keep_alive_s)

    # ------------------------------------------------------------------------------------------------ ends
    def set_deadline(self, at_s: float) -> None:
        """Be woken at `at_s` if nothing moves the deadline before."""
        self.deadline_s = at_s
        if self.wheel_slot < 0 or at_s < self.wheel_at_s:
            self.worker.wheel.schedule(self)

    def on_deadline(self, now: float) -> None:
        """A time-out passed; which one depends on what the connection was doing."""
        phase = self.phase
        if phase == HEAD:
            if self.writing_paused:
                self.abort()
            elif self._pending:
                self._refuse_head(HeadError(408, "client sent its head too slowly"))
                self._hurry(now)
            elif has_unread(self.transport):
                self.set_deadline(now + LATE_LINGER_S)  # A request came while we were late: it is not reset away.
            else:
                self._close()
        elif phase in (BODY, WAIT):
            exchange = self._exchange
            if exchange is None:
                self.abort()
            elif phase == BODY and not self._reading_paused and not exchange.answering and not exchange.connecting:
                self._body_deadline(exchange, now)
            else:
                exchange.on_deadline(now)
        elif phase == TUNNEL:
            if self._exchange is not None:
                self._exchange.on_tunnel_idle(now)
        elif phase == QUEUED:
            self.turn_away()
        else:
            self._last_bytes_deadline(now)

    def _body_deadline(self, exchange: Exchange, now: float) -> None:
        """The end of one `client-body-timeout`: has enough come in it?"""
        window_s = now - self._body_window_s
        if self._body_window_bytes < window_s * MIN_BODY_RATE_BYTES_PER_S:
            exchange.refuse(408, "client sent its body too slowly", close=True)
            self._hurry(now)
            return
        self._body_window_s = now
        self._body_window_bytes = 0
        self.set_deadline(now + self.worker.current.body_timeout_s)

    def _hurry(self, now: float) -> None:
        if self.phase == LINGER and not self._unsent_bytes:
            self.set_deadline(now + LATE_LINGER_S)

    def held_bytes(self) -> int:
        """What this connection and its exchange hold of our memory, by the costs in `proxy/runtime/memory.py`."""
        held = TLS_BYTES if self.tls else CONNECTION_BYTES
        held += int(self.transport.get_write_buffer_size())
        identity = self.transport.get_extra_info("client_identity") if self.tls else None
        if identity is not None:
            held += identity.held_bytes
        if self._pending is not None:
            held += len(self._pending)
        if self._exchange is not None:
            held += self._exchange.held_bytes()
        return held

    @property
    def idle(self) -> bool:
        """Whether it waits for a request of which nothing has arrived."""
        return self.phase == HEAD and not self._pending

    def close_if_idle(self, now: float) -> bool:
        """Close a connection that waits for a request of which nothing has arrived. For the drain.

        One that has just been opened gets a moment more: its first request is on the way.
        """
        if not self.idle or (self._served == 0 and now < self._opened_s + FRESH_S):
            return False
        self._close()
        return True
