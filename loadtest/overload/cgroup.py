"""A control group of our own below the one we are in, version 1 or 2, with a limit: where the file system lets us."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from loadtest.launch import MissingError

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
"""The period that Kubernetes uses."""


def limits_of(version: int, controller: str, limit: float) -> dict[str, str]:
    """Files to write: `limit` is CPUs for `cpu`, bytes for `memory`."""
    if controller == "cpu":
        quota = int(limit * PERIOD_US)
        if version == 2:
            return {"cpu.max": f"{quota} {PERIOD_US}"}
        return {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(quota)}
    return {"memory.max" if version == 2 else "memory.limit_in_bytes": str(int(limit))}


def groups_of(text: str) -> dict[str, str]:
    """Controller to path, from /proc/self/cgroup; "" is version 2's."""
    found = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path.lstrip("/")
    return found


class ControlGroup:
    """A group with one limit. A context manager: leaving removes it, when nobody is in it any more."""

    def __init__(self, controller: str, limit: float) -> None:
        """Raises MissingError where no group can be made."""
        own = groups_of(Path("/proc/self/cgroup").read_text())
        name = f"loadtest-{os.getpid()}"
        tries = []
        if controller in own:
            tries.append((1, ROOT / controller / own[controller] / name))
        if "" in own and (ROOT / "cgroup.controllers").exists():
            tries.append((2, ROOT / own[""] / name))
        why = "no such controller"
        for version, folder in tries:
            try:
                folder.mkdir()
                self._write(folder, limits_of(version, controller, limit))
            except OSError as exc:
                why = str(exc)
                if folder.exists():
                    folder.rmdir()
                continue
            self.folder = folder
            return
        raise MissingError(f"no control group for {controller} can be made: {why}")

    @staticmethod
    def _write(folder: Path, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            (folder / name).write_text(text)

    def command(self, argv: list[str]) -> list[str]:
        """A command line that enters the group and then becomes `argv`."""
        return ["/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self.folder), *argv]

    def number(self, name: str, key: str = "") -> int:
        """A number out of one of the group's files, -1 when it is not there."""
        try:
            text = (self.folder / name).read_text()
        except OSError:
            return -1
        if not key:
            return int(text)
        return next((int(line.split()[1]) for line in text.splitlines() if line.split()[0] == key), -1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.folder.rmdir()
        except OSError:
            pass  # Somebody is in it still; it is empty and without effect once he is gone.
