"""Everything that runs: API server, pods, client, and the ingressd that is measured."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from stage.apiserver.server import FakeApiServer

from loadtest import procfs
from loadtest.control.child import Child
from loadtest.control.world import CLASS, CONTROLLER, Object
from loadtest.launch import MissingError, die_with_parent, free_ports

READY_S = 120.0
HOST = "127.0.0.1"
PATIENT_SETTINGS = {
    "keep-alive": "3600",
    "keep-alive-requests": "1000000",
    "ssl-redirect": "false",
}
"""So that the client's connections last as long as the bench does."""


class System:
    """One cluster and one ingressd of it. Use as a context manager."""

    def __init__(self, folder: Path, command: Sequence[str], *, workers: int = 2) -> None:
        self.folder = folder
        self._command = command
        self._workers = workers
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self.http_port, self.admin_port = free_ports(2)
        self.api = self._stack.enter_context(FakeApiServer())
        self.pods = self._stack.enter_context(Child("loadtest.control.pods"))
        self.client = self._stack.enter_context(Child("loadtest.control.client"))
        self.pod_port: int = self.pods.ask("start", host="0.0.0.0", port=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._stack.close()

    # ------------------------------------------------------------------ ingressd
    def start(self, objects: Iterable[Object]) -> float:
        """Load the cluster and start ingressd in it; seconds until it was ready."""
        self.api.load(objects)
        config = {
            "workers": self._workers,
            "listeners": [{"name": "http", "address": f"{HOST}:{self.http_port}", "protocol": "HTTP"}],
            "admin": {"address": f"{HOST}:{self.admin_port}"},
            "accessLog": {"path": str(self.folder / "access.log"), "format": "json"},
            "settings": PATIENT_SETTINGS,
            "ingressClass": {"name": CLASS, "controller": CONTROLLER},
            "kubernetes": {"kubeconfig": str(self.api.write_kubeconfig(self.folder))},
        }
        path = self.folder / "ingressd.yaml"
        path.write_text(json.dumps(config, indent=1))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INGRESSD_")}
        with self.output.open("wb") as sink:
            began = time.monotonic()
            self._process = subprocess.Popen(
                [*self._command, "run", "--config", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**environment, "POD_NAME": "ingressd-0", "POD_NAMESPACE": "ingressd"},
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        while self._status("/readyz") != 200:
            if self._process.poll() is not None or time.monotonic() > began + READY_S:
                raise MissingError(f"ingressd did not become ready: {self.last_words()}")
            time.sleep(0.01)
        took = time.monotonic() - began
        self._connect()
        return took

    def _connect(self) -> None:
        pids = [pid for pid, role in self.roles().items() if role.startswith("worker")]
        found = self.client.ask("connect", host=HOST, port=self.http_port, workers=pids)
        if sorted(pids) != found:
            raise MissingError(f"no connection to each of the workers {pids}, only to {found}")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to what is left."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()

    @property
    def pid(self) -> int:
        """The supervisor."""
        assert self._process is not None, "not started"
        return self._process.pid

    def roles(self) -> dict[int, str]:
        """What each process of ingressd is: supervisor, controller, worker N."""
        found = {self.pid: "supervisor"}
        for pid in procfs.tree(self.pid):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            if pid != self.pid and "-c" in words:
                role = words[words.index("-c") + 2 :]
                found[pid] = f"worker {role[1]}" if role[0] == "worker" else role[0]
        return found

    # ------------------------------------------------------------------ what it says
    @property
    def output(self) -> Path:
        return self.folder / "output.txt"

    def last_words(self) -> str:
        """The end of what it printed."""
        return self.output.read_text(errors="replace").strip()[-2000:]

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics, by its name with labels."""
        found = {}
        for line in self._fetch("/metrics")[1].splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found

    def _status(self, path: str) -> int:
        return self._fetch(path)[0]

    def _fetch(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.admin_port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except OSError:
            return 0, ""

    def memory_kib(self) -> dict[str, int]:
        """PSS of each process."""
        found = {}
        for pid, role in self.roles().items():
            found[role] = procfs.parse_kib(Path(f"/proc/{pid}/smaps_rollup").read_text(), "Pss")
        return found

    # ------------------------------------------------------------------ changes
    def left_at(self, changed: Object) -> float:
        """When the first watch event of this version of an object left the API server."""
        version = changed["metadata"]["resourceVersion"]
        until = time.monotonic() + 5
        while True:
            try:
                return self.api.left_at(version)
            except KeyError:
                if time.monotonic() > until:
                    raise MissingError(f"nobody watches {changed['kind']}") from None
                time.sleep(0.001)

    def watch(
        self, host: str, *, old: Sequence[str], new: Sequence[str], path: str = "/", settle_s: float = 0.05
    ) -> None:
        """Begin to ask every worker for a route."""
        self.client.ask(
            "watch", host=host, path=path, old=list(old), new=list(new), interval_s=0.001, settle_s=settle_s
        )

    def watched(self) -> dict[str, Any]:
        """What came of it."""
        found: dict[str, Any] = self.client.ask("watched")
        return found
