"""A real `ingressd run`, started, watched and ended by its process id."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from stage.ports import Address, free_address, spelled
from stage.wire import ask

PROGRAM = Path(sys.executable).with_name("ingressd")
PATIENCE_S = 30.0
"""How long is waited for what has to happen. Any process may stand still for seconds on a busy machine, so no such
limit proves speed: a test makes the wrong way take longer than this, or never get there.
"""


class NotReadyError(AssertionError):
    """ingressd did not come up, or a change did not go live in time."""


class Ingressd:
    """One `ingressd run` with its own folder, listeners and access log.

    `config` is merged over listeners, admin, one worker and a JSON access log. The process is a session leader:
    whatever it leaves behind is ended with its process group.
    """

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder = folder
        self.http, self.https, self.admin = free_address(), free_address(), free_address()
        self.access_log = folder / "access.log"
        self.config: dict[str, Any] = {
            "workers": 1,
            "listeners": [
                {"name": "http", "address": spelled(self.http), "protocol": "HTTP"},
                {"name": "https", "address": spelled(self.https), "protocol": "HTTPS"},
            ],
            "admin": {"address": spelled(self.admin)},
            "accessLog": {"path": str(self.access_log), "format": "json"},
            **config,
        }
        self.config_path = folder / "ingressd.yaml"
        self._output = folder / "output.log"
        self.output_mode = "ab"
        self.wrapper: list[str] = []
        """Words before the program: one that becomes it, like `prlimit`."""
        self._process: subprocess.Popen[bytes] | None = None

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self, *, ready_within_s: float = 2 * PATIENCE_S) -> None:
        """Start the process and wait until /readyz says 200."""
        self.write_config()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INGRESSD_")}
        with self._output.open(self.output_mode) as output:
            self._process = subprocess.Popen(
                [*self.wrapper, str(PROGRAM), "run", "--config", str(self.config_path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self.folder,
                start_new_session=True,
            )
        until = time.monotonic() + ready_within_s
        while ask(self.admin, "/readyz", timeout_s=2.0).status != 200:
            if self.ended():
                raise NotReadyError(f"ended with code {self.process.returncode} while starting:\n{self.output()}")
            if time.monotonic() > until:
                raise NotReadyError(f"/readyz was not 200 within {ready_within_s:g} s:\n{self.output()}")
            time.sleep(0.02)

    def stop(self, *, within_s: float = PATIENCE_S) -> int:
        """SIGTERM, wait, and end what is left; the exit code. Fails when it had to be killed or printed a traceback."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        late = False
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(within_s)
            except subprocess.TimeoutExpired:
                late = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait(PATIENCE_S)
        until = time.monotonic() + PATIENCE_S
        while (
            _session_of(process.pid) and time.monotonic() < until
        ):  # Who is killed holds its sockets until it is gone.
            time.sleep(0.01)
        assert not late, f"still running {within_s:g} s after SIGTERM:\n{self.output()}"
        assert "Traceback (most recent call last)" not in self.output(), self.output()
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        self.process.send_signal(number)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The supervisor."""
        assert self._process is not None, "not started"
        return self._process

    def ended(self) -> bool:
        """Has the supervisor ended?"""
        return self.process.poll() is not None

    # --- changing what it serves --------------------------------------------------------------------------------------

    def write_config(self) -> None:
        """Write `config` in place of the old file, by rename, as editors and Kubernetes do."""
        pending = self.folder / ".pending.yaml"
        pending.write_text(yaml.safe_dump(self.config, sort_keys=False, width=1000))
        pending.replace(self.config_path)

    def change(self, *, live: Any, within_s: float = PATIENCE_S, **config: Any) -> None:
        """Change top-level keys of the running configuration and wait until `live()` is true."""
        self.config.update(config)
        self.write_config()
        self.wait_until(live, within_s=within_s)

    def wait_until(self, condition: Any, *, within_s: float = PATIENCE_S) -> None:
        """Wait until `condition()` is true; fails with the log when that takes too long."""
        until = time.monotonic() + within_s
        while not condition():
            assert not self.ended(), f"ended by itself:\n{self.output()}"
            if time.monotonic() > until:
                raise NotReadyError(f"not live within {within_s:g} s:\n{self.output()}")
            time.sleep(0.01)

    # --- what it says -------------------------------------------------------------------------------------------------

    def ask_admin(self, path: str) -> int:
        """The status that the admin listener answers; 0 when it does not answer."""
        return ask(self.admin, path).status

    def metric(self, name: str, wanted: str = "") -> float:
        """The sum of the samples of a name whose labels contain `wanted`."""
        text = ask(self.admin, "/metrics").text
        found = re.findall(rf"^{name}(\{{.*\}})? (\S+)$", text, re.MULTILINE)
        assert found, f"no {name}"
        return sum(float(value) for labels, value in found if wanted in labels)

    def output(self) -> str:
        """Everything it printed."""
        return self._output.read_text("utf-8", "replace") if self._output.exists() else ""

    def access_lines(
        self, *, path: str | None = None, count: int = 1, within_s: float = PATIENCE_S
    ) -> list[dict[str, Any]]:
        """The parsed access log, of one path if given; waits until `count` such lines are there (lines are batched)."""
        until = time.monotonic() + within_s
        while True:
            text = self.access_log.read_text("utf-8", "replace") if self.access_log.exists() else ""
            # What follows the last line end is a line that is being written.
            lines = [json.loads(line) for line in text.rpartition("\n")[0].splitlines()]
            found = [line for line in lines if path is None or line["path"] == path]
            if len(found) >= count or time.monotonic() > until:
                return found
            time.sleep(0.02)

    def children(self) -> list[int]:
        """Process ids of controller and workers: every other process of its session."""
        return _session_of(self.process.pid)

    def memory_kib(self) -> int:
        """Resident memory of the whole process tree."""
        total = 0
        for pid in [self.process.pid, *self.children()]:
            with contextlib.suppress(OSError, IndexError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4
        return total


def _session_of(leader: int) -> list[int]:
    """The other processes of a session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            if int(fields[3]) == leader and int(entry.name) != leader and fields[0] != "Z":
                found.append(int(entry.name))
    return sorted(found)


@contextlib.contextmanager
def running(folder: Path, **config: Any) -> Iterator[Ingressd]:
    """A started ingressd, stopped at the end."""
    ingressd = Ingressd(folder, **config)
    try:
        ingressd.start()
        yield ingressd
    finally:
        ingressd.stop()


def route_to(upstreams: dict[str, list[Address]], **options: Any) -> dict[str, Any]:
    """Configuration of one route for each upstream: host NAME.test, everything, to these addresses."""
    return {
        "routes": [{"host": f"{name}.test", "path": "/", "upstream": name} for name in upstreams],
        "upstreams": {name: {"endpoints": [spelled(a) for a in found]} for name, found in upstreams.items()},
        **options,
    }
