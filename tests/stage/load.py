"""Load from threads over real sockets, an upstream that takes its time, and a look at processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from stage.ports import Address


class Upstream(tuple[str, int]):
    """The address of an upstream, what it was asked, and the word that `/hold` waits for."""

    asked: list[str]
    go: threading.Event


class _Answer(BaseHTTPRequestHandler):
    """`/sleep/SECONDS` waits before it answers, `/hold` until it is told to, everything else answers at once; the body
    names the path.
    """

    server: _Server

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # Head and body in one write: two would wait for each other's acknowledgement.

    def do_GET(self) -> None:
        self.server.upstream.asked.append(self.path)
        if self.path == "/hold":
            self.server.upstream.go.wait(120)
        if self.path.startswith("/sleep/"):
            time.sleep(float(self.path.removeprefix("/sleep/")))
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    upstream: Upstream

    def handle_error(self, *_: object) -> None:
        """Clients are killed in these tests."""


@contextlib.contextmanager
def upstream() -> Iterator[Upstream]:
    """An upstream that listens."""
    server = _Server(("127.0.0.1", 0), _Answer)
    found = server.upstream = Upstream(("127.0.0.1", server.server_address[1]))
    found.asked, found.go = [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found
    finally:
        found.go.set()
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Outcome:
    """One request: when its connection was begun, how long it took, the status, or what went wrong."""

    began_s: float
    took_s: float
    status: int = 0
    error: str = ""


def fetch(address: Address, path: str = "/", *, host: str = "api.test", timeout_s: float = 30.0) -> Outcome:
    """One request on a connection of its own."""
    began_s = time.monotonic()
    try:
        with socket.create_connection(tuple(address), timeout_s) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
        head, _, body = received.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 "):
            return Outcome(began_s, time.monotonic() - began_s, error=f"no answer: {received[:40]!r}")
        status = int(head[9:12])
        error = "" if status != 200 or body == path.encode() else f"wrong body {body[:60]!r}"
        return Outcome(began_s, time.monotonic() - began_s, status, error)
    except OSError as failure:
        return Outcome(began_s, time.monotonic() - began_s, error=repr(failure))


@dataclass
class Load:
    """Requests from several threads, one after the other in each, as long as the block lasts."""

    address: Address
    threads: int = 4
    path: str = "/"
    outcomes: list[Outcome] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)
    _running: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        for _ in range(self.threads):
            thread = threading.Thread(target=self._run)
            thread.start()
            self._running.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._running:
            thread.join()

    def _run(self) -> None:
        while not self._end.is_set():
            self.outcomes.append(fetch(self.address, self.path))

    def wait_for(self, count: int) -> None:
        """Until so many more requests have ended."""
        wanted, until = len(self.outcomes) + count, time.monotonic() + 120
        while len(self.outcomes) < wanted:
            assert time.monotonic() < until, self.summary()
            time.sleep(0.01)

    def bad(self, *, since_s: float = 0.0) -> list[Outcome]:
        """Every request begun since a moment that was not answered 200."""
        return [one for one in self.outcomes if one.began_s >= since_s and (one.status != 200 or one.error)]

    def summary(self) -> Counter[str]:
        """How often each outcome came."""
        return Counter(one.error or str(one.status) for one in self.outcomes)


def role(pid: int) -> str:
    """What a process of the tree is: "controller", "worker 0", …; "" when it is gone."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    if b"controller" in words:
        return "controller"
    if b"worker" in words:
        return f"worker {words[words.index(b'worker') + 1].decode()}"
    return "other"


def stop(pid: int) -> None:
    """SIGSTOP; returns when it has come."""
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + 30
    while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
        assert time.monotonic() < until, f"process {pid} does not stop"


@contextlib.contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """As a context: a process that is stopped."""
    stop(pid)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def pid_of(ingressd, wanted: str) -> int:
    """The process of a role; fails when there is not exactly one."""
    (pid,) = [pid for pid in ingressd.children() if role(pid) == wanted]
    return pid


def cpu_s(pid: int) -> float:
    """User and system time of a process so far, which no other process adds to."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False
