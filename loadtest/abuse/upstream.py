"""The endpoint behind the abused proxy. A child process.

`GET /N` is answered with N bytes, a POST when its body is there (one in chunks never), an upgrade of `/silent` with
nothing behind the 101 and of any other path with bytes without end.
"""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any

from loadtest.abuse.children import on_load_cpu
from loadtest.control.child import serve

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_UPGRADE = re.compile(rb"\r\nupgrade: ", re.IGNORECASE)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
FRAME = b"\x82\x7e\x40\x00" + bytes(16384)
UNREAD_BYTES = 65536
"""What the kernel holds of an answer that the proxy does not read: this machine is to suffer from the proxy alone."""
BIGGEST = memoryview(bytes(8 << 20))
"""All large answers are slices of this, so that what nobody reads costs the endpoint nothing."""


class Endpoint(asyncio.Protocol):
    """One connection from the proxy."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._held = b""
        self._left = 0
        self._tunnel = False
        self._flood = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._tunnel:
            return
        if self._left:
            taken = min(self._left, len(data))
            self._left -= taken
            data = data[taken:]
            if self._left:
                return
            self._answer(2)
        self._held += data
        while not self._tunnel and not self._left and b"\r\n\r\n" in self._held:
            head, _, self._held = self._held.partition(b"\r\n\r\n")
            self._take(head)

    def _take(self, head: bytes) -> None:
        path = head.split(b" ", 2)[1]
        length = _LENGTH.search(head)
        if _UPGRADE.search(head):
            self._tunnel = True
            self._flood = path != b"/silent"
            self._transport.write(SWITCH)
            self.resume_writing()
        elif b"chunked" in head:
            self._tunnel = True  # Whoever sends one here does not end it.
        elif length is not None and int(length[1]):
            body, self._held = self._held, b""
            self._left = int(length[1])
            self.data_received(body)
        else:
            self._answer(int(path[1:]) if path[1:].isdigit() else 2)

    def _answer(self, size: int) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        self._transport.write(BIGGEST[:size])

    def pause_writing(self) -> None:
        self._flood, self._paused_flood = False, self._flood

    def resume_writing(self) -> None:
        self._flood = self._flood or getattr(self, "_paused_flood", False)
        while self._flood and not self._transport.is_closing():
            self._transport.write(FRAME)

    def eof_received(self) -> bool:
        return self._tunnel  # Half-closed tunnels stay: what ends them is the proxy's deadline.


class Upstream:
    """The commands."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None

    async def start(self, nice: int) -> int:
        """Listen; the port."""
        on_load_cpu(nice=nice)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD_BYTES)
        sock.bind(("127.0.0.1", 0))
        self._server = await asyncio.get_running_loop().create_server(Endpoint, sock=sock, backlog=4096)
        port: int = sock.getsockname()[1]
        return port


if __name__ == "__main__":
    serve({"start": Upstream().start})
