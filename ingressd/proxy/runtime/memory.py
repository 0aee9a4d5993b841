"""What the connections of a worker hold, against what they may: near the budget nobody new comes in.

Counted are connections and exchanges (at what they were measured to cost) and the bytes that wait in our buffers. From
`TIGHT` of the budget on new requests are answered 503, nobody is accepted, and connections that wait for a request are
closed, those first that have waited longest, until `ROOMY` is reached. Beyond the budget handshakes that are not done
are ended, then who holds most is cut off.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ingressd.proxy.runtime.overload import Overload
    from ingressd.proxy.runtime.worker import Worker

MOST_BYTES: Final = 256 * 1024
"""What one connection holds at most, its upstream included (tests/process/test_memory_of_one_connection.py)."""
CONNECTION_BYTES: Final = 4096
TLS_BYTES: Final = 24 * 1024
EXCHANGE_BYTES: Final = 32 * 1024
SHARE: Final = 0.35
"""Of the control group's limit that is for connections; the rest is for the processes, and what malloc keeps."""
TIGHT: Final = 0.9
ROOMY: Final = 0.8
LOOK_S: Final = 0.1
RARE_LOOK_S: Final = 1.0
"""As long as all connections together cannot reach the budget."""
LOOKING_SHARE: Final = 0.02
FILLED: Final = 32
"""So many more full buffers than at the last look are a reason to look at once: a worker fills 1 GiB in a second."""
COMPLAIN_S: Final = 10.0

log = logging.getLogger("ingressd.memory")


def budget_of(limit_bytes: int | None, workers: int) -> int:
    """Bytes for the connections of one worker; 0 for no budget."""
    return int(limit_bytes * SHARE) // max(1, workers) if limit_bytes else 0


class MemoryBudget:
    """One worker's. `look` is called by the data plane's tick."""

    __slots__ = ("_complained_s", "_derived_bytes", "_full", "_mark", "_next_s", "_overload", "_rare_s", "_worker")

    def __init__(self, worker: Worker, overload: Overload, derived_bytes: int) -> None:
        """`derived_bytes` is the budget when no setting gives one; 0 for none."""
        self._worker = worker
        self._overload = overload
        self._derived_bytes = derived_bytes
        self._full = 0
        self._mark = FILLED
        self._next_s = self._rare_s = 0.0
        self._complained_s = -COMPLAIN_S

    @property
    def bytes(self) -> int:
        """The budget, 0 for none."""
        return self._worker.current.process.memory_budget_bytes or self._derived_bytes

    def fill(self) -> None:
        """A buffer is full: whoever writes to it is no longer read."""
        self._full += 1
        if self._full >= self._mark:
            self._count(self._worker.clock())

    def drain(self) -> None:
        """It is no longer, or gone."""
        self._full -= 1

    def look(self, now: float) -> None:
        """Count, if it is time and the budget within reach."""
        if now >= self._next_s:
            self._count(now)

    def _count(self, now: float) -> None:
        worker = self._worker
        budget = self.bytes
        self._mark = self._full + FILLED
        self._next_s = now + LOOK_S
        worker.counters.memory_budget_bytes = budget
        if not budget:
            return
        if now < self._rare_s and MOST_BYTES * (worker.counters.connections + len(worker.arrivals)) <= budget:
            return
        self._rare_s = now + RARE_LOOK_S
        began_s = self._overload.cpu()
        held = [(client.held_bytes(), client) for client in worker.clients]
        total = sum([one for one, _ in held]) + TLS_BYTES * len(worker.arrivals)
        worker.counters.memory_held_bytes = total
        took_s = self._overload.cpu() - began_s
        self._next_s = now + max(LOOK_S, took_s / LOOKING_SHARE)
        if total >= TIGHT * budget:
            self._tighten(now, total, budget)
            total -= self._close_idle(now, total - int(ROOMY * budget), held)
            if total > budget:
                total -= self._end_arrivals(now, total - budget)
            if total > budget:
                self._cut(total - budget, held)
        elif self._overload.tight and total < ROOMY * budget:
            self._overload.loosen()

    def _tighten(self, now: float, total: int, budget: int) -> None:
        self._overload.tighten()
        if now - self._complained_s >= COMPLAIN_S:
            self._complained_s = now
            log.warning(
                "connections hold %d of %d MiB: nobody new is let in, idle ones are closed", total >> 20, budget >> 20
            )

    def _close_idle(self, now: float, much: int, held: list[tuple[int, Any]]) -> int:
        """Close who has been idle longest, `much` bytes in all or everybody; the bytes that are free by that."""
        idle = sorted((client.deadline_s, index) for index, (_, client) in enumerate(held) if client.idle)
        freed = 0
        for _, index in idle:
            if freed >= much:
                break
            size, client = held[index]
            if client.close_if_idle(now):
                freed += size
        return freed

    def _end_arrivals(self, now: float, much: int) -> int:
        """End what is no client yet, `much` bytes in all, those first that have taken longest: no request is lost."""
        arrivals = sorted(self._worker.arrivals, key=_deadline)[: -(-much // TLS_BYTES)]
        for arrival in arrivals:
            arrival.on_deadline(now)
        return TLS_BYTES * len(arrivals)

    def _cut(self, much: int, held: list[tuple[int, Any]]) -> None:
        """End the connections that hold most."""
        for size, client in sorted(held, key=_size, reverse=True):
            if much <= 0:
                break
            much -= size
            client.cut_off()


def _size(one: tuple[int, Any]) -> int:
    return one[0]


def _deadline(arrival: Any) -> float:
    return float(arrival.deadline_s)
