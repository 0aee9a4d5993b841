"""The client: a kept-alive connection to every worker to watch a route through, and load at a steady rate.

A child process.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

from loadtest.control.child import serve
from loadtest.control.connection import Answer, Connection, open_connection, request_bytes
from loadtest.control.load import Load
from loadtest.control.owners import owners

ATTEMPTS = 200
LATE_S = 10.0
SHOWN = 5


class Route(NamedTuple):
    """What is asked, and what is right: `old` before the change, `new` from it on. Both are bodies (addresses of pods),
    or "404" for no such route. Anything else is wrong, and so is `old` after `new`."""

    host: str
    path: str
    old: frozenset[str]
    new: frozenset[str]


class Seen:
    """What one worker answered."""

    def __init__(self) -> None:
        self.first_at: float | None = None
        self.old = 0
        self.new = 0
        self.wrong: list[str] = []

    def take(self, route: Route, answer: Answer) -> None:
        """Judge one answer."""
        said = answer.body if answer.status == 200 else str(answer.status)
        if said in route.new:
            self.first_at = answer.at if self.first_at is None else self.first_at
            self.new += 1
        elif said in route.old and self.first_at is None:
            self.old += 1
        else:
            self.wrong.append(f"{said or 'lost'}{', after the change was live' if self.first_at else ''}")


class Client:
    """Everything it is told to do, by the names of the commands."""

    def __init__(self) -> None:
        self._connections: dict[int, Connection] = {}
        self._watching: asyncio.Task[dict[str, Any]] | None = None
        self._load: Load | None = None

    async def connect(self, host: str, port: int, workers: list[int]) -> list[int]:
        """Have a connection to each of these processes; those that we have one to."""
        opened: list[Connection] = []
        try:
            for _ in range(ATTEMPTS):
                connection = await open_connection(host, port)
                opened.append(connection)
                await connection.ask(request_bytes("nobody", "/healthz"))
                for local_port, pid in owners(port, [connection.local_port], workers).items():
                    if local_port == connection.local_port and pid not in self._connections:
                        self._connections[pid] = connection
                if self._connections.keys() >= set(workers):
                    break
        finally:
            for connection in opened:
                if connection not in self._connections.values():
                    connection.transport.abort()
        return sorted(self._connections)

    async def watch(
        self, host: str, path: str, old: list[str], new: list[str], interval_s: float, settle_s: float
    ) -> None:
        """Begin to ask every worker for a route until all answer anew, and `settle_s` longer."""
        route = Route(host, path, frozenset(old), frozenset(new))
        self._watching = asyncio.create_task(self._watch(route, interval_s, settle_s), name="watch")

    async def watched(self) -> dict[str, Any]:
        """What came of it: when each worker answered anew first, and what was wrong."""
        assert self._watching is not None, "watch nothing"
        return await self._watching

    async def _watch(self, route: Route, interval_s: float, settle_s: float) -> dict[str, Any]:
        seen = {pid: Seen() for pid in self._connections}
        over = asyncio.Event()
        asking = [
            asyncio.create_task(self._ask(connection, route, seen[pid], over=over, interval_s=interval_s))
            for pid, connection in self._connections.items()
        ]
        until = time.monotonic() + LATE_S
        while any(one.first_at is None for one in seen.values()) and time.monotonic() < until:
            await asyncio.sleep(interval_s)
        await asyncio.sleep(settle_s)
        over.set()
        await asyncio.gather(*asking)
        wrong = [f"worker {pid}: {text}" for pid, one in seen.items() for text in one.wrong]
        return {
            "first_at": {pid: one.first_at for pid, one in seen.items()},
            "answers": sum(one.old + one.new for one in seen.values()),
            "wrong": len(wrong),
            "shown": wrong[:SHOWN],
        }

    async def _ask(
        self, connection: Connection, route: Route, seen: Seen, *, over: asyncio.Event, interval_s: float
    ) -> None:
        request = request_bytes(route.host, route.path)
        due = time.monotonic()
        while not over.is_set():
            seen.take(route, await connection.ask(request))
            due = max(due + interval_s, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    async def visit(self, hosts: list[str]) -> int:
        """Ask every worker once for each of these hosts; how many answers were not 200."""
        wrong = 0
        for connection in self._connections.values():
            for host in hosts:
                wrong += (await connection.ask(request_bytes(host, "/"))).status != 200
        return wrong

    async def load(self, **arguments: Any) -> None:
        """Begin to send requests at a steady rate; see `Load`."""
        self._load = Load(**arguments)
        await self._load.start()

    async def loaded(self) -> dict[str, Any]:
        """Stop; what came of it."""
        assert self._load is not None, "no load"
        return await self._load.stop()


if __name__ == "__main__":
    _client = Client()
    serve(
        {
            "connect": _client.connect,
            "watch": _client.watch,
            "watched": _client.watched,
            "visit": _client.visit,
            "load": _client.load,
            "loaded": _client.loaded,
        }
    )
