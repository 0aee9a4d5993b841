"""HTTP/1.1 as the server speaks it: requests from a stream, answers to it, with the faults of `faults`."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http
import urllib.parse
from dataclasses import dataclass, field
from typing import Any, Final

from stage.apiserver.faults import Fault, Slow, Truncate

GZIP_FROM_BYTES: Final = 128 * 1024
"""As the real one: smaller answers are not worth it."""
HEAD_LIMIT: Final = 1 << 20


@dataclass
class Request:
    """One request, and what became of it. `status` is 0 until it is answered."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    at: float
    verb: str = ""
    status: int = 0
    keep_alive: bool = True
    answer_bytes: int = field(default=0)

    @property
    def accept(self) -> str:
        """The field `Accept`."""
        return self.headers.get("accept", "")


async def read_request(reader: asyncio.StreamReader, at: Any) -> Request | None:
    """The next request of a connection, None at its end. Raises ConnectionError, ValueError."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    received = at()
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    path, _, query = target.partition("?")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(
        method,
        urllib.parse.unquote(path),
        dict(urllib.parse.parse_qsl(query, keep_blank_values=True)),
        headers,
        body,
        received,
        keep_alive=headers.get("connection", "").lower() != "close",
    )


class Wire:
    """The answering side of one connection. `Slow` and `Truncate` are done here."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._queue: asyncio.Queue[bytes] | None = None
        self._dripping: asyncio.Task[None] | None = None

    @property
    def closing(self) -> bool:
        """Is the connection gone or on its way?"""
        return self._writer.is_closing()

    def reset(self) -> None:
        """End the connection with a reset, or as near to it as the transport can."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """End the connection in good order."""
        if self._dripping is not None:
            self._dripping.cancel()
        self._writer.close()
        with contextlib.suppress(ConnectionError, OSError):
            await self._writer.wait_closed()

    async def answer(self, request: Request, code: int, body: bytes, *, fault: Fault | None, extra: str = "") -> None:
        """One whole answer."""
        request.status = code
        encoding = ""
        if len(body) >= GZIP_FROM_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
            body, encoding = gzip.compress(body, 1, mtime=0), "Content-Encoding: gzip\r\n"
        request.answer_bytes = len(body)
        head = (
            f"HTTP/1.1 {code} {http.HTTPStatus(code).phrase}\r\nContent-Type: application/json\r\n{encoding}{extra}"
            f"Cache-Control: no-cache, private\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        if isinstance(fault, Truncate):
            self._writer.write(head + body[: len(body) // 2])
            await self._writer.drain()
            self.reset()
            return
        if isinstance(fault, Slow):
            self._writer.write(head)
            await self._drip(body, fault)
        else:
            self._writer.write(head)
            self._writer.write(body)
        await self._writer.drain()

    def begin_stream(self, request: Request) -> None:
        """The head of a watch."""
        request.status = 200
        self._writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-cache, private\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )

    def chunk(self, line: bytes, *, fault: Fault | None) -> bool:
        """One piece of a watch; True when all of it was written (or will be, drop by drop)."""
        if self.closing:
            return False
        if isinstance(fault, Truncate):
            half = line[: len(line) // 2]
            self._writer.write(b"%x\r\n%s\r\n" % (len(half), half))
            # Not an abort: what was written has to arrive, without the end of the chunked body.
            self._writer.close()
            return False
        if self._queue is None and isinstance(fault, Slow):
            self._queue = asyncio.Queue()
            self._dripping = asyncio.get_running_loop().create_task(self._drip_queue(self._queue, fault))
        if self._queue is not None:
            self._queue.put_nowait(line)
        else:
            self._writer.write(b"%x\r\n%s\r\n" % (len(line), line))
        return True

    def end_stream(self) -> None:
        """The end of a watch in good order."""
        if not self.closing:
            self._writer.write(b"0\r\n\r\n")

    async def _drip_queue(self, queue: asyncio.Queue[bytes], fault: Slow) -> None:
        while True:
            line = await queue.get()
            for start in range(0, len(line), fault.piece_bytes):
                piece = line[start : start + fault.piece_bytes]
                await asyncio.sleep(fault.pause_s)
                self._writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    async def _drip(self, body: bytes, fault: Slow) -> None:
        for start in range(0, len(body), fault.piece_bytes):
            await asyncio.sleep(fault.pause_s)
            self._writer.write(body[start : start + fault.piece_bytes])
            await self._writer.drain()
