"""The pump: a transport of plaintext over a transport of ciphertext, by `ssl.MemoryBIO` and `ssl.SSLObject`.

All connections of a worker share two BIOs. The rule that allows it: whoever puts ciphertext into `incoming` takes all
of it out again, and whoever lets OpenSSL write takes all of `outgoing`, before anything else is called. So nothing here
calls the application while a BIO holds a byte. An idle connection then holds no buffer at all: OpenSSL frees its own
(CPython sets SSL_MODE_RELEASE_BUFFERS) and no BIO keeps the size it once grew to.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from ingressd.proxy.tls.gate import HandshakeGate
from ingressd.proxy.tls.heap import HeapTrim, libc_trim

RECORD_BYTES: Final = 16384
"""The most plaintext of one record (RFC 8446 section 5.1), and so the most that one read returns."""

WRITE_SLICE_BYTES: Final = 262144
"""A larger write is encrypted in slices, which bounds what the shared BIO grows to."""

HANDSHAKE: Final = 0
OPEN: Final = 1
CLOSING: Final = 2


class AppProtocol(Protocol):
    """What the protocol above offers; the methods of `asyncio.Protocol`."""

    def connection_made(self, transport: Any) -> None:
        """The handshake is done."""

    def data_received(self, data: bytes) -> None:
        """Plaintext, 64 KiB at most."""

    def eof_received(self) -> bool | None:
        """The peer said, by close_notify, that it sends no more. True keeps the connection for writing."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone; `exc` is an `ssl.SSLError` after a TLS fault and after an end without close_notify."""

    def pause_writing(self) -> None:
        """The peer reads slower than we write."""

    def resume_writing(self) -> None:
        """The peer caught up."""


class TlsCounters(Protocol):
    """The numbers that connections from clients count; attributes of `WorkerCounters`."""

    tls_handshakes: int
    tls_resumed: int
    tls_failures: int


class TlsShare:
    """What all TLS connections of a worker share."""

    __slots__ = ("buffer", "counters", "date_line", "gate", "heap", "incoming", "loop", "outgoing")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        buffer: memoryview,
        *,
        counters: TlsCounters,
        date_line: Callable[[], bytes],
        gate: HandshakeGate | None = None,
    ) -> None:
        """`buffer` takes what one read brings (64 KiB); `date_line` returns `Date: …` with its CRLF."""
        self.loop = loop
        self.buffer = buffer
        self.counters = counters
        self.date_line = date_line
        self.gate = gate if gate is not None else HandshakeGate(loop)
        self.heap = HeapTrim(loop, libc_trim())
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()


