"""Shared truth across workers: one mapping, a column per process, a slot per endpoint, one writer per column.

A column is a `memoryview` of signed 64-bit cells. It begins with the cells of the process itself (`HEARTBEAT_MS`, …)
and goes on with `SLOT_CELLS` cells for each slot, one cache line each. Behind all slots are `GROUP_CELLS` more for
each: an upstream uses those of the least slot among its endpoints, and zeroes them when it goes on to others. Aligned
64-bit loads and stores do not tear on the machines Python runs on, and every cell has one writer, so nothing is locked;
a reader sees values a little old.

The last column is the controller's: its cells are the directory, which endpoint owns a slot (`DIRECTORY`), so that a
controller that starts again gives every endpoint the slot that the workers already know.

Slot 0 belongs to no endpoint. An endpoint for which the delta names no slot has no shared state.
"""

from __future__ import annotations

import mmap
import os
from typing import Any, Final

MAX_WORKERS: Final = 128
MAX_SLOTS: Final = 65536

SLOT_CELLS: Final = 8
IN_FLIGHT: Final = 0
"""Gauge: exchanges of this worker that use the endpoint now."""
REQUESTS: Final = 1
"""Counter: exchanges sent to the endpoint."""
FAILURES: Final = 2
"""Counter: tries that failed (connect, reset, time-out, 5xx where it counts)."""
CONSECUTIVE_FAILURES: Final = 3
"""Gauge: failures since the last success, as this worker saw them."""
EJECTED_UNTIL_MS: Final = 4
"""CLOCK_MONOTONIC milliseconds until which this worker ejects the endpoint; the greatest of all columns counts. In the
controller's column: until when the verdict "unhealthy" of its health checks counts, if nobody renews it."""
FAILED_AT_US: Final = 5
"""CLOCK_MONOTONIC microseconds of the last failure in `CONSECUTIVE_FAILURES`."""
GOOD_AT_US: Final = 6
"""CLOCK_MONOTONIC microseconds of the last success that was worth a note: the endpoint was in doubt. In the column of
the controller: of the last probe that succeeded while it was ejected; ejections from before do not count any more."""
EJECTED_AT_US: Final = 7
"""CLOCK_MONOTONIC microseconds at which the ejection of `EJECTED_UNTIL_MS` began."""
DIRECTORY: Final = 7
"""In the controller's column, in place of `EJECTED_AT_US`: a digest of upstream and address, 0 for a free slot."""

GROUP_CELLS: Final = 2
RETRIES: Final = 0
"""What this worker's retry budget of the upstream has counted lately (packed, `proxy.upstream.budget`)."""
WAITING: Final = 1
"""Requests of this worker that wait for an endpoint of the upstream (packed, `proxy.upstream.request_queue`)."""

PROCESS_CELLS: Final = 32
HEARTBEAT_MS: Final = 0
"""CLOCK_MONOTONIC milliseconds of the last turn of the loop that beat."""
CONNECTIONS: Final = 1
"""Gauge: client connections open."""
ACCEPTED: Final = 2
"""Counter: client connections accepted."""
VERSION: Final = 3
"""Gauge: the version of the snapshot that serves."""
APPLYING: Final = 4
"""Gauge: the version that is being applied, 0 for none: after a crash it says what the worker was doing."""
DRAINING: Final = 5
"""Gauge: 1 while the worker drains."""
APPLYING_UNIT: Final = 6
"""Gauge: the position in the delta (1-based) of the unit that is being applied, 0 for none."""
SLOTS_USED: Final = 7
"""In the controller's column: slots beyond this number were never used, and their pages never touched."""

GAUGES: Final = (CONNECTIONS, VERSION, APPLYING, APPLYING_UNIT, DRAINING, HEARTBEAT_MS)
"""Process cells that a reaped worker leaves wrong; counters go on where they were."""
SLOT_GAUGES: Final = (IN_FLIGHT, CONSECUTIVE_FAILURES)

_GROUPS: Final = PROCESS_CELLS + MAX_SLOTS * SLOT_CELLS
_COLUMN_CELLS: Final = _GROUPS + MAX_SLOTS * GROUP_CELLS
_COLUMN_BYTES: Final = _COLUMN_CELLS * 8
_PAGE: Final = mmap.PAGESIZE
_STRIDE: Final = (_COLUMN_BYTES + _PAGE - 1) // _PAGE * _PAGE
_SIZE: Final = _PAGE + _STRIDE * (MAX_WORKERS + 1)
# Cells of the first page, written by the supervisor only, but for the bell.
_WORKERS: Final = 0
_BELL: Final = 1
_PROCESSES: Final = 256
"""Writers of the bell that can be told apart; the controller is the last."""


def ring(bell: Any, now_s: float, *, process: int = _PROCESSES - 1) -> None:
    """Let every balancer look at ejections and verdicts again before its next pick.

    `process` is the number of the worker, or the controller; no two processes ever write the same value.
    """
    bell[0] = int(now_s * 1e6) * _PROCESSES + process


