"""One program of the control plane: started, watched, ended by its process id, its output kept in a file."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


class NotUpError(AssertionError):
    """A program did not come up in time; the message has the end of its log."""


class Program:
    """A command that dies with us: the kernel kills it when this process ends, however that happens."""

    def __init__(self, name: str, command: list[str], folder: Path) -> None:
        self.name, self.command = name, command
        self.log = folder / f"{name}.log"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its log goes on where it ended."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                start_new_session=True,
            )

    def stop(self, number: signal.Signals = signal.SIGKILL, *, within_s: float = 15.0) -> None:
        """Signal it and wait; after `within_s` it is killed. Nothing when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """Stop it from running without closing a connection: a hung server, not a dead one."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run again."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def wait_until(self, condition: Callable[[], bool], *, within_s: float) -> None:
        """Wait for `condition`; NotUpError when the program ends first or time runs out."""
        until = time.monotonic() + within_s
        while not condition():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > until:
                why = "ended" if ended else f"not up within {within_s:g} s"
                raise NotUpError(f"{self.name} {why}:\n{self.tail()}")
            time.sleep(0.05)

    def tail(self, lines: int = 40) -> str:
        """The last lines of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])
