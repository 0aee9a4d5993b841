"""Upstreams that keep every byte they receive and answer as the current case says."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cases.grammar import Request, read_requests
from stage.echo import EchoLoop
from stage.ports import Address, listening

CANARY = "/__canary"
Steps = list[dict[str, Any]]


def nonce(target: str) -> str:
    """What the plain answer to a request says in X-T."""
    return re.sub(r"[^\x21-\x7e]", "?", target[:200])


@dataclass
class Connection:
    """One connection of the proxy to an upstream. `mark` is where the current case began."""

    upstream: str
    received: bytearray = field(default_factory=bytearray)
    mark: int = 0
    spoke_s: float = 0.0
    """When the first byte of the current case came."""
    closed: bool = False

    @property
    def of_case(self) -> bytes:
        """What came since the current case began."""
        return bytes(self.received[self.mark :])


class Recorder:
    """The upstreams u1, u2, pub and adm of the raw cases.

    The plain answer is 200 "ok" with the upstream's name in X-Up and the target in X-T, so that an answer that went to
    the wrong request is seen. A case may have u1 answer otherwise: `upstream`, one string or steps.
    """

    def __init__(self, loop: EchoLoop) -> None:
        self._loop = loop
        self._script: Steps = []
        self._case = 0
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self.connections: list[Connection] = []
        self.heard = b""
        """What the client of this case has received so far."""
        self.addresses: dict[str, Address] = {}
        for name in ("u1", "u2", "pub", "adm"):
            sock = listening(["127.0.0.1"])[0]
            self.addresses[name] = sock.getsockname()
            loop.run(self._listen(name, sock))

    async def _listen(self, name: str, sock: socket.socket) -> None:
        sock.setblocking(False)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(name, reader, writer)

        self._servers.append(await asyncio.start_server(serve, sock=sock))

    def close(self) -> None:
        """End them."""

        async def close() -> None:
            for server in self._servers:
                server.close()

        self._loop.run(close())
        self._loop.run(self._drop_connections())

    async def _drop_connections(self) -> None:
        for writer in self._writers:
            writer.close()
        while self._writers:
            await asyncio.sleep(0.005)

    def begin(self, script: Steps) -> None:
        """A new case: forget closed connections, mark the open ones, and let u1 play this once on each connection."""
        self._script, self._case, self.heard = script, self._case + 1, b""
        if script and script[0].get("on") == "connect":
            self._loop.run(self._drop_connections())  # The proxy must connect anew, not take one from its pool.
            time.sleep(0.05)
        self.connections = [connection for connection in self.connections if not connection.closed]
        for connection in self.connections:
            connection.mark = len(connection.received)

    def used(self) -> list[Connection]:
        """The connections that received something in this case, in the order in which they did."""
        used = [connection for connection in self.connections if connection.of_case]
        return sorted(used, key=lambda connection: connection.spoke_s)

    # --- serving ------------------------------------------------------------------------------------------------------

    async def _serve(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(name)
        self.connections.append(connection)
        self._writers.add(writer)
        playing: asyncio.Task[None] | None = None
        answered = played = 0  # `played` is the case that was last played on this connection.
        with contextlib.suppress(ConnectionError, OSError):
            if name == "u1" and self._script and self._script[0].get("on") == "connect":
                played = self._case
                await self._play(connection, writer, self._script[1:])
            while data := await reader.read(65536):
                if not connection.of_case:
                    connection.spoke_s = time.monotonic()
                connection.received += data
                for request in read_requests(bytes(connection.received)).requests[answered:]:
                    scripted = name == "u1" and bool(self._script) and request.target != CANARY
                    if scripted and played != self._case:
                        played, answered = self._case, answered + 1
                        playing = asyncio.create_task(self._play(connection, writer, self._script), name="script")
                    elif scripted:
                        answered += 1
                    elif request.complete:
                        answered += 1
                        await self._answer(name, request, writer)
        connection.closed = True
        if playing is not None:
            playing.cancel()
        self._writers.discard(writer)
        writer.close()

    @staticmethod
    async def _answer(name: str, request: Request, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Up: {name}\r\nX-T: {nonce(request.target)}\r\n\r\n"
        writer.write(head.encode() + (b"" if request.method == "HEAD" else b"ok"))
        await writer.drain()

    async def _play(self, connection: Connection, writer: asyncio.StreamWriter, script: Steps) -> None:
        received = len(connection.received)
        with contextlib.suppress(ConnectionError, OSError):
            for step in script:
                await asyncio.sleep(step.get("wait_ms", 0) / 1000)
                if "wait_bytes" in step:
                    await _until(lambda step=step: len(connection.received) - received >= step["wait_bytes"])
                if "wait_heard" in step:
                    await _until(lambda step=step: step["wait_heard"].encode("latin-1") in self.heard)
                if step.get("close"):
                    writer.close()
                if step.get("reset"):
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.transport.abort()
                data = step.get("send", "").encode("latin-1") * step.get("times", 1)
                size = step.get("pieces", len(data) or 1)
                for start in range(0, len(data), size):
                    writer.write(data[start : start + size])
                    await writer.drain()
                    await asyncio.sleep(step.get("pause_ms", 0) / 1000)


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
