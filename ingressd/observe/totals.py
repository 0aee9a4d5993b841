"""The pod's numbers: what all workers counted, living and dead, added up in the controller."""

from __future__ import annotations

import logging
import sys
from collections.abc import Hashable, Iterable, Iterator

import msgspec

from ingressd.observe.counters import ATTRIBUTES, CELL_LENGTH, PROCESS_GAUGES, Labels, decode_cell, decode_report

log = logging.getLogger("ingressd.observe")

Row = tuple[Labels, str, int]
"""Labels of a route, method, status."""


Rows = tuple[tuple[str, int, bytes], ...]
"""Method, status and encoded cell: what one worker counted of one route."""
Cells = dict[tuple[str, int], list[float]]


class _Living:
    __slots__ = ("process", "rows")

    def __init__(self) -> None:
        self.process: dict[str, float] = {}
        self.rows: dict[Labels, Rows] = {}


class Totals:
    """Keyed by worker and start, because a worker that is started again counts from nothing."""

    def __init__(self) -> None:
        self._living: dict[Hashable, _Living] = {}
        self._folded_process: dict[str, float] = {}
        self._folded: dict[Labels, Cells] = {}
        self._labels: dict[Labels, Labels] = {}
        """One object for the same labels of all workers."""

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
            known = living.rows.get(labels, ())
            new = {(sys.intern(method), status): bytes(cell) for method, status, cell in rows}
            kept = [row for row in known if row[:2] not in new]
            rows_now = (*kept, *((method, status, cell) for (method, status), cell in new.items()))
            living.rows[self._labels.setdefault(labels, labels)] = rows_now
        for labels in said.removed:
            # The route is gone in that worker; the series ends when no worker, living or dead, has it.
            living.rows.pop(labels, None)
            if not any(labels in other.rows for other in self._living.values()):
                self._folded.pop(labels, None)
                self._labels.pop(labels, None)

    def fold(self, worker: Hashable) -> None:
        """A worker is gone: its counters are kept, its gauges are not."""
        living = self._living.pop(worker, None)
        if living is None:
            return
        for name, value in living.process.items():
            if name not in PROCESS_GAUGES:
                self._folded_process[name] = self._folded_process.get(name, 0) + value
        for labels, rows in living.rows.items():
            _add(self._folded.setdefault(labels, {}), _decoded(rows))

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

    def rows(self) -> Iterator[tuple[Row, list[float]]]:
        """Every series with the cell that adds up all workers."""
        every: set[Labels] = set(self._folded)
        for living in self._living.values():
            every.update(living.rows)
        for labels in sorted(every):
            total: Cells = {}
            _add(total, self._folded.get(labels, {}).items())
            for living in self._living.values():
                _add(total, _decoded(living.rows.get(labels, ())))
            for (method, status), cell in sorted(total.items()):
                yield (labels, method, status), cell


def _decoded(rows: Rows) -> Iterator[tuple[tuple[str, int], list[float]]]:
    for method, status, cell in rows:
        try:
            yield (method, status), decode_cell(cell)
        except msgspec.MsgspecError as error:
            log.error("a cell of the counters is not understood: %s", error)


def _add(total: Cells, cells: Iterable[tuple[tuple[str, int], list[float]]]) -> None:
    for key, cell in cells:
        if len(cell) != CELL_LENGTH:
            continue
        known = total.get(key)
        total[key] = list(cell) if known is None else [a + b for a, b in zip(known, cell, strict=True)]
