"""Does a child still beat, and if not, is it hung or only short of CPU?

A child writes the time into its heartbeat cell ten times a second. When the cell stands still, what the kernel says
about the process decides: one that is stopped, or sleeps although its timer is long due, is hung; one that is ready to
run but gets no CPU is not, however loaded the machine; one that burns CPU without ever coming back to its loop is hung.
Time counts only as far as the supervisor itself was running, so a paused container or a suspended machine kills nobody.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

STOPPED_S: Final = 1.0
"""A process stopped by a signal (state T)."""
ASLEEP_S: Final = 2.0
"""A process that sleeps in something else than its loop."""
BLOCKED_S: Final = 10.0
"""A process in an uninterruptible wait (state D): a slow disk is not a hang."""
SPINNING_S: Final = 5.0
"""CPU seconds burnt since the last beat, by a worker."""
CONTROLLER_SPINNING_S: Final = 120.0
"""The same by the controller: the first translation of a very big world takes its time in one piece."""
STARTING_S: Final = 30.0
"""The first beat may take this long."""
LONGEST_STEP_S: Final = 0.5
"""More than this between two looks was time in which the supervisor did not run itself."""

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class ProcessState(NamedTuple):
    """The kernel's word: `state` is the letter of proc(5), `cpu_s` user and system time so far."""

    state: str
    cpu_s: float


def read_process_state(pid: int) -> ProcessState | None:
    """What /proc says, None for a process that is gone (or where there is no /proc)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            line = stat.read()
    except OSError:
        return None
    # The name in parentheses may hold anything, so count from its end. utime and stime are fields 14 and 15.
    fields = line[line.rindex(b")") + 2 :].split()
    return ProcessState(fields[0].decode(), (int(fields[11]) + int(fields[12])) / _TICKS_PER_S)


class Pulse:
    """Watches the heartbeat of one process; a new one for each process that is started."""

    __slots__ = ("_beat", "_cpu_s", "_looked_at_s", "_silent_s", "_spinning_s")

    def __init__(self, now_s: float, spinning_s: float = SPINNING_S) -> None:
        self._spinning_s = spinning_s
        self._beat = 0
        self._looked_at_s = now_s
        self._silent_s = 0.0
        self._cpu_s: float | None = None

    @property
    def began(self) -> bool:
        """Whether it ever beat."""
        return self._beat != 0

    def is_silent(self, now_s: float, beat: int) -> bool:
        """Take note of the heartbeat cell; whether it stood still, so that `verdict` is worth asking."""
        step_s = min(now_s - self._looked_at_s, LONGEST_STEP_S)
        self._looked_at_s = now_s
        if beat != self._beat:
            self._beat = beat
            self._silent_s = 0.0
            self._cpu_s = None
            return False
        self._silent_s += step_s
        return True

    def verdict(self, state: ProcessState) -> str | None:
        """Why the process counts as hung, None when it does not (yet). After `is_silent` said so."""
        if self._cpu_s is None:
            self._cpu_s = state.cpu_s
        silent = f"no heartbeat for {self._silent_s:.1f} s"
        if state.state == "T":
            return f"{silent}, stopped" if self._silent_s >= STOPPED_S else None
        if not self.began:
            return f"{silent} since its start" if self._silent_s >= STARTING_S else None
        if state.state == "S":
            return f"{silent}, asleep" if self._silent_s >= ASLEEP_S else None
        if state.state == "D":
            return f"{silent}, blocked" if self._silent_s >= BLOCKED_S else None
        if state.cpu_s - self._cpu_s >= self._spinning_s:
            return f"{silent}, spinning"
        return None
