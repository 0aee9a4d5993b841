"""One probe of one endpoint, over the connection, the parser and the TLS of traffic. Runs in the controller."""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from ingressd.model.units import UpstreamTls
from ingressd.protocol.h1 import HeadLimits, ResponseHead
from ingressd.proxy.tls.client import UpstreamContext, upstream_context
from ingressd.proxy.tls.libssl import LibSsl
from ingressd.proxy.tls.transport import TlsShare
from ingressd.proxy.upstream.connection import ResponseHandler, UpstreamConnection
from ingressd.proxy.upstream.failure import Failure
from ingressd.proxy.upstream.opening import OUT_OF_RESOURCES, open_connection
from ingressd.proxy.upstream.outbox import Outbox
from ingressd.settings.config import HealthCheck
from ingressd.version import __version__

BUFFER_BYTES: Final = 65536
KEPT_CONTEXTS: Final = 64
"""Of the ways to speak TLS to endpoints, those that were used last: one that verifies by the authorities of the system
takes 20 ms to make."""


class Prober:
    """Sends probes. Every one has a connection of its own, so that it also says whether one can be made."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float], *, libssl: LibSsl | None) -> None:
        self._clock = clock
        self._outbox = Outbox(loop)
        self._libssl = libssl
        self._contexts: OrderedDict[UpstreamTls, ssl.SSLContext] = OrderedDict()
        self._limits = HeadLimits(request_line_bytes=BUFFER_BYTES, field_line_bytes=BUFFER_BYTES, underscores=True)
        buffer = memoryview(bytearray(BUFFER_BYTES))
        self._share = TlsShare(loop, buffer, counters=_NoCounters(), date_line=bytes)

    async def __call__(self, address: str, port: int, *, check: HealthCheck, tls: UpstreamTls | None) -> str | None:
        """Why the endpoint is not well, "" when it is, None when it could not be asked. Cancelling bounds the time."""
        at = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        host = check.host or at
        connection = UpstreamConnection(
            self._share.buffer,
            self._outbox,
            limits=self._limits,
            server_name="" if tls is None else tls.server_name or _without_port(check.host) or address,
            opened_s=self._clock(),
        )
        try:
            context = None if tls is None else self._context(tls)
            await open_connection(connection, address, port, context=context, share=self._share)
        except (ssl.SSLError, ValueError) as error:
            return f"TLS handshake failed: {error}"
        except OSError as error:
            return None if error.errno in OUT_OF_RESOURCES else error.strerror or str(error)
        answered: asyncio.Future[int | str] = asyncio.get_running_loop().create_future()
        message = (
            f"GET {check.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: ingressd-health-check/{__version__}\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n"
        )
        try:
            if not connection.reusable:
                return Failure.CLOSED.value
            connection.send(_Answer(answered), b"GET", message.encode("ascii"), True)
            status = await answered
        finally:
            connection.close()
        if isinstance(status, str):
            return status
        expected = any(least <= status <= most for least, most in check.expected_statuses)
        return "" if expected else f"answered {status}"

    def _context(self, tls: UpstreamTls) -> UpstreamContext:
        """Without sessions: each probe is to find out whether the endpoint's certificate is good now."""
        kept = self._contexts.pop(tls, None) or upstream_context(tls, libssl=self._libssl)
        self._contexts[tls] = kept
        if len(self._contexts) > KEPT_CONTEXTS:
            self._contexts.popitem(last=False)
        return UpstreamContext(kept)


def _without_port(host: str) -> str:
    """The name in a Host field."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


class _NoCounters:
    tls_handshakes = 0
    tls_resumed = 0
    tls_failures = 0


class _Answer(ResponseHandler):
    """Waits for the status; the body interests nobody."""

    __slots__ = ("_answered",)

    def __init__(self, answered: asyncio.Future[int | str]) -> None:
        self._answered = answered

    def _tell(self, what: int | str) -> None:
        if not self._answered.done():
            self._answered.set_result(what)

    def on_interim(self, connection: UpstreamConnection, head: ResponseHead) -> None:
        """More is to come."""

    def on_response(self, connection: UpstreamConnection, head: ResponseHead, body: bytes, end: bool) -> None:
        self._tell(head.status)

    def on_response_body(self, connection: UpstreamConnection, body: bytes, end: bool) -> None:
        """Nobody reads it."""

    def on_upgrade(self, connection: UpstreamConnection, head: ResponseHead, data: bytes) -> None:
        self._tell("101 that nobody asked for")

    def on_upstream_failed(self, connection: UpstreamConnection, failure: Failure, detail: str) -> None:
        self._tell(f"{failure.value}: {detail}" if detail else failure.value)

    def on_upstream_paused(self) -> None:
        """The request is one small write."""

    def on_upstream_resumed(self) -> None:
        """The request is one small write."""

    def on_tunnel(self, data: bytes) -> None:
        """There is none."""

    def on_tunnel_end(self) -> None:
        """There is none."""
