"""Start a program pinned to a CPU, wait until it answers, end it. Only what was started here is ever ended."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

RESULTS = Path(__file__).parent / "results"
PROXY_CPU = 0
LOAD_CPU = 1
PR_SET_PDEATHSIG = 1
EXTRA_PATH = "/usr/sbin:/sbin:/usr/local/sbin"


class MissingError(Exception):
    """A program is not installed, or does not start: says which and why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one program works: its folder, its ports (on 127.0.0.1), the backend's port, the certificate to show."""

    folder: Path
    http_port: int
    https_port: int
    admin_port: int
    backend_port: int
    cert_file: Path
    key_file: Path

    @property
    def access_log(self) -> Path:
        return self.folder / "access.log"

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path


def find(program: str) -> str:
    """The path of an installed program, or Missing."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which(program, path=os.pathsep.join([beside, os.environ.get("PATH", ""), EXTRA_PATH]))
    if found is None:
        raise MissingError(f"{program} is not installed")
    return found


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now. Held together while choosing, so they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def die_with_parent() -> None:
    """In a child before it becomes a program: it gets SIGTERM when we end, however we end."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _pin(cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    die_with_parent()


class Running:
    """A started program. Use as a context manager; leaving ends it: SIGTERM, then SIGKILL to the group it leads."""

    def __init__(self, name: str, argv: Sequence[str], *, folder: Path, cpu: int) -> None:
        self.name = name
        self.output = folder / "output.txt"
        with self.output.open("wb") as sink:
            self._process = subprocess.Popen(
                list(argv),
                cwd=folder,
                env={**os.environ, "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: _pin(cpu),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self, port: int, *, tls: bool = False, path: str = "/101", timeout_s: float = 15.0) -> None:
        """Wait for a 200. Missing, with the program's last words, when it ends or stays silent."""
        deadline = time.monotonic() + timeout_s
        last = "no answer"
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise MissingError(f"{self.name} ended with {self._process.returncode}: {self._last_words()}")
            try:
                status = status_of(port, tls=tls, path=path)
                if status == 200:
                    return
                last = f"status {status}"
            except OSError as exc:
                last = str(exc)
            time.sleep(0.05)
        raise MissingError(f"{self.name} did not become ready ({last}): {self._last_words()}")

    def _last_words(self) -> str:
        return self.output.read_text(errors="replace").strip()[-400:]

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(3)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def unverified_context() -> ssl.SSLContext:
    """A client context that takes the self-signed certificate of the bench."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def status_of(port: int, *, tls: bool, path: str) -> int:
    """The status of one GET. OSError when nobody answers HTTP."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=2)
    try:
        if tls:
            sock = unverified_context().wrap_socket(sock, server_hostname="localhost")
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        head = sock.recv(4096).split(b"\r\n", 1)[0].split()
    finally:
        sock.close()
    if len(head) < 2 or not head[1].isdigit():
        raise OSError("no HTTP answer")
    return int(head[1])
