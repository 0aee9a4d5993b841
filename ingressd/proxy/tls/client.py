"""TLS to upstreams."""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakValueDictionary

from ingressd.model.units import UpstreamTls
from ingressd.proxy.tls.contexts import load_pair, set_ciphers, set_versions
from ingressd.proxy.tls.libssl import LibSsl
from ingressd.proxy.tls.transport import CLOSING, AppProtocol, TlsShare, TlsTransport

MAX_SESSIONS: Final = 256
"""Sessions kept for one upstream policy; keyed by server name and address, the oldest goes."""


class UpstreamContext:
    """How to open TLS to the endpoints of an upstream, and the sessions to resume there."""

    __slots__ = ("__weakref__", "_sessions", "context")

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self._sessions: OrderedDict[tuple[str, Any], ssl.SSLSession] = OrderedDict()

    def session(self, server_hostname: str, address: Any) -> ssl.SSLSession | None:
        """The session last begun there under that name."""
        return self._sessions.get((server_hostname, address))

    def keep_session(self, server_hostname: str, address: Any, session: ssl.SSLSession) -> None:
        """Remember a session for the next connection."""
        key = (server_hostname, address)
        self._sessions[key] = session
        self._sessions.move_to_end(key)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)


class UpstreamContexts:
    """Contexts by value, so that upstreams with one policy share one. A context lives as long as somebody holds it."""

    __slots__ = ("_contexts", "_libssl")

    def __init__(self, libssl: LibSsl | None) -> None:
        self._contexts: WeakValueDictionary[UpstreamTls, UpstreamContext] = WeakValueDictionary()
        self._libssl = libssl

    def get(self, tls: UpstreamTls) -> UpstreamContext:
        """The context of this policy. Raises ValueError with a reason for the user when there can be none."""
        found = self._contexts.get(tls)
        if found is None:
            found = self._contexts[tls] = UpstreamContext(upstream_context(tls, libssl=self._libssl))
        return found


def upstream_context(tls: UpstreamTls, *, libssl: LibSsl | None) -> ssl.SSLContext:
    """A new context for connections to endpoints. Raises ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    set_versions(context, tls.protocols)
    set_ciphers(context, tls.ciphers or "DEFAULT", protocols=tls.protocols)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.check_hostname = tls.verify
    context.verify_mode = ssl.CERT_REQUIRED if tls.verify else ssl.CERT_NONE
    if tls.verify:
        if tls.ca_pem:
            try:
                context.load_verify_locations(cadata=tls.ca_pem.decode("ascii"))
            except (ssl.SSLError, ValueError) as error:
                raise ValueError("the CA certificates cannot be loaded") from error
        else:
            context.set_default_verify_paths()
        if libssl is not None:
            libssl.set_verify_depth(context, tls.verify_depth)
    if tls.cert_pem and tls.key_pem is not None:
        load_pair(context, tls.cert_pem, tls.key_pem)
    return context


class TlsClient(TlsTransport):
    """An opened connection: `loop.create_connection(lambda: TlsClient(…), address, port)`, then wait for `on_ready`."""

    __slots__ = ("_client_app", "_context", "_on_ready", "_server_hostname")

    def __init__(
        self,
        context: UpstreamContext,
        app: AppProtocol,
        share: TlsShare,
        *,
        server_hostname: str,
        on_ready: Callable[[BaseException | None], None],
    ) -> None:
        """`server_hostname` is sent as SNI and, where the policy verifies, must be in the certificate; "" for neither.

        `on_ready` is called exactly once: with None after `app.connection_made`, or with what went wrong
        (`ssl.SSLCertVerificationError`, `ssl.SSLError`, `OSError`, `ValueError`), and then `app` hears nothing.
        The time-out is the caller's: `handshake_timed_out()`.
        """
        super().__init__(share)
        self._context = context
        self._client_app = app
        self._server_hostname = server_hostname
        self._on_ready: Callable[[BaseException | None], None] | None = on_ready

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        share, name = self._share, self._server_hostname
        session = self._context.session(name, transport.get_extra_info("peername"))
        try:
            if not name and self._context.context.check_hostname:
                # `wrap_bio` would go on and verify no name at all.
                raise ValueError("there is no server name to verify")
            # SNI and names in certificates carry no trailing dot (RFC 6066 section 3).
            ssl_object = self._context.context.wrap_bio(
                share.incoming, share.outgoing, server_hostname=name.rstrip(".") or None, session=session
            )
        except ValueError as error:
            self._handshake_failed(error)
            return
        self._begin(ssl_object)
        self._step_handshake()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        on_ready, self._on_ready = self._on_ready, None
        if on_ready is not None:
            on_ready(self._failure or exc or ConnectionResetError("closed during the TLS handshake"))

    def _handshake_done(self) -> None:
        app = self._app = self._client_app
        self._deliver = self._deliver_first
        on_ready, self._on_ready = self._on_ready, None
        app.connection_made(self)
        if on_ready is not None:
            on_ready(None)

    def _handshake_failed(self, error: Exception) -> None:
        super()._handshake_failed(error)
        on_ready, self._on_ready = self._on_ready, None
        if on_ready is not None:
            on_ready(error)

    def _deliver_first(self, data: bytes) -> None:
        """With TLS 1.3 the session can be had only now: tickets come after the handshake."""
        session = self._ssl.session
        if session is not None and session.has_ticket:
            self._context.keep_session(self._server_hostname, self._raw.get_extra_info("peername"), session)
        app = self._app
        if app is not None and self._state != CLOSING:
            self._deliver = app.data_received
            app.data_received(data)
