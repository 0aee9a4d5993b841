"""Endpoints with a shared table of plain lists, as two workers would see it."""

from __future__ import annotations

import pytest

from ingressd.observe.shared_table import IN_FLIGHT, SharedTable
from ingressd.proxy.upstream.endpoint import EndpointState


class Fleet:
    """Endpoints "10.0.0.1:80", … of one upstream, and the columns of `workers` workers."""

    def __init__(self, workers: int = 2) -> None:
        self.columns = [[0] * SharedTable.base(2048) for _ in range(workers)]
        self._slots: dict[str, int] = {}

    def states(self, count: int, *, weights: tuple[int, ...] = (1,), start: int = 1) -> list[EndpointState]:
        """New states, as one worker would make them; the same address has the same slot."""
        states = []
        for index in range(count):
            address = f"10.0.{(start + index) // 250}.{(start + index) % 250}"
            slot = self._slots.setdefault(address, len(self._slots) + 1)
            states.append(
                EndpointState(
                    address,
                    80,
                    weight=weights[index % len(weights)],
                    base=SharedTable.base(slot),
                    columns=self.columns,
                )
            )
        return states

    def load(self, endpoint: EndpointState, exchanges: int, *, worker: int = 0) -> None:
        """Put work in flight."""
        self.columns[worker][endpoint.base + IN_FLIGHT] += exchanges


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()
