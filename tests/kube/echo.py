"""What runs in a stand-in pod: an HTTP server that says who it is and what it was asked.

The answer has the fields of the conformance suites' echo server (`path`, `host`, `method`, `proto`, `headers` with
Go's spelling of names, `namespace`, `ingress`, `service`, `pod`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Any

from kube.api import Object

DEFAULT_PORT = 3000


@dataclass(frozen=True)
class Seen:
    """One request that arrived whole at a pod."""

    pod: str
    method: str
    path: str
    mark: str
    """The value of its X-Mark field, by which a test tells its requests apart."""


class Echo:
    """The server of one pod, on its addresses and the ports that its containers declare.

    The environment of the first container names it: POD_NAME, NAMESPACE, SERVICE_NAME, INGRESS_NAME; pod and namespace
    are known anyway. `DELAY_MS` makes every answer wait.
    """

    def __init__(self, pod: Object) -> None:
        metadata, container = pod["metadata"], pod["spec"]["containers"][0]
        environment = {one["name"]: one.get("value", "") for one in container.get("env", ())}
        self.namespace: str = metadata["namespace"]
        self.pod: str = metadata["name"]
        self._says = {
            "namespace": self.namespace,
            "ingress": environment.get("INGRESS_NAME", ""),
            "service": environment.get("SERVICE_NAME", ""),
            "pod": self.pod,
        }
        self._delay_s = float(environment.get("DELAY_MS", "0")) / 1000
        every = [one for part in pod["spec"]["containers"] for one in part.get("ports", ())]
        self.ports = sorted({one["containerPort"] for one in every if one.get("protocol", "TCP") == "TCP"})
        if not self.ports:
            self.ports = [int(environment.get("HTTP_PORT", DEFAULT_PORT))]
        self.seen: list[Seen] = []
        self.refuses: set[str] = set()
        """Paths that are answered 503."""
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, addresses: tuple[str, ...]) -> None:
        """Listen on every port of every address."""
        for port in self.ports:
            self._servers.append(await asyncio.start_server(self._serve, list(addresses), port, limit=1 << 20))

    def exit(self) -> None:
        """End as a process does that exits at once: closed sockets, a reset where something was left unread."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(ConnectionError, OSError, asyncio.IncompleteReadError, ValueError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")[:-4].split("\r\n")
        method, path, proto = head[0].split(" ")
        headers: dict[str, list[str]] = {}
        for line in head[1:]:
            name, _, value = line.partition(":")
            headers.setdefault(_as_go_spells(name), []).append(value.strip(" \t"))
        await _read_body(reader, headers)
        self.seen.append(Seen(self.pod, method, path, "".join(headers.get("X-Mark", ()))))
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        host = "".join(headers.pop("Host", ()))
        body = self._body(path=path, host=host, method=method, proto=proto, headers=headers)
        status = b"503 Service Unavailable" if path in self.refuses else b"200 OK"
        head_out = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        writer.write(head_out + (b"" if method == "HEAD" else body))
        await writer.drain()
        return headers.get("Connection") != ["close"]

    def _body(self, **request: Any) -> bytes:
        return json.dumps({**request, **self._says}, indent=1).encode()


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, list[str]]) -> None:
    if "Transfer-Encoding" not in headers:
        await reader.readexactly(int("".join(headers.get("Content-Length", ("0",)))))
        return
    while size := int((await reader.readline()).split(b";")[0], 16):
        await reader.readexactly(size + 2)
    while (await reader.readline()).strip():
        pass


def _as_go_spells(name: str) -> str:
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))
