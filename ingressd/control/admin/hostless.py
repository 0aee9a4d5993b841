"""Monitors that send HTTP/1.1 without a Host are answered: nothing here depends on it, but aiohttp refuses them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from aiohttp import web

_LACKS_HOST = re.compile(rb"(?:GET|HEAD) [!-~]+ HTTP/1\.1\r\n(?!(?:[^\r\n]*\r\n)*?host[ \t]*:)", re.IGNORECASE).match


def factory(make: Callable[[], web.RequestHandler]) -> Callable[[], asyncio.Protocol]:
    """A protocol factory that gives an empty Host to GETs and HEADs that come in one piece and have none."""
    return lambda: _Connection(make())


class _Connection(asyncio.Protocol):
    """Passes everything to aiohttp's protocol."""

    def __init__(self, inner: web.RequestHandler) -> None:
        self._inner = inner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inner.connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n") + 2
        if end > 1 and _LACKS_HOST(data, 0, end):
            first = data.index(b"\n") + 1
            data = data[:first] + b"Host:\r\n" + data[first:]
        self._inner.data_received(data)

    def eof_received(self) -> None:
        self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
