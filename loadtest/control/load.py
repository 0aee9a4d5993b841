"""Requests at a steady rate, whatever the answers do: a late answer delays no other, and its whole delay counts."""

from __future__ import annotations

import asyncio
import random
import time
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

from loadtest.control.connection import LOST, Answer, Connection, open_connection, request_bytes

TICK_S = 0.001
FINISH_S = 5.0
SHOWN = 20
BODY = b"x" * 64


class Target(NamedTuple):
    """A route to ask. `group` is whose figures it counts for, `right` are the bodies that it may answer."""

    group: str
    host: str
    path: str
    right: frozenset[str]


class Group:
    """The figures of some routes."""

    def __init__(self) -> None:
        self.latencies = array("d")
        self.failed: list[dict[str, Any]] = []


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of the others do not exceed; 0 of nothing."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


class Load:
    """`rate` requests a second over as many connections as it takes, each to a target chosen at random.

    `targets` are (group, host, path, right bodies). With `posts` (a share) requests carry a mark, each its own.
    """

    def __init__(
        self, *, host: str, port: int, rate: float, targets: Sequence[Sequence[Any]], posts: float = 0.0, seed: int = 1
    ) -> None:
        self._address = host, port
        self._rate = rate
        self._targets = [Target(group, name, path, frozenset(right)) for group, name, path, right in targets]
        self._posts = posts
        self._random = random.Random(seed)
        self._groups = {target.group: Group() for target in self._targets}
        self._idle: list[Connection] = []
        self._running: set[asyncio.Task[None]] = set()
        self._count = 0
        self._ending = False
        self._sender: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._sender = asyncio.create_task(self._send_all(), name="load")

    async def stop(self) -> dict[str, Any]:
        """Send no more, wait for what is under way; the figures of each group, times in milliseconds."""
        self._ending = True
        if self._sender is not None:
            await self._sender
        if self._running:
            await asyncio.wait(self._running, timeout=FINISH_S)
        late = list(self._running)
        for task in late:
            task.cancel()
        for connection in self._idle:
            connection.transport.abort()
        found: dict[str, Any] = {"requests": self._count, "unanswered": len(late), "groups": {}}
        for name, group in self._groups.items():
            ordered = sorted(group.latencies)
            found["groups"][name] = {
                "requests": len(ordered),
                "p50_ms": percentile(ordered, 0.5) * 1e3,
                "p99_ms": percentile(ordered, 0.99) * 1e3,
                "p999_ms": percentile(ordered, 0.999) * 1e3,
                "max_ms": percentile(ordered, 1.0) * 1e3,
                "failed": group.failed,
            }
        return found

    async def _send_all(self) -> None:
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        sent = 0
        while not self._ending:
            due = int((time.monotonic() - began) * self._rate)
            while sent < due:
                task = loop.create_task(self._one(began + (sent + 1) / self._rate))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
                sent += 1
            await asyncio.sleep(TICK_S)

    async def _one(self, due: float) -> None:
        target = self._random.choice(self._targets)
        number = self._count = self._count + 1
        method = "POST" if self._random.random() < self._posts else "GET"
        mark = f"{method}-{number}" if self._posts else ""
        body = BODY if method == "POST" else b""
        request = request_bytes(target.host, target.path, method=method, mark=mark, body=body)
        answer = await self._answer(request)
        group = self._groups[target.group]
        group.latencies.append(answer.at - due)
        if answer.status != 200 or answer.body not in target.right:
            group.failed.append(
                {
                    "at": answer.at,
                    "mark": mark,
                    "method": method,
                    "host": target.host,
                    "status": answer.status,
                    "body": answer.body[:100],
                }
            )

    async def _answer(self, request: bytes) -> Answer:
        while self._idle:
            connection = self._idle.pop()
            if not connection.lost:
                break
        else:
            try:
                connection = await open_connection(*self._address)
            except OSError as error:
                return Answer(LOST, str(error), time.monotonic())
        answer = await connection.ask(request)
        if not connection.lost:
            self._idle.append(connection)
        return answer