class SharedTable:
    """The mapping. Pages that nobody touches cost nothing, so it is made for the greatest number of workers at once.

    The supervisor calls `create()`; children call `attach(fd)` with the inherited descriptor. Raises OSError when the
    mapping cannot be made.
    """

    __slots__ = ("_bell", "_columns", "_header", "_map", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, _SIZE)
        whole = memoryview(self._map)
        self._header = whole[:_PAGE].cast("q")
        self._bell = self._header[_BELL : _BELL + 1]
        self._columns: list[memoryview] = []
        for index in range(MAX_WORKERS + 1):
            start = _PAGE + index * _STRIDE
            self._columns.append(whole[start : start + _COLUMN_BYTES].cast("q"))

    @classmethod
    def create(cls, workers: int = 1) -> SharedTable:
        """A new table of zeros in anonymous shared memory; `fd` is inheritable only where it is passed on by name."""
        fd = os.memfd_create("ingressd-shared-table", os.MFD_CLOEXEC)
        os.ftruncate(fd, _SIZE)
        table = cls(fd)
        table.workers = workers
        return table

    @classmethod
    def attach(cls, fd: int) -> SharedTable:
        """The table that another process created."""
        return cls(fd)

    @property
    def workers(self) -> int:
        """How many workers there are: their columns are 0 … workers-1."""
        return self._header[_WORKERS]

    @workers.setter
    def workers(self, count: int) -> None:
        if not 1 <= count <= MAX_WORKERS:
            raise ValueError(f"workers must be 1 to {MAX_WORKERS}, not {count}")
        self._header[_WORKERS] = count

    def column(self, worker: int) -> memoryview:
        """The cells of one worker, for `column[base + IN_FLIGHT] += 1`. Only that worker writes there."""
        return self._columns[worker]

    def controller_column(self) -> memoryview:
        """The cells of the controller: its heartbeat, and the directory of slots."""
        return self._columns[MAX_WORKERS]

    @property
    def bell(self) -> memoryview:
        """One cell that everybody writes: another value in it says that an ejection or a verdict has changed.

        `ring` it. That one of two rings at the same moment overwrites the other does no harm.
        """
        return self._bell

    def ejects(self, slot: int, now_s: float) -> bool:
        """Whether some worker ejects the endpoint at `now_s` (monotonic), and no probe has lifted that since."""
        base = self.base(slot)
        lifted = self._columns[MAX_WORKERS][base + GOOD_AT_US]
        for column in self._columns[: self._header[_WORKERS]]:
            if column[base + EJECTED_UNTIL_MS] > now_s * 1000 and column[base + EJECTED_AT_US] > lifted:
                return True
        return False

    def columns(self) -> list[memoryview]:
        """The columns of all workers, for loops that sum one cell on the hot path."""
        return self._columns[: self.workers]

    @staticmethod
    def base(slot: int) -> int:
        """The index of a slot's first cell, the same in every column."""
        return PROCESS_CELLS + slot * SLOT_CELLS

    @staticmethod
    def group_base(base: int) -> int:
        """The index of the first group cell of the slot whose first cell is at `base`."""
        return _GROUPS + (base - PROCESS_CELLS) // SLOT_CELLS * GROUP_CELLS

    def sum(self, slot: int, cell: int) -> int:
        """One cell of a slot added up over all workers."""
        index = PROCESS_CELLS + slot * SLOT_CELLS + cell
        total = 0
        for column in self._columns[: self._header[_WORKERS]]:
            total += column[index]
        return total

    def clear_slot(self, slot: int) -> None:
        """Zero a slot in every column. Only for a slot that every worker has acknowledged to be free."""
        start = PROCESS_CELLS + slot * SLOT_CELLS
        zeros = memoryview(bytes(SLOT_CELLS * 8)).cast("q")
        # Not in the columns of workers that there are not: each would get its pages, 4 MiB a column.
        for column in (*self.columns(), self.controller_column()):
            column[start : start + SLOT_CELLS] = zeros

    def reap(self, worker: int) -> None:
        """Zero the gauges of a worker that is gone: the supervisor does, before the next one starts in its place."""
        column = self._columns[worker]
        for cell in GAUGES:
            column[cell] = 0
        directory = self._columns[MAX_WORKERS]
        for slot in range(1, directory[SLOTS_USED] + 1):
            index = self.base(slot)
            if directory[index + DIRECTORY]:
                for cell in SLOT_GAUGES:
                    column[index + cell] = 0
                group = self.group_base(index)
                for cell in range(group, group + GROUP_CELLS):
                    column[cell] = 0

    def close(self) -> None:
        """Unmap and close the descriptor. No column may be used afterwards."""
        for column in self._columns:
            column.release()
        self._columns.clear()
        self._bell.release()
        self._header.release()
        try:
            self._map.close()
        finally:
            os.close(self.fd)
