"""What a translation hands over, and the snapshot it keeps between two of them."""

from __future__ import annotations

from typing import Any, NamedTuple

from ingressd.control.objects.event import ObjectKey
from ingressd.model.codec import Units, encode_unit
from ingressd.model.problem import Problem
from ingressd.model.units import Unit
from ingressd.settings.flags import ProcessFlags

Status = dict[str, Any]


class Translation(NamedTuple):
    """One translation's result.

    `units` is the whole snapshot by unit key and `statuses` the status of each object that is ours and served; both are
    the translator's own, to be read and not changed, and change at the next translation. `changed` and `removed` are
    against the translation before. `accepted` are objects whose current version is good: give them to `Store.accept`.
    `wanted` are the Secrets and ConfigMaps that are looked at, existing or not: the same object while it is the same.
    """

    units: Units
    changed: Units
    removed: tuple[str, ...]
    problems: list[Problem]
    statuses: dict[ObjectKey, Status]
    accepted: frozenset[ObjectKey]
    told: frozenset[ObjectKey] = frozenset()
    flags: ProcessFlags = ProcessFlags()
    wanted: frozenset[ObjectKey] = frozenset()


class Snapshot:
    """The units in force, with what changed since the last `changes`."""

    def __init__(self) -> None:
        self.units = Units()
        self._before: dict[str, bytes | None] = {}

    def put(self, key: str, unit: Unit | None) -> None:
        """Set a unit, or remove it."""
        wire = self.units.wire
        old = wire.get(key)
        new = None if unit is None else encode_unit(unit)
        if old == new:
            return
        self._before.setdefault(key, old)
        if new is None:
            del wire[key]
        else:
            wire[key] = new

    def clear(self) -> None:
        """Remove every unit; those that are put again as they were are no change."""
        for key, old in self.units.wire.items():
            self._before.setdefault(key, old)
        self.units = Units()

    def changes(self) -> tuple[Units, tuple[str, ...]]:
        """The units that are new or different, and the keys of those that are gone, both in order of key."""
        changed: dict[str, bytes] = {}
        removed: list[str] = []
        before, self._before = self._before, {}
        for key in sorted(before):
            new, old = self.units.wire.get(key), before[key]
            if new is None:
                if old is not None:
                    removed.append(key)
            elif new != old:
                changed[key] = new
        return Units(changed), tuple(removed)
