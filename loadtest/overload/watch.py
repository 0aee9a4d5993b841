"""What goes on beside the load: the answers of a health path, the CPU time of a process tree."""

from __future__ import annotations

import socket
import threading
import time

from loadtest import procfs

PROBE_S = 0.1


class Prober(threading.Thread):
    """Asks `/healthz` of one port every `PROBE_S`, over a new connection each; latencies by when they began."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._end = threading.Event()
        self.took: list[tuple[float, float]] = []
        self.failed: list[float] = []

    def run(self) -> None:
        while not self._end.wait(PROBE_S):
            began = time.monotonic()
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=5) as sock:
                    sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n")
                    good = sock.recv(4096).startswith(b"HTTP/1.1 200")
            except OSError:
                good = False
            if good:
                self.took.append((began, time.monotonic() - began))
            else:
                self.failed.append(began)

    def stop(self) -> None:
        self._end.set()
        self.join(10)

    def between(self, begin: float, end: float) -> list[float]:
        return [took for began, took in self.took if begin <= began < end]


class CpuMeter(threading.Thread):
    """CPU time of a process tree over time."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._pids = procfs.tree(root)
        self._end = threading.Event()
        self._readings: list[tuple[float, procfs.Cpu]] = []

    def run(self) -> None:
        while not self._end.wait(PROBE_S):
            self._readings.append((time.monotonic(), procfs.cpu_used(self._pids)))

    def stop(self) -> None:
        self._end.set()
        self.join(10)

    def share(self, begin: float, end: float) -> float:
        """CPUs that were used on average between two times."""
        within = [reading for reading in self._readings if begin <= reading[0] <= end]
        (first_s, first), (last_s, last) = within[0], within[-1]
        return procfs.cpu_between(first, last) / (last_s - first_s)
