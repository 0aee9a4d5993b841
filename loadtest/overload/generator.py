"""`python -m loadtest.overload.generator`: a load that does not wait for answers, in a process of its own.

Requests leave at their times, whatever became of those before them: over an idle connection, or over a new one, as long
as there are less than `connections`. A client that has waited `timeout_s` goes away. Latency counts from the time at
which a request was due. With rate 0 it is a closed loop: each connection asks again as soon as it has its answer.
"""

from __future__ import annotations

import errno
import gc
import json
import resource
import select
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final

REQUEST: Final = b"GET /101 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: overload\r\nAccept: */*\r\n\r\n"
BUCKET_S: Final = 0.1
LENGTH: Final = b"Content-Length: "


@dataclass(slots=True)
class Phase:
    """What became of the requests that were due in one phase. `answered` has (when it was due, latency) in seconds."""

    name: str
    rate: float
    seconds: float
    offered: int = 0
    ok: int = 0
    shed: int = 0
    shed_without_retry_after: int = 0
    other: int = 0
    reset: int = 0
    timed_out: int = 0
    unsent: int = 0
    late_s: float = 0.0
    answered: list[tuple[float, float]] = field(default_factory=list)
    shed_s: list[float] = field(default_factory=list)


class Connection:
    __slots__ = ("due", "fresh", "phase", "received", "sequence", "sock", "waiting")

    def __init__(self, sock: socket.socket, *, fresh: bool) -> None:
        self.sock = sock
        self.fresh = fresh  # One request only.
        self.received = b""
        self.waiting = False
        self.sequence = 0
        self.due = 0.0
        self.phase: Phase


