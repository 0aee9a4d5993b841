"""Echo upstreams: each answers with a JSON description of the request it saw, and keeps it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from stage.ports import Address, listening, new_host

Fields = list[tuple[str, str]]


class EchoLoop:
    """The event loop, in a thread of its own, that every echo of a test run shares."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: None)
        self._thread = threading.Thread(target=self.loop.run_forever, name="echo", daemon=True)
        self._thread.start()

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine there and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def close(self) -> None:
        """Stop the loop."""

        async def cancel_all() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.run(cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(60)
        self.loop.close()


@dataclass
class Seen:
    """One request as an echo saw it."""

    service: str
    endpoint: str
    method: str
    path: str
    version: str
    fields: Fields
    body_bytes: int
    at: float = field(default_factory=time.monotonic)

    def as_json(self, namespace: str) -> dict[str, Any]:
        """What the echo answers."""
        grouped: dict[str, list[str]] = {}
        for name, value in self.fields:
            grouped.setdefault(name.lower(), []).append(value)
        names = {"service": self.service, "namespace": namespace, "endpoint": self.endpoint}
        request = {"method": self.method, "path": self.path, "version": self.version, "body_bytes": self.body_bytes}
        return {**names, **request, "headers": grouped}


class Echo:
    """One endpoint. `does` may say how its answers differ from the plain one:

    status, headers {name: value or list}, body or body_bytes (a size), delay_ms, stream {chunks, interval_ms} (chunked
    lines chunk-0, chunk-1, …), raw (a verbatim response, then close), close (read the request, close without an
    answer), refuse (nothing listens).
    """

    def __init__(self, loop: EchoLoop, service: str, endpoint: str, sock: socket.socket, **options: Any) -> None:
        self.service, self.endpoint = service, endpoint
        self.namespace: str = options.pop("namespace", "default")
        self.tls: ssl.SSLContext | None = options.pop("tls", None)
        self.does: dict[str, Any] = options.pop("does", None) or {}
        assert not options, options
        self.address: Address = sock.getsockname()[:2]
        self.seen: list[Seen] = []
        self.accepted = 0
        self._loop, self._sock = loop, sock
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        if self.does.get("refuse"):
            sock.close()
        else:
            loop.run(self._start())

    async def _start(self) -> None:
        self._sock.setblocking(False)
        self._server = await asyncio.start_server(self._serve, sock=self._sock, ssl=self.tls, limit=1 << 20)

    def close(self) -> None:
        """Stop listening and end every connection."""

        async def close() -> None:
            if self._server is not None:
                self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()

        self._loop.run(close())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError, OSError, asyncio.IncompleteReadError, ValueError):
            while await self._exchange(reader, writer):
                pass
        self._writers.discard(writer)
        writer.close()

    # --- one exchange -------------------------------------------------------------------------------------------------

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")[:-4].split("\r\n")
        method, path, version = head[0].split(" ")
        pairs = [line.partition(":") for line in head[1:]]
        fields = [(name, value.strip(" \t")) for name, _, value in pairs]
        get = {name.lower(): value for name, value in fields}.get
        if (get("expect") or "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        size = await self._read_body(
            reader, chunked=bool(get("transfer-encoding")), length=get("content-length") or "0"
        )
        seen = Seen(self.service, self.endpoint, method, path, version.removeprefix("HTTP/"), fields, size)
        self.seen.append(seen)
        await asyncio.sleep(self.does.get("delay_ms", 0) / 1000)
        if self.does.get("close"):
            return False
        if "raw" in self.does:
            writer.write(self.does["raw"].encode("latin-1"))
            await writer.drain()
            return False
        if (get("upgrade") or "").lower() == "websocket":
            await self._websocket(get("sec-websocket-key") or "", reader, writer)
            return False
        await self._answer(seen, writer)
        return (get("connection") or "").lower() != "close"

    @staticmethod
    async def _read_body(reader: asyncio.StreamReader, *, chunked: bool, length: str) -> int:
        if not chunked:
            for size in [65536] * (int(length) // 65536) + [int(length) % 65536]:
                await reader.readexactly(size)
            return int(length)
        total = 0
        while size := int((await reader.readline()).split(b";")[0], 16):
            await reader.readexactly(size + 2)
            total += size
        while (await reader.readline()).strip():
            pass
        return total

    async def _answer(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        does = self.does
        fields = {"Content-Type": "application/json", **does.get("headers", {})}
        lines = [f"HTTP/1.1 {does.get('status', 200)} Status"]
        for name, value in fields.items():
            lines += [f"{name}: {item}" for item in (value if isinstance(value, list) else [value])]
        if "stream" in does:
            writer.write("\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode("latin-1"))
            for number in range(does["stream"]["chunks"]):
                chunk = b"chunk-%d\n" % number
                writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                await writer.drain()
                await asyncio.sleep(does["stream"]["interval_ms"] / 1000)
            writer.write(b"0\r\n\r\n")
        else:
            body = str(does["body"]).encode() if "body" in does else json.dumps(seen.as_json(self.namespace)).encode()
            body = b"x" * does["body_bytes"] if "body_bytes" in does else body
            head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1")
            writer.write(head + (b"" if seen.method == "HEAD" else body))
        await writer.drain()

    async def _websocket(self, key: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accept = base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        while True:
            first, second = await reader.readexactly(2)
            assert second & 0x80 and second & 0x7F < 126, "the tests send short masked frames only"
            mask = await reader.readexactly(4)
            payload = bytes(byte ^ mask[i & 3] for i, byte in enumerate(await reader.readexactly(second & 0x7F)))
            writer.write(bytes([first, len(payload)]) + payload)
            await writer.drain()


def raise_echoes(loop: EchoLoop, service: str, count: int = 1, **options: Any) -> list[Echo]:
    """`count` endpoints NAME-0, NAME-1, …, each on a loopback host of its own, all on one port."""
    socks = listening([new_host() for _ in range(count)])
    return [Echo(loop, service, f"{service}-{number}", sock, **options) for number, sock in enumerate(socks)]
