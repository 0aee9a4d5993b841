"""`python -m loadtest.overload.memory`: a flood of connections that take memory, below a limit of the control group.

3,000 clients (`--connections`) ask for answers of 1 MiB that they do not read; others send requests meanwhile. Printed
is what the processes took at most, whether anybody was killed, and whether requests are served when the flood is over.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

from loadtest import certificate, procfs
from loadtest.backend import start_backend
from loadtest.launch import PROXY_CPU, MissingError, Place, Running, find, free_ports, status_of
from loadtest.overload.cgroup import ControlGroup
from loadtest.peers import ingressd

BIG = 1024**2
REQUEST = b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % BIG
FILES = 20_000


class Flood:
    """Connections that ask and do not read."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.socks: list[socket.socket] = []

    def open(self, count: int) -> None:
        for _ in range(count):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(0.2)
            with contextlib.suppress(OSError):
                sock.connect(("127.0.0.1", self._port))
                sock.send(REQUEST)
            self.socks.append(sock)

    def close(self) -> None:
        for sock in self.socks:
            sock.close()


class Watch(threading.Thread):
    """The greatest resident memory of a tree, and the statuses of requests that are made meanwhile."""

    def __init__(self, pid: int, port: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._port = pid, port
        self._over = threading.Event()
        self.most_kib = 0
        self.statuses: dict[str, int] = {}

    def run(self) -> None:
        while not self._over.wait(0.1):
            self.most_kib = max(self.most_kib, procfs.memory_kib(self._pid)[0])
            try:
                found = str(status_of(self._port, tls=False, path="/101"))
            except OSError:
                found = "not let in"
            self.statuses[found] = self.statuses.get(found, 0) + 1

    def stop(self) -> None:
        self._over.set()
        self.join(10)


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    http, https, admin, backend = free_ports(4)
    (folder / "ingressd").mkdir()
    (folder / "backend").mkdir()
    place = Place(folder / "ingressd", http, https, admin, backend, *certificate.write_certificate(folder))
    limit = arguments.limit * 1024**2
    with contextlib.ExitStack() as stack:
        stack.enter_context(start_backend(folder / "backend", backend, sizes=(101, BIG)))
        group = stack.enter_context(ControlGroup("memory", limit))
        command = group.command(ingressd.command(place, build=arguments.ingressd))
        running = stack.enter_context(Running("ingressd", command, folder=place.folder, cpu=PROXY_CPU))
        running.wait_ready(http, timeout_s=40)
        pids = procfs.tree(running.pid)
        print(f"limit {arguments.limit} MiB; {procfs.memory_kib(running.pid)[0] / 1024:.0f} MiB before")
        watch = Watch(running.pid, http)
        watch.start()
        flood = Flood(http)
        flood.open(arguments.connections)
        time.sleep(5)
        watch.stop()
        print(f"{watch.most_kib / 1024:.0f} MiB at most; requests meanwhile: {watch.statuses}")
        flood.close()
        began = time.monotonic()
        running.wait_ready(http, timeout_s=30)
        print(f"served again {time.monotonic() - began:.1f} s after it")
        print("nobody was killed" if procfs.tree(running.pid) == pids else "PROCESSES WERE REPLACED")
        killed = max(group.number("memory.oom_control", "oom_kill"), group.number("memory.events", "oom_kill"))
        print(f"killed by the kernel: {killed}")


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m loadtest.overload.memory", description=__doc__)
    options.add_argument("--ingressd", default=find("ingressd"), metavar="COMMAND")
    options.add_argument("--limit", type=int, default=256, help="MiB of the control group")
    options.add_argument("--connections", type=int, default=3000)
    arguments = options.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))
    with tempfile.TemporaryDirectory(prefix="loadtest-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            measure(arguments, folder)
        except MissingError as exc:
            print(f"cannot measure: {exc}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
