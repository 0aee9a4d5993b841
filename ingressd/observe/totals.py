"""The pod's numbers: what all workers counted, living and dead, added up in the controller."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator
from typing import Any

import msgspec

from ingressd.observe.counters import ATTRIBUTES, CELL_LENGTH, PROCESS_GAUGES, Labels, decode_report

log = logging.getLogger("ingressd.observe")

Row = tuple[Labels, str, int]
"""Labels of a route, method, status."""


class _Living:
    __slots__ = ("process", "rows")

    def __init__(self) -> None:
        self.process: dict[str, float] = {}
        self.rows: dict[Labels, dict[tuple[str, int], list[float]]] = {}


class Totals:
    """Keyed by worker and start, because a worker that is started again counts from nothing."""

    def __init__(self) -> None:
        self._living: dict[Hashable, _Living] = {}
        self._folded_process: dict[str, float] = {}
        self._folded: dict[Labels, dict[tuple[str, int], list[float]]] = {}

    def absorb(self, worker: Hashable, report: bytes) -> None:
        """Take a worker's report. Numbers are cumulative: they replace what it said before."""
        try:
            said = decode_report(report)
        except msgspec.MsgspecError as error:
            log.error("the counters of worker %s are not understood: %s", worker, error)
            return
        living = self._living.setdefault(worker, _Living())
        living.process = said.process
        for labels, rows in said.series:
            known = living.rows.setdefault(labels, {})
            for method, status, cell in rows:
                known[method, status] = cell
        for labels in said.removed:
            # The route is gone in that worker; the series ends when no worker, living or dead, has it.
            living.rows.pop(labels, None)
            if not any(labels in other.rows for other in self._living.values()):
                self._folded.pop(labels, None)

    def fold(self, worker: Hashable) -> None:
        """A worker is gone: its counters are kept, its gauges are not."""
        living = self._living.pop(worker, None)
        if living is None:
            return
        for name, value in living.process.items():
            if name not in PROCESS_GAUGES:
                self._folded_process[name] = self._folded_process.get(name, 0) + value
        for labels, rows in living.rows.items():
            _add(self._folded.setdefault(labels, {}), rows)

    def process(self) -> dict[str, float]:
        """The process numbers of all workers, gauges of the living only. Lags are the greatest, not the sum."""
        total = {name: self._folded_process.get(name, 0) for name in ATTRIBUTES}
        for living in self._living.values():
            for name, value in living.process.items():
                if name.startswith("loop_lag"):
                    total[name] = max(total.get(name, 0.0), value)
                elif name in total:
                    total[name] += value
        return total

    def per_worker(self, name: str) -> dict[Hashable, float]:
        """One process number by worker."""
        return {worker: living.process.get(name, 0.0) for worker, living in self._living.items()}

    def rows(self) -> Iterator[tuple[Row, list[float]]]:
        """Every series with the cell that adds up all workers."""
        every: set[Labels] = set(self._folded)
        for living in self._living.values():
            every.update(living.rows)
        for labels in sorted(every):
            total: dict[tuple[str, int], list[float]] = {}
            _add(total, self._folded.get(labels, {}))
            for living in self._living.values():
                _add(total, living.rows.get(labels, {}))
            for (method, status), cell in sorted(total.items()):
                yield (labels, method, status), cell


def _add(total: dict[tuple[str, int], list[float]], rows: dict[tuple[str, int], list[Any]]) -> None:
    for key, cell in rows.items():
        if len(cell) != CELL_LENGTH:
            continue
        known = total.get(key)
        total[key] = list(cell) if known is None else [a + b for a, b in zip(known, cell, strict=True)]
