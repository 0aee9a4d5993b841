"""TLS from clients: the ClientHello is read first, then decides the certificate."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from ingressd.protocol.client_hello import MAX_BYTES, parse_client_hello
from ingressd.proxy.tls.clients import ClientIdentity
from ingressd.proxy.tls.store import TlsStore
from ingressd.proxy.tls.transport import CLOSING, HANDSHAKE, AppProtocol, TlsShare, TlsTransport

MAX_HELLO_RECORDS: Final = 16
"""Records that a ClientHello may be spread over. Each costs a look at all before it, so the number must be small."""

MAX_HELLO_BYTES: Final = MAX_BYTES + 4 + 5 * MAX_HELLO_RECORDS

MAX_PLAIN_BYTES: Final = 8192
"""How much of a plain HTTP request is awaited before it is answered: a whole head, so that no reset eats the answer."""

_HANDSHAKE_RECORD: Final = 0x16
_ALERT_DECODE_ERROR: Final = 50
_ALERT_UNRECOGNIZED_NAME: Final = 112
_METHODS: Final = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"TRACE ")

log = logging.getLogger("ingressd.tls")


class TlsServer(TlsTransport):
    """An accepted connection. The listener makes one for each; `make_app` is called when the handshake is done."""

    __slots__ = (
        "_hello",
        "_identity",
        "_make_app",
        "_on_lost",
        "_queued",
        "_record_at",
        "_records",
        "_scope",
        "_shown_bytes",
        "_store",
        "deadline_s",
        "host",
        "sni",
        "wheel_at_s",
        "wheel_slot",
    )

    def __init__(
        self,
        store: TlsStore,
        make_app: Callable[[TlsServer], AppProtocol],
        share: TlsShare,
        *,
        on_lost: Callable[[TlsServer], None] | None = None,
    ) -> None:
        """`on_lost` is called once when the connection is gone, whether the handshake was ever done or not."""
        super().__init__(share)
        self._store = store
        self._make_app = make_app
        self._on_lost = on_lost
        self._hello = b""
        self._record_at = 0
        self._records = 0
        self._queued = False
        self._scope = b""
        self._shown_bytes = 0
        self._identity: ClientIdentity | None = None
        self.sni: str | None = None
        """The name that the client asked for, lowercase."""
        self.host: str | None = None
        """The entry of the store that matched it ("" for the default certificate), None before the handshake."""
        self.deadline_s = 0.0
        self.wheel_slot = -1
        self.wheel_at_s = 0.0

    def on_deadline(self, now: float) -> None:
        """From the timer wheel: the handshake took too long."""
        self.handshake_timed_out()

    def connection_lost(self, exc: Exception | None) -> None:
        share = self._share
        share.heap.count()
        if self._app is None and (self._hello or self._records):
            # A connection without a byte is somebody's health check or a spare, not a failure.
            share.counters.tls_failures += 1
            log.debug("no TLS with %s: %s", self.get_extra_info("peername"), self._failure or exc)
        self._hello = b""
        super().connection_lost(exc)
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`sni` and `client_identity` (where the host asks for certificates) besides what every TLS transport knows."""
        if name == "client_identity":
            return self._identity
        if name == "sni":
            return self.sni if self.sni is not None else default
        return super().get_extra_info(name, default)

    def _receive_early(self, data: bytes) -> None:
        if self._ssl is not None:
            self._shown_bytes += len(data)
            super()._receive_early(data)
            return
        hello = self._hello = self._hello + data if self._hello else data
        # nginx tells plain HTTP from TLS by the first byte, too.
        if hello[0] != _HANDSHAKE_RECORD:
            self._receive_plain(hello)
        elif len(hello) > MAX_HELLO_BYTES or self._records > MAX_HELLO_RECORDS:
            self._refuse(_ALERT_DECODE_ERROR)
        elif not self._queued and self._record_ended(hello):
            self._receive_hello(hello)

    def _record_ended(self, hello: bytes) -> bool:
        """Whether another record is whole. Only then can the ClientHello be, and only then is it looked at again."""
        ended = False
        while len(hello) >= self._record_at + 5:
            end = self._record_at + 5 + int.from_bytes(hello[self._record_at + 3 : self._record_at + 5], "big")
            if end > len(hello):
                break
            self._record_at = end
            self._records += 1
            ended = True
        return ended

    def _receive_hello(self, hello: bytes) -> None:
        try:
            parsed = parse_client_hello(hello)
        except ValueError:
            self._refuse(_ALERT_DECODE_ERROR)
            return
        if parsed is not None:
            self.sni = parsed.sni
            self._queued = True
            self._share.gate.enter(self)

    def begin_handshake(self) -> None:
        """From the gate: choose the certificate and answer the ClientHello."""
        if self._state != HANDSHAKE:
            return
        selection = self._store.context_for(self.sni)
        if selection is None:
            self._refuse(_ALERT_UNRECOGNIZED_NAME)
            return
        self.host = selection.host
        self._scope = selection.scope
        share = self._share
        ssl_object = selection.front.wrap_bio(share.incoming, share.outgoing, server_side=True)
        if selection.certificate is not None:
            ssl_object.context = selection.certificate
        self._begin(ssl_object)
        hello, self._hello = self._hello, b""
        share.incoming.write(hello)
        self._step_handshake()

    def _handshake_done(self) -> None:
        counters = self._share.counters
        counters.tls_handshakes += 1
        self._share.heap.count()
        if self._ssl.session_reused:
            counters.tls_resumed += 1
        if self._scope:
            self._identity = self._store.identify(self._ssl, self._scope, shown_bytes=self._shown_bytes)
        app = self._app = self._make_app(self)
        self._deliver = app.data_received
        app.connection_made(self)

    def _refuse(self, alert: int) -> None:
        """End with a fatal alert; nothing is encrypted yet, so it is seven plain bytes (RFC 8446 section 6)."""
        self._raw.write(bytes((0x15, 3, 3, 0, 2, 2, alert)))
        self._handshake_failed(ConnectionAbortedError(f"TLS alert {alert} sent"))

    def _receive_plain(self, request: bytes) -> None:
        is_http = request.startswith(_METHODS)
        if is_http and b"\r\n\r\n" not in request and b"\n\n" not in request and len(request) < MAX_PLAIN_BYTES:
            return
        if not is_http and len(request) < 8 and any(method.startswith(request) for method in _METHODS):
            return
        self._raw.write(_plain_http_answer(is_http, self._share.date_line()))
        self._state = CLOSING
        self._failure = ConnectionAbortedError("not TLS")
        self._raw.close()


def _plain_http_answer(is_http: bool, date_line: bytes) -> bytes:
    """nginx's answer 497, which it sends as 400, and its 400 for what is not even HTTP."""
    title = b"400 The plain HTTP request was sent to HTTPS port" if is_http else b"400 Bad Request"
    said = b"<center>The plain HTTP request was sent to HTTPS port</center>\r\n" if is_http else b""
    body = (
        b"<html>\r\n<head><title>" + title + b"</title></head>\r\n<body>\r\n"
        b"<center><h1>400 Bad Request</h1></center>\r\n" + said + b"</body>\r\n</html>\r\n"
    )
    return (
        b"HTTP/1.1 400 Bad Request\r\n%sContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
        % (
            date_line,
            len(body),
            body,
        )
    )
