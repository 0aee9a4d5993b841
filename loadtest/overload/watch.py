"""What goes on beside the load: the answers of a health path, the CPU time of a process tree, how fast the CPU is."""

from __future__ import annotations

import os
import random
import socket
import statistics
import threading
import time

from loadtest import procfs

PROBE_S = 0.1


class Watcher(threading.Thread):
    """Looks every `every_s` until it is stopped."""

    every_s = PROBE_S

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(self.every_s):
            self.look()

    def look(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        self._end.set()
        self.join(10)


class Prober(Watcher):
    """Asks `/healthz` of one port every `PROBE_S`, over a new connection each; latencies by when they began."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self.took: list[tuple[float, float]] = []
        self.failed: list[float] = []

    def look(self) -> None:
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

    def between(self, begin: float, end: float) -> list[float]:
        return [took for began, took in self.took if begin <= began < end]


class CpuMeter(Watcher):
    """CPU time of a process tree over time."""

    def __init__(self, root: int) -> None:
        super().__init__()
        self._pids = procfs.tree(root)
        self._readings: list[tuple[float, procfs.Cpu]] = []

    def look(self) -> None:
        self._readings.append((time.monotonic(), procfs.cpu_used(self._pids)))

    def share(self, begin: float, end: float) -> float:
        """CPUs that were used on average between two times."""
        within = [reading for reading in self._readings if begin <= reading[0] <= end]
        (first_s, first), (last_s, last) = within[0], within[-1]
        return procfs.cpu_between(first, last) / (last_s - first_s)


class Yardstick(Watcher):
    """How much CPU time a fixed piece of work takes on one CPU: walking a few MiB of objects, as serving does.

    Where others share the machine's caches and cores that doubles for seconds, and with it the cost of a request.
    """

    every_s = 0.25

    def __init__(self, cpu: int) -> None:
        super().__init__()
        self._cpu = cpu
        self._walk = [str(number) for number in range(60_000)]
        random.Random(0).shuffle(self._walk)
        self._at = 0
        self.took: list[tuple[float, float]] = []

    def run(self) -> None:
        os.sched_setaffinity(0, {self._cpu})  # Of this thread alone.
        super().run()

    def look(self) -> None:
        began, used = time.monotonic(), time.thread_time()
        total = 0
        for text in self._walk[self._at : self._at + 20_000]:
            total += len(text)
        self._at = (self._at + 20_000) % len(self._walk)
        self.took.append((began, time.thread_time() - used))

    def between(self, begin: float, end: float) -> float:
        """Seconds that it took in the median."""
        return statistics.median([took for began, took in self.took if begin <= began < end] or [0.0])
