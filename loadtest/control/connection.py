"""A client's kept-alive HTTP/1.1 connection: one request at a time, and what came back."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, NamedTuple

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: close", re.IGNORECASE)

LOST = 0
"""In place of a status: the connection ended, or could not be made."""


class Answer(NamedTuple):
    """`body` is what a pod answers, its address; `at` when it had come whole."""

    status: int
    body: str
    at: float


def request_bytes(host: str, path: str, *, method: str = "GET", mark: str = "", body: bytes = b"") -> bytes:
    """One request. A mark is a field that pods take note of."""
    lines = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n"
    if mark:
        lines += f"X-Mark: {mark}\r\n"
    if body:
        lines += f"Content-Length: {len(body)}\r\n"
    return lines.encode() + b"\r\n" + body


class Connection(asyncio.Protocol):
    """Made by `open_connection`. `waiting` is the answer that is expected, None while it is idle."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport: Any = None
        self.waiting: asyncio.Future[Answer] | None = None
        self.lost = False
        self._held = b""
        self._closing = False

    @property
    def local_port(self) -> int:
        """Our port, by which the other end is found."""
        port: int = self.transport.get_extra_info("sockname")[1]
        return port

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """Send a request; its answer will come."""
        waiting = self.waiting = self.loop.create_future()
        if self.lost:
            self._done(Answer(LOST, "the connection had ended", time.monotonic()))
        else:
            self.transport.write(request)
        return waiting

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.waiting is not None:
            self._done(Answer(LOST, str(exc or "closed"), time.monotonic()))

    def data_received(self, data: bytes) -> None:
        data = self._held + data if self._held else data
        head, end, body = data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if end else None
        if length is None or len(body) < int(length[1]):
            self._held = data
            return
        self._held = b""
        if _CLOSE.search(head):
            self.lost = True
            self.transport.close()
        self._done(Answer(int(head[9:12]), body.decode("latin-1"), time.monotonic()))

    def _done(self, answer: Answer) -> None:
        waiting, self.waiting = self.waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)


async def open_connection(host: str, port: int) -> Connection:
    """Connect. Raises OSError."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, host, port)
    return connection