class Generator:
    """Keeps the connections."""

    def __init__(self, port: int, *, connections: int, fresh: float, timeout_s: float) -> None:
        self._address = ("127.0.0.1", port)
        self._most = connections
        self._most_fresh = connections // 4
        self._fresh_open = 0
        self._fresh = fresh
        self._timeout_s = timeout_s
        self._epoll = select.epoll()
        self._open: dict[int, Connection] = {}
        self._idle: list[Connection] = []
        self._waiting: deque[tuple[float, Connection, int]] = deque()
        self._owed = 0.0
        self._closed_loop = False

    def preconnect(self, count: int) -> None:
        for _ in range(count):
            connection = self._connect(fresh=False)
            if connection is not None:
                self._idle.append(connection)

    def _connect(self, *, fresh: bool) -> Connection | None:
        if self._fresh_open >= self._most_fresh if fresh else len(self._open) - self._fresh_open >= self._most:
            return None
        sock = socket.socket()
        sock.setblocking(False)
        try:
            code = sock.connect_ex(self._address)
        except OSError as exc:
            code = exc.errno or 0
        if code not in (0, errno.EINPROGRESS):
            sock.close()
            return None
        connection = Connection(sock, fresh=fresh)
        self._open[sock.fileno()] = connection
        self._fresh_open += fresh
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        return connection

    def _end(self, connection: Connection) -> None:
        del self._open[connection.sock.fileno()]
        self._fresh_open -= connection.fresh
        connection.sock.close()

    def _send(self, phase: Phase, due: float) -> None:
        phase.offered += 1
        self._owed += self._fresh
        connection: Connection | None
        if self._owed >= 1.0:
            self._owed -= 1.0
            connection = self._connect(fresh=True)
        elif self._idle:
            connection = self._idle.pop()
        else:
            connection = self._connect(fresh=False)
        if connection is None:
            phase.unsent += 1
            return
        connection.phase = phase
        connection.due = due
        connection.waiting = True
        connection.sequence += 1
        self._waiting.append((due + self._timeout_s, connection, connection.sequence))
        self._ask(connection)

    def _ask(self, connection: Connection) -> None:
        try:
            connection.sock.send(REQUEST)
        except BlockingIOError:  # The handshake is not done: nobody accepts.
            self._epoll.modify(connection.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            self._failed(connection)

    def _failed(self, connection: Connection) -> None:
        if connection.waiting:
            connection.waiting = False
            connection.phase.reset += 1
        elif connection in self._idle:
            self._idle.remove(connection)
        self._end(connection)

    def _time_out(self, now: float) -> None:
        waiting = self._waiting
        while waiting and waiting[0][0] <= now:
            _, connection, sequence = waiting.popleft()
            if connection.waiting and connection.sequence == sequence:
                connection.phase.timed_out += 1
                connection.waiting = False
                self._end(connection)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._failed(connection)
            return
        if connection.received:
            data = connection.received + data
        end = data.find(b"\r\n\r\n")
        length = data.find(LENGTH, 0, end)
        if end < 0 or length < 0:
            connection.received = data
            return
        length += len(LENGTH)
        if len(data) < end + 4 + int(data[length : data.index(b"\r", length)]):
            connection.received = data
            return
        connection.received = b""
        if connection.waiting:
            self._answered(connection, data, data.find(b"Connection: close", 0, end) > 0)
        else:
            self._failed(connection)

    def _answered(self, connection: Connection, data: bytes, close: bool) -> None:
        connection.waiting = False
        phase = connection.phase
        status = data[9:12]
        took = time.monotonic() - connection.due
        if status == b"200":
            phase.ok += 1
            phase.answered.append((connection.due, took))
        elif status == b"503":
            phase.shed += 1
            phase.shed_s.append(took)
            phase.shed_without_retry_after += b"Retry-After: " not in data
        else:
            phase.other += 1
        if close or connection.fresh:
            self._end(connection)
            if self._closed_loop:
                again = self._connect(fresh=False)
                if again is not None:
                    self._idle.append(again)
        else:
            self._idle.append(connection)

    def turn(self, timeout_s: float) -> None:
        now = time.monotonic()
        self._time_out(now)
        for fd, event in self._epoll.poll(timeout_s):
            connection = self._open.get(fd)
            if connection is None:
                continue
            if event & select.EPOLLOUT and connection.waiting:
                self._epoll.modify(fd, select.EPOLLIN)
                self._ask(connection)
            if event & ~select.EPOLLOUT and fd in self._open:
                self._read(connection)

    def run(self, phase: Phase) -> None:
        """Offer the load of one phase."""
        began = time.monotonic()
        until = began + phase.seconds
        self._closed_loop = phase.rate <= 0
        while (now := time.monotonic()) < until:
            if self._closed_loop:
                for _ in range(len(self._idle)):
                    self._send(phase, now)
                self.turn(0.01)
                continue
            # Before the requests that are due now are sent: the first of them has waited longest.
            phase.late_s = max(phase.late_s, now - (began + phase.offered / phase.rate))
            due = int((now - began) * phase.rate) + 1
            for number in range(phase.offered, due):
                self._send(phase, began + number / phase.rate)
            self.turn(max(0.0, min(0.001, began + phase.offered / phase.rate - time.monotonic())))

    def settle(self, seconds: float) -> None:
        """Hear what still comes."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(connection.waiting for connection in self._open.values()):
            self.turn(0.01)

    def close(self) -> None:
        for connection in list(self._open.values()):
            self._end(connection)
        self._epoll.close()


def quantile(values: list[float], share: float) -> float:
    """0.0 of nothing."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def summary(phase: Phase, began: float) -> dict[str, object]:
    """For JSON; `began` by the monotonic clock, the p99 in ms also by tenths of a second of when requests were due."""
    buckets: dict[int, list[float]] = {}
    for due, took in phase.answered:
        buckets.setdefault(int((due - began) / BUCKET_S), []).append(took)
    latencies = [took for _, took in phase.answered]
    return {
        "name": phase.name,
        "began": began,
        "rate": phase.rate,
        "seconds": phase.seconds,
        "offered": phase.offered,
        "ok": phase.ok,
        "shed": phase.shed,
        "shed_without_retry_after": phase.shed_without_retry_after,
        "other": phase.other,
        "reset": phase.reset,
        "timed_out": phase.timed_out,
        "unsent": phase.unsent,
        "late_ms": round(phase.late_s * 1000, 1),
        "p50_ms": round(quantile(latencies, 0.5) * 1000, 1),
        "p99_ms": round(quantile(latencies, 0.99) * 1000, 1),
        "shed_p50_ms": round(quantile(phase.shed_s, 0.5) * 1000, 1),
        "shed_p99_ms": round(quantile(phase.shed_s, 0.99) * 1000, 1),
        "buckets": {number: [len(took), round(quantile(took, 0.99) * 1000, 1)] for number, took in buckets.items()},
    }


def main() -> int:
    """One argument, JSON: port, connections, preconnected, fresh, timeout_s, rest_s, phases: [name, rate, seconds]…"""
    asked = json.loads(sys.argv[1])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    generator = Generator(
        asked["port"], connections=asked["connections"], fresh=asked["fresh"], timeout_s=asked["timeout_s"]
    )
    generator.preconnect(asked["preconnected"])
    time.sleep(asked["rest_s"])
    gc.disable()
    done = []
    for name, rate, seconds in asked["phases"]:
        phase = Phase(name, rate, seconds)
        done.append((phase, time.monotonic()))
        generator.run(phase)
    generator.settle(asked["timeout_s"])
    generator.close()
    json.dump([summary(phase, began) for phase, began in done], sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
