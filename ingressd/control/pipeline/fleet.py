"""What every worker has, is being sent, and lacks. Pure: it returns deltas, others send them.

A worker is sent one delta at a time; what changes meanwhile is gathered by key into the next one, so a slow worker
holds nobody up and skips versions instead of queueing them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

Worker = tuple[int, int]
"""Index of the worker and the count of its starts: a worker that is started again is another one."""


class Sending(NamedTuple):
    """A delta for one worker: the keys that changed and have a value, the keys that are gone."""

    worker: Worker
    version: int
    base: int
    changed: tuple[str, ...]
    removed: tuple[str, ...]


class _State:
    __slots__ = ("acknowledged", "everything", "pending", "sending")

    def __init__(self) -> None:
        self.acknowledged = 0
        self.everything = True
        self.pending: set[str] = set()
        self.sending: Sending | None = None


class Fleet:
    """The workers, and the encoded units they should have. Nothing is sent before the first `publish`."""

    def __init__(self) -> None:
        self.units: dict[str, bytes] = {}
        self.version = 0
        self._greatest_seen = 0
        self._workers: dict[Worker, _State] = {}

    # ------------------------------------------------------------------ workers
    def add(self, worker: Worker, version: int) -> None:
        """A worker said hello. `version` is what it serves from a controller before us, 0 for nothing."""
        self._workers[worker] = _State()
        # Versions go on upwards over controllers, so that nobody takes an old one for a new one.
        self._greatest_seen = max(self._greatest_seen, version)

    def lose(self, worker: Worker) -> Sending | None:
        """A worker is gone; what it was being sent and had not acknowledged."""
        state = self._workers.pop(worker, None)
        return None if state is None else state.sending

    def workers(self) -> list[Worker]:
        """All that are attached."""
        return list(self._workers)

    def acknowledged(self, worker: Worker) -> int:
        """The version that a worker serves, 0 for none or nobody."""
        state = self._workers.get(worker)
        return 0 if state is None else state.acknowledged

    def acknowledged_by_all(self) -> int:
        """The version that every attached worker serves at least, 0 without any."""
        return min((state.acknowledged for state in self._workers.values()), default=0)

    # ------------------------------------------------------------------ versions
    def publish(self, changed: Mapping[str, bytes], removed: Iterable[str]) -> int:
        """A new version with these units changed and gone; its number. Without any change there is none."""
        gone = [key for key in removed if self.units.pop(key, None) is not None]
        self.units.update(changed)
        if not changed and not gone and self.version:
            return self.version
        self._greatest_seen = self.version = max(self.version, self._greatest_seen) + 1
        for state in self._workers.values():
            state.pending.update(changed, gone)
        return self.version

    def next(self, worker: Worker) -> Sending | None:
        """The delta that should go to a worker now, None when it is busy, up to date, or there is nothing yet."""
        state = self._workers.get(worker)
        if state is None or state.sending is not None or not self.version:
            return None
        if state.everything:
            sending = Sending(worker, self.version, 0, tuple(self.units), ())
        elif state.acknowledged < self.version:
            sending = Sending(
                worker,
                self.version,
                state.acknowledged,
                tuple(sorted(key for key in state.pending if key in self.units)),
                tuple(sorted(key for key in state.pending if key not in self.units)),
            )
        else:
            return None
        state.sending = sending
        state.pending = set()
        return sending

    def acknowledge(self, worker: Worker, version: int) -> Sending | None:
        """A worker serves a version; the delta that brought it, None for one that nobody waits for."""
        state = self._workers.get(worker)
        if state is None or state.sending is None or state.sending.version != version:
            return None
        sending, state.sending = state.sending, None
        state.acknowledged = version
        state.everything = False
        return sending

    def reject(self, worker: Worker, version: int) -> Sending | None:
        """A worker could build nothing of a version: what it serves stays, and it lacks all of the delta still."""
        state = self._workers.get(worker)
        if state is None or state.sending is None or state.sending.version != version:
            return None
        sending, state.sending = state.sending, None
        state.pending.update(sending.changed, sending.removed)
        return sending