class TlsTransport(asyncio.BufferedProtocol, asyncio.Transport):
    """Below: the protocol of a TCP transport. Above: the transport of an `AppProtocol`. One per connection.

    Writes are encrypted at once and leave in one write below; the only buffer for them is that of the TCP transport,
    whose limits and signals are passed on. While reading is paused nothing is read below; what one read had already
    brought (64 KiB) is all that is ever held.
    """

    __slots__ = (
        "_app",
        "_deliver",
        "_eof",
        "_eof_told",
        "_failure",
        "_held",
        "_paused",
        "_raw",
        "_share",
        "_ssl",
        "_ssl_read",
        "_ssl_write",
        "_state",
    )

    def __init__(self, share: TlsShare) -> None:
        self._share = share
        self._state = HANDSHAKE
        self._app: AppProtocol | None = None
        self._deliver: Callable[[bytes], None] = _discard
        self._raw: Any = None
        self._ssl: Any = None
        self._ssl_read: Any = None
        self._ssl_write: Any = None
        self._failure: Exception | None = None
        self._held = b""
        self._paused = False
        self._eof = False
        self._eof_told = False

    def __repr__(self) -> str:
        state = ("handshake", "open", "closing")[self._state]
        return f"<{type(self).__name__} {state}{', paused' if self._paused else ''}>"

    @property
    def handshaking(self) -> bool:
        """Whether the handshake is still under way."""
        return self._state == HANDSHAKE

    # ------------------------------------------------------------------------------------------------ from below
    def connection_made(self, transport: Any) -> None:
        self._raw = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._share.buffer

    def buffer_updated(self, nbytes: int) -> None:
        share = self._share
        if self._state != OPEN:
            if self._state == HANDSHAKE:
                self._receive_early(bytes(share.buffer[:nbytes]))
            return
        incoming = share.incoming
        incoming.write(share.buffer[:nbytes])
        try:
            data = self._ssl_read(RECORD_BYTES)
        except ssl.SSLError as error:
            data = b""
            self._read_failed(error)
        else:
            if incoming.pending:
                data = self._read_on(data)
            elif not data:
                self._eof = True
        if share.outgoing.pending:
            self._raw.write(share.outgoing.read())
        if data and not self._paused and not self._held:
            self._deliver(data)
            data = b""
        if data or self._eof or self._failure is not None:
            self._settle(data)

    def eof_received(self) -> bool:
        if self._state == OPEN and self._eof:
            # The end was announced, and the protocol above keeps the connection to write on.
            return True
        if self._state != CLOSING:
            self._state = CLOSING
            self._failure = ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the peer closed without close_notify")
            self._raw.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._state = CLOSING
        self._forget()
        app, self._app = self._app, None
        self._deliver = _discard
        if app is not None:
            app.connection_lost(self._failure or exc)

    def pause_writing(self) -> None:
        if self._app is not None:
            self._app.pause_writing()

    def resume_writing(self) -> None:
        if self._app is not None:
            self._app.resume_writing()

    # ------------------------------------------------------------------------------------------------ handshake
    def _receive_early(self, data: bytes) -> None:
        """Ciphertext before the handshake is done."""
        self._share.incoming.write(data)
        self._step_handshake()

    def _begin(self, ssl_object: ssl.SSLObject) -> None:
        # The object below ssl.SSLObject: one call less for each read and write, and 100 bytes.
        self._ssl = getattr(ssl_object, "_sslobj", ssl_object)
        self._ssl_read = self._ssl.read
        self._ssl_write = self._ssl.write

    def _step_handshake(self) -> None:
        share = self._share
        data = b""
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, ssl.CertificateError) as error:
            share.incoming.read()
            self._flush()
            self._handshake_failed(error)
            return
        if share.incoming.pending:
            data = self._read_on(b"")
        self._flush()
        self._state = OPEN
        self._handshake_done()
        self._settle(data)

    def _handshake_done(self) -> None:
        raise NotImplementedError

    def _handshake_failed(self, error: Exception) -> None:
        """Give up. What is in the write buffer, an alert perhaps, still goes out."""
        if self._state == HANDSHAKE:
            self._state = CLOSING
            # A traceback holds frames, and they the SSL object: until a collection of garbage, for they hold us, too.
            self._failure = error.with_traceback(None)
            self._raw.close()

    def handshake_timed_out(self) -> None:
        """The time for the handshake is over. Does nothing when it is done, or has not begun."""
        if self._state == HANDSHAKE and self._raw is not None:
            self._state = CLOSING
            self._failure = TimeoutError("TLS handshake timed out")
            self._raw.abort()

    # ------------------------------------------------------------------------------------------------ reading
    def _read_on(self, data: bytes) -> bytes:
        """Decrypt until `incoming` is empty; `data` is what came out so far."""
        incoming = self._share.incoming
        chunks = [data]
        try:
            while incoming.pending:
                data = self._ssl_read(RECORD_BYTES)
                if not data:
                    self._eof = True
                    incoming.read()
                chunks.append(data)
        except ssl.SSLError as error:
            self._read_failed(error)
        return b"".join(chunks)

    def _read_failed(self, error: ssl.SSLError) -> None:
        if isinstance(error, ssl.SSLWantReadError):
            return  # Part of a record, now inside OpenSSL, or a message of TLS itself: a ticket, a key update.
        self._share.incoming.read()
        if isinstance(error, ssl.SSLZeroReturnError):
            self._eof = True
        else:
            self._failure = error

    def _settle(self, data: bytes) -> None:
        """Everything that is not just plaintext in time: what has to wait, and the ways to end."""
        if self._held:
            data = self._held + data
            self._held = b""
        if data:
            if self._paused:
                self._held = data
                return
            self._deliver(data)
        if self._state != OPEN:
            return
        if self._failure is not None:
            self._state = CLOSING
            self._raw.close()
        elif self._eof and not self._paused and not self._eof_told:
            self._eof_told = True
            if self._app is None or not self._app.eof_received():
                self.close()

    def _resettle(self) -> None:
        if not self._paused and self._state == OPEN:
            self._settle(b"")

    def pause_reading(self) -> None:
        """Deliver nothing and read nothing until `resume_reading`. May be called twice."""
        if not self._paused and self._state != CLOSING:
            self._paused = True
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Deliver again, what is held first. May be called twice."""
        if self._paused and self._state != CLOSING:
            self._paused = False
            self._raw.resume_reading()
            if self._held or self._eof or self._failure is not None:
                self._share.loop.call_soon(self._resettle)

    def is_reading(self) -> bool:
        """Whether plaintext may come."""
        return not self._paused and self._state != CLOSING

    # ------------------------------------------------------------------------------------------------ writing
    def write(self, data: Any) -> None:
        """Encrypt and write; one write below for one here. Dropped when closing, like every asyncio transport does."""
        if self._state != OPEN or not data:
            return
        try:
            if len(data) <= RECORD_BYTES:
                self._ssl_write(data)
            else:
                self._write_large(memoryview(data))
        except ssl.SSLError as error:
            self._share.outgoing.read()
            self._state = CLOSING
            self._failure = error
            self._raw.abort()
            return
        self._raw.write(self._share.outgoing.read())

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Write the pieces as one."""
        self.write(b"".join(list_of_data))

    def _write_large(self, view: memoryview) -> None:
        outgoing = self._share.outgoing
        write = self._ssl_write
        at, size = 0, view.nbytes
        while at < size:
            if outgoing.pending > WRITE_SLICE_BYTES:
                self._raw.write(outgoing.read())
            # One record a call: CPython sets SSL_MODE_ENABLE_PARTIAL_WRITE.
            at += write(view[at : at + RECORD_BYTES])

    def _flush(self) -> None:
        if self._share.outgoing.pending:
            self._raw.write(self._share.outgoing.read())

    def can_write_eof(self) -> bool:
        """False: many peers take a close_notify for the end of both directions."""
        return False

    def write_eof(self) -> None:
        """Not supported; see `can_write_eof`."""
        raise NotImplementedError

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Limits of the write buffer below, in bytes of ciphertext."""
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Bytes of ciphertext that wait below."""
        return int(self._raw.get_write_buffer_size())

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Low and high limit below."""
        low, high = self._raw.get_write_buffer_limits()
        return low, high

    # ------------------------------------------------------------------------------------------------ ends
    def close(self) -> None:
        """Send what was written, close_notify, and close."""
        if self._state == CLOSING:
            return
        if self._state == OPEN:
            try:
                self._ssl.shutdown()
            except ssl.SSLError:
                # WANT_READ says that the peer's close_notify is not there yet; nobody waits for it (RFC 8446 6.1).
                pass
            self._flush()
        self._state = CLOSING
        self._held = b""
        self._raw.close()

    def abort(self) -> None:
        """Close now; what was not sent is lost and there is no close_notify, so the peer can tell."""
        if self._raw is not None:
            self._state = CLOSING
            self._held = b""
            self._raw.abort()

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called or the connection failed."""
        return self._state == CLOSING or (self._raw is not None and bool(self._raw.is_closing()))

    def _forget(self) -> None:
        self._ssl = self._ssl_read = self._ssl_write = None
        self._held = b""

    # ------------------------------------------------------------------------------------------------ about
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`ssl_object`, `tls_version`, `cipher` (name, protocol, bits), `alpn`, and what the TCP transport knows."""
        tls = self._ssl
        if name == "ssl_object":
            return tls if tls is not None else default
        if name in ("tls_version", "cipher", "alpn"):
            if tls is None:
                return default
            value = {"tls_version": tls.version, "cipher": tls.cipher, "alpn": tls.selected_alpn_protocol}[name]()
            return value if value is not None else default
        return self._raw.get_extra_info(name, default) if self._raw is not None else default

    def set_protocol(self, protocol: Any) -> None:
        """Put another protocol above; it gets no `connection_made`."""
        self._app = protocol
        self._deliver = protocol.data_received

    def get_protocol(self) -> Any:
        """The protocol above, None before the handshake is done."""
        return self._app


def _discard(data: bytes) -> None:
    """Where plaintext goes while there is nobody above."""
