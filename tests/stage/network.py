"""A network of one's own: a namespace with a wire that delays, loses and swallows packets, and a resolver.

`alone(scene, folder)` runs a function in a new process inside a new network namespace; it needs no privileges where
user namespaces are allowed. There, a `Wire` is a device whose far end is a mirror: what is sent to `FAR` comes back to
`NEAR` as if from there, so an upstream that listens on NEAR is reached at FAR over a real TCP connection whose packets
pass through our hands. The kernel's own netem is not everywhere; this is.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import importlib
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import TracebackType

import pytest

NEAR, FAR = "10.99.0.1", "10.99.0.2"
_TUNSETIFF = 0x400454CA
_TUN_WITHOUT_HEADER = 0x1001
_TCP = 6

Scene = Callable[[Path], None]


def _unshare() -> list[str]:
    return ["unshare", "--net", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--"]


def missing() -> str:
    """Why no network of one's own can be had here; "" when it can."""
    for program in ("unshare", "ip"):
        if shutil.which(program) is None:
            return f"the program {program} is not installed"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun cannot be opened"
    tried = subprocess.run([*_unshare(), "ip", "link", "set", "lo", "up"], capture_output=True, text=True)
    return f"no network namespace: {tried.stderr.strip()}" if tried.returncode else ""


def alone(scene: Scene, folder: Path, *, within_s: float = 240.0) -> None:
    """Run a module's function `scene(folder)` in a network of its own; what fails there fails here."""
    if why := missing():
        pytest.skip(why)
    command = [*_unshare(), sys.executable, "-m", "stage.network", scene.__module__, scene.__name__, str(folder)]
    tests = Path(__file__).parents[1]
    path = os.pathsep.join(filter(None, [str(tests), os.environ.get("PYTHONPATH", "")]))
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        cwd=tests,
    )
    try:
        output, _ = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        raise AssertionError(f"{scene.__name__} did not end within {within_s:g} s:\n{output}") from None
    assert process.returncode == 0, output


class Resolver:
    """The name server of this namespace, as a context: one IPv4 address for every name, for a second.

    `address` may change; `does` is "answer", "fail" (SERVFAIL) or "nothing".
    """

    def __init__(self, folder: Path, address: str) -> None:
        self.address, self.does = address, "answer"
        self.asked = 0
        configuration = folder / "resolv.conf"
        configuration.write_text("nameserver 127.0.0.1\n")
        subprocess.run(["mount", "--bind", str(configuration), "/etc/resolv.conf"], check=True)
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 53))
        self._sock.settimeout(0.1)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Resolver:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        self._thread.join(60)
        self._sock.close()

    def _serve(self) -> None:
        while not self._end.is_set():
            with contextlib.suppress(TimeoutError):
                data, client = self._sock.recvfrom(512)
                self.asked += 1
                if self.does != "nothing":
                    self._sock.sendto(self._answer(data), client)

    def _answer(self, query: bytes) -> bytes:
        end = query.index(b"\0", 12) + 5
        question, kind = query[12:end], query[end - 4 : end - 2]
        if self.does == "fail":
            return query[:2] + b"\x81\x82\0\1\0\0\0\0\0\0" + question
        found = kind == b"\0\1"  # A; of AAAA there is none.
        record = b"\xc0\x0c\0\1\0\1" + struct.pack("!IH", 1, 4) + socket.inet_aton(self.address)
        return query[:2] + b"\x81\x80\0\1" + struct.pack("!HHH", found, 0, 0) + question + (record if found else b"")


def narrow_ports(first: int, last: int) -> None:
    """Let outgoing connections of this namespace use these ports only."""
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(f"{first} {last}")


class Wire:
    """The wire, as a context. `swallow(source port, destination port)` says which packets never arrive."""

    def __init__(self, *, loss: float = 0.0, delay_s: float = 0.0, seed: int = 1) -> None:
        self.loss, self.delay_s = loss, delay_s
        self.swallow: Callable[[int, int], bool] = lambda source, destination: False
        self.swallowed = self.lost = self.carried = 0
        self._random = Random(seed)
        self._device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self._device, _TUNSETIFF, struct.pack("16sH22x", b"wire0", _TUN_WITHOUT_HEADER))
        for words in (f"addr add {NEAR}/24 dev wire0", "link set wire0 up"):
            subprocess.run(["ip", *words.split()], check=True)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def __enter__(self) -> Wire:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        self._thread.join(60)
        os.close(self._device)

    def _carry(self) -> None:
        on_the_way: list[tuple[float, int, bytes]] = []
        number = 0
        while not self._end.is_set():
            now = time.monotonic()
            while on_the_way and on_the_way[0][0] <= now:
                os.write(self._device, heapq.heappop(on_the_way)[2])
            wait_s = min(0.1, on_the_way[0][0] - now) if on_the_way else 0.1
            if not select.select([self._device], [], [], max(0.0, wait_s))[0]:
                continue
            packet = self._reflected(os.read(self._device, 65536))
            if packet is not None:
                number += 1
                heapq.heappush(on_the_way, (time.monotonic() + self.delay_s, number, packet))

    def _reflected(self, packet: bytes) -> bytes | None:
        """The packet on its way back, with its addresses swapped, which no checksum minds; None when it is lost."""
        if packet[0] >> 4 != 4:
            return None
        if packet[9] == _TCP:
            start = 4 * (packet[0] & 15)
            if self.swallow(*struct.unpack_from("!HH", packet, start)):
                self.swallowed += 1
                return None
        if self._random.random() < self.loss:
            self.lost += 1
            return None
        self.carried += 1
        return packet[:12] + packet[16:20] + packet[12:16] + packet[20:]


def main() -> None:
    """Inside the namespace: `python -m stage.network MODULE FUNCTION FOLDER`."""
    module, function, folder = sys.argv[1:]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    scene: Scene = getattr(importlib.import_module(module), function)
    scene(Path(folder))


if __name__ == "__main__":
    main()
