"""Units that workers refuse or die of: the last good serves in their place, and they are tried again ever more rarely.

A refused unit is known by its key. A crash names nobody: every unit of that delta which never served is a suspect, and
after the second crash all suspects are held. Then they are tried in halves, one trial at a time, until the guilty one
is alone, so that one bad unit holds the others back for seconds only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from ingressd.model.codec import decode_unit, encode_unit
from ingressd.model.units import ClientCertificates

CRASHES: Final = 2
"""So many workers may die of a unit before it is held: the first may have died of something else."""
FIRST_PAUSE_S: Final = 30.0
LONGEST_PAUSE_S: Final = 3600.0
CLOSED: Final = 503
"""What a host answers whose client certificates nobody can say."""


class Held(NamedTuple):
    """A unit in quarantine: its encoded value, why, when it is tried again, how often it failed."""

    unit: bytes
    reason: str
    again_at_s: float
    failures: int


class Changes(NamedTuple):
    """What should be published instead."""

    changed: dict[str, bytes]
    removed: tuple[str, ...]


class Quarantine:
    """Keyed by unit key. `good` is what every worker served at some time; it is what takes the place of a held unit."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        self.good: dict[str, bytes] = {}
        self._crashes: dict[str, int] = {}
        self._trials: deque[tuple[str, ...]] = deque()
        self._trial: tuple[str, ...] = ()

    # ------------------------------------------------------------------ what is published
    def admit(self, changed: Mapping[str, bytes], removed: Iterable[str]) -> Changes:
        """What of a translation may be published. A held unit that changed is no longer held: it gets its chance."""
        admitted = {}
        for key, unit in changed.items():
            held = self.held.get(key)
            if held is not None and held.unit == unit:
                continue
            self._forget(key)
            admitted[key] = unit
        gone = tuple(removed)
        for key in gone:
            self._forget(key)
            self.good.pop(key, None)
        return Changes(admitted, gone)

    def _forget(self, key: str) -> None:
        self.held.pop(key, None)
        self._crashes.pop(key, None)
        self._end_trial(key)

    def _end_trial(self, key: str) -> None:
        if key in self._trial:
            self._trial = tuple(other for other in self._trial if other != key)

    # ------------------------------------------------------------------ what workers say
    def served(self, units: Mapping[str, bytes]) -> None:
        """Every worker serves these: they are good."""
        for key, unit in units.items():
            self.good[key] = unit
            self._crashes.pop(key, None)
            held = self.held.get(key)
            if held is not None and held.unit == unit:
                del self.held[key]
                self._end_trial(key)

    def refused(self, units: Mapping[str, bytes], reasons: Mapping[str, str], now_s: float) -> Changes:
        """Workers refused these units, by key."""
        for key in reasons:
            self._end_trial(key)
        return self._hold({key: (units[key], reasons[key]) for key in reasons if key in units}, now_s)

    def crashed(self, units: Mapping[str, bytes], reason: str, *, now_s: float, sure: bool = False) -> Changes:
        """A worker died while it built `units`. `sure` says that one crash is proof enough."""
        suspects = [key for key, unit in units.items() if self.good.get(key) != unit]
        tried = tuple(key for key in suspects if key in self._trial)
        if tried:
            self._trial = ()
            guilty = tried
        else:
            for key in suspects:
                self._crashes[key] = self._crashes.get(key, 0) + 1
            guilty = tuple(key for key in suspects if sure or self._crashes[key] >= CRASHES)
        changes = self._hold({key: (units[key], reason) for key in guilty}, now_s)
        self._queue(guilty)
        return changes

    def _queue(self, keys: tuple[str, ...]) -> None:
        """Line up the halves of a group; one alone is left to its pause."""
        if len(keys) > 1:
            middle = len(keys) // 2
            self._trials.extend((keys[:middle], keys[middle:]))

    def _hold(self, guilty: Mapping[str, tuple[bytes, str]], now_s: float) -> Changes:
        changed, removed = {}, []
        for key, (unit, reason) in guilty.items():
            before = self.held.get(key)
            failures = 1 if before is None or before.unit != unit else before.failures + 1
            pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16))
            self.held[key] = Held(unit, reason, now_s + pause_s, failures)
            self._crashes.pop(key, None)
            instead = self.good.get(key) or closed(key, unit)
            if instead is None:
                removed.append(key)
            else:
                changed[key] = instead
        return Changes(changed, tuple(removed))

    # ------------------------------------------------------------------ trying again
    def due(self, now_s: float, *, quiet: bool) -> dict[str, bytes]:
        """Units to publish again now. `quiet` says that every worker has acknowledged all there is."""
        if self._trial or not quiet:
            return {}
        while self._trials:
            self._trial = tuple(key for key in self._trials.popleft() if key in self.held)
            if self._trial:
                return {key: self.held[key].unit for key in self._trial}
        for key, held in self.held.items():
            if held.again_at_s <= now_s:
                self._trial = (key,)
                return {key: held.unit}
        return {}


def closed(key: str, unit: bytes) -> bytes | None:
    """In place of a unit that never served: without what it asks of its clients, a host would be open to everybody."""
    clients = decode_unit(unit) if key.startswith("clients/") else None
    if not isinstance(clients, ClientCertificates):
        return None
    return encode_unit(
        msgspec.structs.replace(clients, closed=CLOSED, fault="what it asks of clients is in quarantine")
    )
