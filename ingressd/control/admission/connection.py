"""Connections of the webhook, counted and watched: aiohttp has no limit of its own for either."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from aiohttp import web

MAX_CONNECTIONS: Final = 256
"""API servers keep up to 25 connections each; more is somebody else."""
IDLE_S: Final = 90.0
"""As long as API servers keep an idle connection (IdleConnTimeout of Go's http.Transport)."""


class Connections:
    """The open connections. One that has sent no whole request head within `patience_s`, or none for `IDLE_S` after an
    answer, is cut. Keyed by transport; an entry goes with its connection."""

    def __init__(self, *, patience_s: float, most: int = MAX_CONNECTIONS) -> None:
        self._patience_s = patience_s
        self._most = most
        self._deadlines: dict[asyncio.BaseTransport, asyncio.TimerHandle | None] = {}

    def __len__(self) -> int:
        return len(self._deadlines)

    def factory(self, make: Callable[[], web.RequestHandler]) -> Callable[[], asyncio.Protocol]:
        """A protocol factory whose connections are watched."""
        return lambda: _Watched(make(), self)

    def opened(self, transport: asyncio.Transport) -> bool:
        """Take a new connection, or cut it because there are too many."""
        if len(self._deadlines) >= self._most:
            transport.abort()
            return False
        self._watch(transport, self._patience_s)
        return True

    def busy(self, transport: asyncio.BaseTransport | None) -> None:
        """A request head is there: what follows has a deadline of its own."""
        if transport is not None and (handle := self._deadlines.get(transport)) is not None:
            handle.cancel()
            self._deadlines[transport] = None

    def idle(self, transport: asyncio.BaseTransport | None) -> None:
        """Answered."""
        if transport in self._deadlines:
            self._watch(cast("asyncio.Transport", transport), IDLE_S)

    def closed(self, transport: asyncio.BaseTransport | None) -> None:
        """Gone."""
        handle = self._deadlines.pop(transport, None) if transport is not None else None
        if handle is not None:
            handle.cancel()

    def abort(self) -> None:
        """Cut all of them."""
        for transport in list(self._deadlines):
            cast("asyncio.Transport", transport).abort()

    def _watch(self, transport: asyncio.Transport, seconds: float) -> None:
        self._deadlines[transport] = asyncio.get_running_loop().call_later(seconds, transport.abort)


class _Watched(asyncio.Protocol):
    """Passes everything to aiohttp's protocol, unless the connection is one too many."""

    def __init__(self, inner: web.RequestHandler, connections: Connections) -> None:
        self._inner = inner
        self._connections = connections
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._connections.opened(cast("asyncio.Transport", transport)):
            self._transport = transport
            self._inner.connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._transport is not None:
            self._connections.closed(self._transport)
            self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._transport is not None:
            self._inner.data_received(data)

    def eof_received(self) -> None:
        if self._transport is not None:
            self._inner.eof_received()

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._inner.resume_writing()
