"""Clients that tell what became of each connection: on new ones and on kept ones, and handshakes. A child process."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import struct
import time

from loadtest.abuse.children import on_load_cpu
from loadtest.control.child import serve
from loadtest.control.connection import Connection, open_connection, request_bytes
from loadtest.launch import unverified_context

PATIENCE_S = 5.0
REQUEST = request_bytes("localhost", "/101")
Record = tuple[float, float, str]
"""When it began, when it ended, what went wrong ("" for nothing) or, of a handshake, the certificate's digest."""


class Fetching:
    """The commands."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._records: dict[str, list[Record]] = {}
        self._ending = False

    async def begin(self, kinds: dict[str, int], host: str, port: int, rate: float) -> None:
        """So many clients of each kind (new, kept, handshake), one request each at a time; `rate` a second at most."""
        on_load_cpu()
        self._ending = False
        for kind, count in kinds.items():
            self._records[kind] = []
            one = {"new": self._new, "kept": self._kept, "handshake": self._handshake}[kind]
            self._tasks += [asyncio.create_task(one(host, port, count / rate)) for _ in range(count)]

    async def end(self) -> dict[str, list[Record]]:
        """Begin nothing any more, wait for what is under way; everything that came of it."""
        self._ending = True
        await asyncio.gather(*self._tasks)
        self._tasks = []
        records, self._records = self._records, {}
        return records

    async def _new(self, host: str, port: int, pause_s: float) -> None:
        while not self._ending:
            began = time.monotonic()
            connection = None
            try:
                async with asyncio.timeout(PATIENCE_S):
                    connection = await open_connection(host, port)
                    answer = await connection.ask(REQUEST)
                wrong = "" if answer.status == 200 else f"{answer.status} {answer.body[:60]}"
            except (OSError, TimeoutError) as error:
                wrong = f"no connection: {error!r}" if connection is None else repr(error)
            if connection is not None:
                connection.transport.abort()
            await self._note("new", began, wrong, pause_s)

    async def _kept(self, host: str, port: int, pause_s: float) -> None:
        connection: Connection | None = None
        while not self._ending:
            began = time.monotonic()
            wrong = ""
            try:
                async with asyncio.timeout(PATIENCE_S):
                    if connection is None or connection.lost:
                        connection = await open_connection(host, port)
                    answer = await connection.ask(REQUEST)
                wrong = "" if answer.status == 200 else f"{answer.status} {answer.body[:60]}"
            except (OSError, TimeoutError) as error:
                wrong = repr(error)
            if wrong and connection is not None:
                connection.transport.abort()
                connection = None
            await self._note("kept", began, wrong, pause_s)
        if connection is not None:
            connection.transport.abort()

    async def _handshake(self, host: str, port: int, pause_s: float) -> None:
        context = unverified_context()
        loop = asyncio.get_running_loop()
        while not self._ending:
            began = time.monotonic()
            sock = socket.socket()
            sock.setblocking(False)
            # A reset at the end, or the ports would be used up.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await loop.sock_connect(sock, (host, port))
                    transport, _ = await loop.create_connection(
                        asyncio.Protocol, sock=sock, ssl=context, server_hostname="localhost"
                    )
                der = transport.get_extra_info("ssl_object").getpeercert(True)
                said = hashlib.sha256(der).hexdigest()
                transport.abort()
            except (OSError, TimeoutError) as error:
                said = f"failed: {error!r}"
                sock.close()
            await self._note("handshake", began, said, pause_s)

    async def _note(self, kind: str, began: float, said: str, pause_s: float) -> None:
        now = time.monotonic()
        self._records[kind].append((began, now, said))
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(max(0.0, began + pause_s - now))


if __name__ == "__main__":
    _fetching = Fetching()
    serve({"begin": _fetching.begin, "end": _fetching.end})
