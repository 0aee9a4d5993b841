"""The PROXY header at the beginning of a connection: read before TLS and HTTP, and believed only of trusted senders.

A sender outside `proxy-real-ip-cidr` may say no more than the kernel does: a header that names the sender's own address
is taken, any other ends the connection. So does a header that is malformed, missing or late, without a word: there is
no protocol yet to say it in, and an automatic guess would let clients choose their address (proxy-protocol.txt, 5).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ingressd.protocol.proxy_protocol import Address, ProxyHeader, ProxyHeaderError, parse_proxy_header
from ingressd.proxy.runtime.worker import Worker

log = logging.getLogger("ingressd.proxy_protocol")


class ProxyPreface:
    """The protocol of a connection until its header is whole; then `make` gives the one that takes over."""

    __slots__ = ("_data", "_make", "_sender", "_transport", "_worker", "deadline_s", "wheel_at_s", "wheel_slot")

    def __init__(self, worker: Worker, make: Callable[[Address | None, bytes | None], Any]) -> None:
        """`make(client, port)`: the client's address and the port it asked for; None when the connection's count."""
        self._worker = worker
        self._make = make
        self._transport: Any = None
        self._sender = ""
        self._data = b""
        process = worker.current.process
        # nginx bounds it as it does a head; ingress-nginx's own key is for its TCP services alone.
        timeout_s = min(process.proxy_protocol_timeout_s, process.client_header_timeout_s)
        self.deadline_s = worker.clock() + timeout_s
        self.wheel_slot = -1
        self.wheel_at_s = 0.0
        worker.wheel.schedule(self)
        worker.arrivals.add(self)

    # ------------------------------------------------------------------------------------------------ asyncio
    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        peer = transport.get_extra_info("peername")
        if peer:
            self._sender = peer[0].removeprefix("::ffff:")

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._worker.buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = self._data = self._data + self._worker.buffer[:nbytes].tobytes()
        try:
            header = parse_proxy_header(data)
            if header is not None:
                self._take_over(header, data[header.size_bytes :])
        except ProxyHeaderError as error:
            self._refuse(str(error))

    def eof_received(self) -> bool:
        if self._data:
            self._refuse("ended inside the PROXY header")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def _leave(self) -> None:
        self._worker.wheel.remove(self)
        self._worker.arrivals.discard(self)

    def pause_writing(self) -> None:
        """Nothing is written here."""

    def resume_writing(self) -> None:
        """Nothing is written here."""

    def on_deadline(self, now: float) -> None:
        """From the timer wheel: `proxy-protocol-header-timeout` or `client-header-timeout` is over."""
        self._refuse("PROXY header took too long")

    # ------------------------------------------------------------------------------------------------ verdict
    def _take_over(self, header: ProxyHeader, rest: bytes) -> None:
        worker = self._worker
        transport = self._transport
        client, port = header.source, None
        if worker.current.forwarder.trusts(self._sender):
            if header.destination is not None:
                port = str(header.destination[1]).encode("ascii")
        elif client is None or client[0] != self._sender:
            raise ProxyHeaderError("sender is not within proxy-real-ip-cidr")
        else:
            client = None
        self._data = b""
        protocol = self._make(client, port)
        self._leave()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if rest:
            protocol.get_buffer(len(rest))[: len(rest)] = rest
            protocol.buffer_updated(len(rest))

    def _refuse(self, reason: str) -> None:
        worker = self._worker
        self._leave()
        worker.counters.proxy_headers_refused += 1
        transport = self._transport
        if transport is not None and not transport.is_closing():
            log.debug("connection of %s closed: %s", self._sender, reason)
            transport.abort()
