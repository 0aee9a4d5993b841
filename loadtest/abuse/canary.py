"""The client whose times are judged: steady requests, on a connection of its own each and on a kept one in turn.

A child process, so that what it waits for is the proxy and not our own work.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, NamedTuple

from loadtest.abuse.children import on_load_cpu
from loadtest.abuse.outcome import Outcome
from loadtest.control.child import Child, serve
from loadtest.control.connection import LOST, Answer, Connection, open_connection, request_bytes
from loadtest.control.load import percentile

PATH = "/101"
PATIENCE_S = 5.0
SHOWN = 5


class Times(NamedTuple):
    """What came of it, in milliseconds."""

    requests: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    failed: int
    shown: list[str]


class Steady:
    """In the child."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._took: list[float] = []
        self._failed: list[str] = []
        self._kept: list[Connection] = []

    async def begin(self, host: str, port: int, rate: float, fresh: bool, name: str) -> None:
        """Ask `rate` times a second; only on kept connections unless `fresh`."""
        on_load_cpu()
        self._took, self._failed = [], []
        self._task = asyncio.create_task(self._ask_all(host, port, rate, fresh=fresh, name=name), name="canary")

    async def end(self) -> list[Any]:
        """Ask no more; the figures, as `Times` has them. Kept connections stay for the next time."""
        assert self._task is not None, "not begun"
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if self._running:
            await asyncio.wait(self._running, timeout=PATIENCE_S)
        ordered = sorted(self._took)
        figures = [percentile(ordered, share) * 1e3 for share in (0.5, 0.99, 1.0)]
        return [len(ordered), *figures, len(self._failed), self._failed[:SHOWN]]

    async def _ask_all(self, host: str, port: int, rate: float, *, fresh: bool, name: str) -> None:
        due = time.monotonic()
        number = 0
        while True:
            number += 1
            anew = fresh and number % 2 == 1
            task = asyncio.create_task(self._ask(host, port, request_bytes(name, PATH), anew=anew), name="request")
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            due = max(due + 1 / rate, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    async def _ask(self, host: str, port: int, request: bytes, *, anew: bool) -> None:
        began = time.monotonic()
        answer = Answer(LOST, "no answer in time", began)
        connection = None
        try:
            async with asyncio.timeout(PATIENCE_S):
                connection = None if anew else self._idle()
                if connection is None:
                    connection = await open_connection(host, port)
                answer = await connection.ask(request)
        except (OSError, TimeoutError) as error:
            answer = Answer(LOST, repr(error), began)
        self._took.append(time.monotonic() - began)
        if answer.status != 200:
            self._failed.append(f"{answer.status} {answer.body[:60]}")
        if connection is not None:
            if anew or answer.status != 200:
                connection.transport.abort()
            else:
                self._kept.append(connection)

    def _idle(self) -> Connection | None:
        while self._kept:
            connection = self._kept.pop()
            if not connection.lost:
                return connection
        return None


class Canary:
    """The child, from outside. Use as a context manager."""

    def __init__(
        self, host: str, port: int, *, rate: float = 100.0, fresh: bool = True, name: str = "localhost"
    ) -> None:
        self._how = {"host": host, "port": port, "rate": rate, "fresh": fresh, "name": name}
        self._child = Child("loadtest.abuse.canary")

    def __enter__(self) -> Canary:
        self._child.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._child.__exit__()

    def begin(self) -> None:
        """Begin to ask."""
        self._child.ask("begin", **self._how)

    def end(self) -> Times:
        """Stop; what came of it."""
        return Times(*self._child.ask("end"))

    def for_seconds(self, seconds: float) -> Times:
        """Ask for this long."""
        self.begin()
        time.sleep(seconds)
        return self.end()


def none_failed(scenario: str, what: str, times: Times) -> Outcome:
    """That every request was answered with 200."""
    why = f": {times.shown[0]}" if times.shown else ""
    return Outcome(scenario, f"{what}, failed of {times.requests}", f"{times.failed}{why}", "0", not times.failed)


if __name__ == "__main__":
    _steady = Steady()
    serve({"begin": _steady.begin, "end": _steady.end})
