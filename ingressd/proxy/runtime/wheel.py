"""One timer wheel for every time-out of a worker.

A time-out is an attribute, `deadline_s`, that the hot path moves by one store; the wheel holds each object once and
looks at the attribute when the slot comes round. Only a deadline that moves nearer than the slot costs a move.
Deadlines are met to within one tick (100 ms), never early.
"""

from __future__ import annotations

from typing import Final, Protocol

TICK_S: Final = 0.1
_SLOTS: Final = 1024


class Timed(Protocol):
    """What the wheel needs of an object. `wheel_slot` belongs to the wheel: -1 while the object is not in it."""

    deadline_s: float
    wheel_slot: int
    wheel_at_s: float

    def on_deadline(self, now: float) -> None:
        """The deadline has passed. It may set another; without one the object stays out of the wheel."""


class TimerWheel:
    """Keyed by object identity; an object leaves when its deadline passes or when `remove` is called."""

    __slots__ = ("_at", "_slots", "_start_s")

    def __init__(self, now: float) -> None:
        self._slots: list[dict[Timed, None]] = [{} for _ in range(_SLOTS)]
        self._start_s = now
        self._at = 0

    def schedule(self, timed: Timed) -> None:
        """Make sure the object is looked at when `deadline_s` passes. Cheap when it already will be."""
        deadline = timed.deadline_s
        slot = timed.wheel_slot
        if slot >= 0:
            if timed.wheel_at_s <= deadline:
                return
            self._slots[slot].pop(timed, None)
        ticks = int((deadline - self._start_s) / TICK_S) + 1
        at = self._at
        if ticks <= at:
            ticks = at + 1
        elif ticks - at >= _SLOTS:
            ticks = at + _SLOTS - 1
        timed.wheel_slot = ticks % _SLOTS
        timed.wheel_at_s = self._start_s + ticks * TICK_S
        self._slots[timed.wheel_slot][timed] = None

    def remove(self, timed: Timed) -> None:
        """Forget the object."""
        if timed.wheel_slot >= 0:
            self._slots[timed.wheel_slot].pop(timed, None)
            timed.wheel_slot = -1

    def advance(self, now: float) -> None:
        """Call `on_deadline` of everything that is due. Never more than one round, however late.

        What one of them raises is raised when the others have had their turn.
        """
        failure: Exception | None = None
        until = int((now - self._start_s) / TICK_S)
        if until - self._at > _SLOTS:
            self._at = until - _SLOTS
        while self._at < until:
            self._at += 1
            index = self._at % _SLOTS
            due = self._slots[index]
            if not due:
                continue
            self._slots[index] = {}
            for timed in due:
                if timed.wheel_slot != index:
                    continue  # Removed or moved by an earlier one of this slot.
                timed.wheel_slot = -1
                if timed.deadline_s <= now:
                    try:
                        timed.on_deadline(now)
                    except Exception as error:  # noqa: BLE001 - the others must not lose their time-outs over it
                        failure = error
                else:
                    self.schedule(timed)
        if failure is not None:
            raise failure
