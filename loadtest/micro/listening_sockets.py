"""Shared listening socket or one SO_REUSEPORT socket a worker? What a dead or stopped worker costs, and the balance.

`python -m loadtest.micro.listening_sockets` starts two small workers (uvloop, one accept a wake-up) either way. As in
the real thing the parent opens every socket and keeps it; a killed worker is replaced after 0.3 s, a stopped one is
killed and replaced after 1.5 s. The numbers are in docs/decisions/0010-shared-listening-sockets.md.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter

import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
WORK = 20_000
"""Turns of a loop that a request costs, so that workers get busy (about 0.5 ms)."""


def listening(port: int, *, reuse_port: bool) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(4096)
    sock.setblocking(False)
    return sock


class Client(asyncio.Protocol):
    def __init__(self, name: bytes) -> None:
        self._answer = ANSWER + name

    def connection_made(self, transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for _ in range(WORK):
            pass
        self._transport.write(self._answer)


def work(sock: socket.socket, name: bytes) -> None:
    loop = uvloop.new_event_loop()
    tasks = set()

    def accept() -> None:
        try:
            connection, _ = sock.accept()
        except BlockingIOError:
            return
        connection.setblocking(False)
        task = loop.create_task(loop.connect_accepted_socket(lambda: Client(name), connection))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_reader(sock.fileno(), accept)
    loop.run_forever()


class Tree:
    """Two workers and their sockets."""

    def __init__(self, *, reuse_port: bool) -> None:
        first = listening(0, reuse_port=reuse_port)
        self.port = first.getsockname()[1]
        self.sockets = [first, listening(self.port, reuse_port=True) if reuse_port else first]
        self.pids = [self._start(index) for index in range(2)]

    def _start(self, index: int) -> int:
        pid = os.fork()
        if pid == 0:
            work(self.sockets[index], b"ab"[index : index + 1])
        return pid

    def replace(self, index: int) -> None:
        os.kill(self.pids[index], signal.SIGKILL)
        os.waitpid(self.pids[index], 0)
        self.pids[index] = self._start(index)

    def close(self) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for sock in set(self.sockets):
            sock.close()


def request(connection: socket.socket) -> bytes:
    connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
    return connection.recv(1000)[-1:]


def load(tree: Tree, seconds: float, event) -> list[tuple[float, float, str]]:
    """(begun, took, error) of requests on new connections, four at a time; `event` runs meanwhile."""
    done: list[tuple[float, float, str]] = []
    until = time.monotonic() + seconds

    def run() -> None:
        while time.monotonic() < until:
            began, error = time.monotonic(), ""
            try:
                with socket.create_connection(("127.0.0.1", tree.port), 5.0) as connection:
                    error = "" if request(connection) else "closed"
            except OSError as failure:
                error = type(failure).__name__
            done.append((began, time.monotonic() - began, error))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    event()
    for thread in threads:
        thread.join()
    return done


def fault(*, reuse_port: bool, number: int, pause_s: float) -> str:
    tree = Tree(reuse_port=reuse_port)
    at = [0.0]

    def event() -> None:
        time.sleep(0.5)
        at[0] = time.monotonic()
        os.kill(tree.pids[0], number)
        time.sleep(pause_s)
        tree.replace(0)

    done = load(tree, 3.0, event)
    tree.close()
    new = [one for one in done if one[0] > at[0]]
    slow = sum(took > 0.1 for _, took, _ in new)
    return (
        f"{len(new):6} new connections, {sum(bool(error) for *_, error in new):4} failed, {slow:4} took over 100 ms, "
        f"worst {max(took for _, took, _ in new) * 1000:5.0f} ms"
    )


def balance(*, reuse_port: bool, connections: int) -> str:
    """How kept connections spread, and how requests do when each has a connection of its own."""
    tree = Tree(reuse_port=reuse_port)
    time.sleep(0.3)
    kept = [socket.create_connection(("127.0.0.1", tree.port)) for _ in range(connections)]
    spread = Counter(request(one) for one in kept)
    for one in kept:
        one.close()
    tree.close()
    return f"{connections} kept connections: {spread[b'a']} and {spread[b'b']}"


def main() -> None:
    for name, reuse_port in (("shared socket", False), ("SO_REUSEPORT", True)):
        sys.stdout.write(f"{name}\n")
        for what, number, pause_s in (("killed", signal.SIGKILL, 0.3), ("stopped", signal.SIGSTOP, 1.5)):
            sys.stdout.write(f"  {what:8} {fault(reuse_port=reuse_port, number=number, pause_s=pause_s)}\n")
        for connections in (8, 64, 512):
            sys.stdout.write(f"  {balance(reuse_port=reuse_port, connections=connections)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
