"""A client in a process of its own that asks again and again, so that our own threads are not what it waits for."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from stage.ports import Address
from stage.wire import ask


class Canary:
    """As a context: 50 requests a second, each on a new connection. Afterwards `took_s` and `statuses` are there."""

    def __init__(self, address: Address, host: str) -> None:
        self.took_s: list[float] = []
        self.statuses: list[int] = []
        tests = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, [tests, os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stage.canary", address[0], str(address[1]), host],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )

    def __enter__(self) -> Canary:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        said, _ = self._process.communicate(timeout=120)
        for took_s, status in json.loads(said):
            self.took_s.append(took_s)
            self.statuses.append(status)

    def percentile_s(self, share: float) -> float:
        """The time within which this share of the requests was answered."""
        return sorted(self.took_s)[min(len(self.took_s) - 1, int(len(self.took_s) * share))]


def main() -> None:
    """Ask until somebody closes our standard input; then tell."""
    address, port, host = sys.argv[1:]
    asked = []
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        began = time.monotonic()
        status = ask((address, int(port)), host=host, timeout_s=30).status
        asked.append((time.monotonic() - began, status))
    print(json.dumps(asked))


if __name__ == "__main__":
    main()
