"""What a translation hands over, and the snapshot it keeps between two of them."""

from __future__ import annotations

from typing import Any, NamedTuple

from ingressd.control.objects.event import ObjectKey
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

    units: dict[str, Unit]
    changed: dict[str, Unit]
    removed: tuple[str, ...]
    problems: list[Problem]
    statuses: dict[ObjectKey, Status]
    accepted: frozenset[ObjectKey]
    told: frozenset[ObjectKey] = frozenset()
    flags: ProcessFlags = ProcessFlags()
    wanted: frozenset[ObjectKey] = frozenset()


class Snapshot:
    """The units in force, with what changed since `begin`."""

    def __init__(self) -> None:
        self.units: dict[str, Unit] = {}
        self._before: dict[str, Unit | None] = {}

    def begin(self) -> None:
        """Forget what changed so far."""
        self._before = {}

    def put(self, key: str, unit: Unit | None) -> None:
        """Set a unit, or remove it."""
        old = self.units.get(key)
        if old == unit:
            return
        self._before.setdefault(key, old)
        if unit is None:
            del self.units[key]
        else:
            self.units[key] = unit

    def clear(self) -> None:
        """Remove every unit; those that are put again as they were are no change."""
        for key, unit in self.units.items():
            self._before.setdefault(key, unit)
        self.units = {}

    def changes(self) -> tuple[dict[str, Unit], tuple[str, ...]]:
        """The units that are new or different, and the keys of those that are gone, both in order of key."""
        changed: dict[str, Unit] = {}
        removed: list[str] = []
        for key in sorted(self._before):
            unit = self.units.get(key)
            if unit is None:
                if self._before[key] is not None:
                    removed.append(key)
            elif unit != self._before[key]:
                changed[key] = unit
        return changed, tuple(removed)
