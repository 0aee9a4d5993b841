"""The ingressd that is abused, and the endpoints behind it."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtest import procfs
from loadtest.abuse.children import ABUSE_NICE
from loadtest.certificate import write_certificate
from loadtest.control.child import Child
from loadtest.launch import PROXY_CPU, Running, free_ports

HOST = "127.0.0.1"
CANARY = "canary"
"""The host that the canary asks for, with an endpoint of its own: what is judged is the proxy."""
READY_S = 20.0
DEADLINE_S = 5.0
"""All deadlines of slow clients, so that nobody has to wait a minute for each."""

PLAIN: Mapping[str, str] = {"ssl-redirect": "false", "keep-alive-requests": "1000000"}
SHORT: Mapping[str, str] = {
    **PLAIN,
    **dict.fromkeys(
        ("client-header-timeout", "client-body-timeout", "client-send-timeout", "keep-alive", "proxy-read-timeout"),
        f"{DEADLINE_S:g}",
    ),
}


class Place:
    """A running ingressd: `http_port` and `https_port` for abuse, `canary_port` for the canary."""

    def __init__(self, folder: Path, running: Running, ports: Sequence[int]) -> None:
        self.folder = folder
        self.http_port, self.https_port, self.canary_port, self.admin_port = ports
        self._running = running

    @property
    def pid(self) -> int:
        """The supervisor that was started first."""
        return self._running.pid

    @property
    def output(self) -> str:
        """Everything it printed."""
        return self._running.output.read_text(errors="replace")

    def workers(self) -> dict[str, int]:
        """Name to process: the youngest of each, so after a hand-over those that serve."""
        found = {}
        for pid in sorted(procfs.tree(self.pid)):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                if "worker" in words:
                    found[f"worker {words[words.index('worker') + 1]}"] = pid
        return found

    def wait_ready(self) -> None:
        """Until every worker serves. MissingError when that does not come."""
        self._running.wait_ready(self.admin_port, path="/readyz", timeout_s=READY_S)


def pair_at(folder: Path) -> tuple[Path, Path]:
    """A new pair's files in a new folder."""
    made = Path(tempfile.mkdtemp(dir=folder))
    return write_certificate(made)


@contextlib.contextmanager
def placed(
    command: Sequence[str],
    *,
    settings: Mapping[str, str] = SHORT,
    workers: int = 1,
    descriptors: int | None = None,
) -> Iterator[Place]:
    """ingressd on a CPU of its own before endpoints of ours, until the end of the block."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="abuse-")))
        endpoints = {
            name: [f"{HOST}:{stack.enter_context(Child('loadtest.abuse.upstream')).ask('start', nice=nice)}"]
            for name, nice in (("localhost", ABUSE_NICE), (CANARY, 0))
        }
        ports = free_ports(4)
        certificate, key = pair_at(folder)
        for made, name in ((certificate, "cert.pem"), (key, "key.pem")):
            os.replace(made, folder / name)
        config: dict[str, Any] = {
            "workers": workers,
            "listeners": [
                {"name": name, "address": f"{HOST}:{port}", "protocol": "HTTPS" if name == "https" else "HTTP"}
                for name, port in zip(("http", "https", "canary"), ports, strict=False)
            ],
            "admin": {"address": f"{HOST}:{ports[3]}"},
            "accessLog": {"path": str(folder / "access.log"), "format": "json"},
            "settings": dict(settings),
            "routes": [{"host": name, "path": "/", "upstream": name} for name in endpoints],
            "upstreams": {name: {"endpoints": found} for name, found in endpoints.items()},
            "tls": [{"hosts": ["localhost"], "certFile": "cert.pem", "keyFile": "key.pem"}],
        }
        path = folder / "ingressd.yaml"
        path.write_text(json.dumps(config, indent=1))
        argv = [*command, "run", "--config", str(path)]
        if descriptors is not None:
            argv = ["sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh", *argv]
        (folder / "ingressd").mkdir()
        running = stack.enter_context(Running("ingressd", argv, folder=folder / "ingressd", cpu=PROXY_CPU))
        place = Place(folder, running, ports)
        place.wait_ready()
        yield place


def waited_s(pid: int) -> float:
    """How long a process had to wait for a CPU until now: ours has one for itself, so for strangers."""
    waited = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        waited += int((task / "schedstat").read_text().split()[1])
    return waited / 1e9


def cpu_share(pid: int, seconds: float) -> float:
    """How much of a CPU a process uses while we sleep for so long."""
    before, began = procfs.cpu_used([pid]), time.monotonic()
    time.sleep(seconds)
    return procfs.cpu_between(before, procfs.cpu_used([pid])) / (time.monotonic() - began)
