"""What has to be written into the statuses of Ingresses: known addresses against what each object has. No I/O.

A status that is ours is replaced whole, as ingress-nginx does. From an object that stopped being ours only entries are
taken that are exactly those we gave it; whatever else its new owner wrote stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import Ingress, LoadBalancerIngress

Entries = tuple[LoadBalancerIngress, ...]
SLICE: Final = 500
"""How many objects are looked at in one go."""


class Write(NamedTuple):
    """`entries` have to replace the status of the version `version`. `removes`: the object is not ours any more."""

    version: str
    entries: Entries
    removes: bool = False
    first: bool = False
    """The object had no address before."""
    unproven: bool = False
    """It may be that we did not give them: to be asked before."""


class _Written(NamedTuple):
    """What we wrote on top of a version, until the watch brings it."""

    on: str
    version: str
    entries: Entries


class AddressBook:
    """The addresses that each object of ours should have. `current` finds an Ingress as the cluster has it, if it does.

    State is keyed by object: that of `_ours` goes when the object is no longer ours, that of `_left` when our addresses
    are gone from it, and both when there is no such object. `_unproven` are some of `_left`.
    """

    def __init__(self, current: Callable[[ObjectKey], Ingress | None]) -> None:
        self._current = current
        self._ours: dict[ObjectKey, Entries] = {}
        self._left: dict[ObjectKey, Entries] = {}
        self._unproven: set[ObjectKey] = set()
        self._written: dict[ObjectKey, _Written] = {}
        self._known = False
        self._last: tuple[Any, Entries | None] = ({}, None)

    def tell(self, statuses: Mapping[ObjectKey, Any]) -> None:
        """Statuses that are true now, None for objects that have none any more."""
        for key, status in statuses.items():
            if key.kind != "Ingress":
                continue
            if status is None:
                former = self._ours.pop(key, ())
                if former:
                    self._left[key] = former
                continue
            entries = self._entries(status)
            self._known = entries is not None
            # When nobody knows the addresses any more, what we gave the object is still ours to take back.
            self._ours[key] = self._ours.get(key, ()) if entries is None else entries
            self.disown(key)

    def strays(self, keys: list[ObjectKey]) -> Iterator[list[ObjectKey]]:
        """Those of the keys that are not ours and have one of our addresses, a part at a time: perhaps we gave it, and
        they changed hands while we did not look."""
        known = self._last[1] or ()
        for start in range(0, len(keys), SLICE):
            found = []
            for key in keys[start : start + SLICE]:
                ingress = None if key in self._ours or key in self._left else self._current(key)
                entries = ingress.status.load_balancer.ingress if ingress is not None else ()
                if any(one in known for one in entries):
                    self._left[key] = entries
                    self._unproven.add(key)
                    found.append(key)
            yield found

    def disown(self, key: ObjectKey) -> None:
        """Nothing is to be taken from an object."""
        self._left.pop(key, None)
        self._unproven.discard(key)

    def knows(self) -> bool:
        """Whether anybody knows our addresses."""
        return self._known

    def differing(self, keys: Iterable[ObjectKey]) -> list[ObjectKey]:
        """Those of the keys that have to be written. A look at each object: a few µs."""
        return [key for key in keys if self.write(key) is not None]

    def give_up(self) -> None:
        """Nothing is ours from now on."""
        self._left.update({key: entries for key, entries in self._ours.items() if entries})
        self._ours.clear()

    def write(self, key: ObjectKey) -> Write | None:
        """What has to be written to an object now, None for nothing."""
        found = self._current(key)
        if found is None:
            self.disown(key)
            self._written.pop(key, None)
            return None
        version, entries = found.metadata.resource_version, found.status.load_balancer.ingress
        written = self._written.get(key)
        if written is not None:
            if written.on == version:
                version, entries = written.version, written.entries
            else:
                del self._written[key]
        if key in self._ours:
            wanted = self._ours[key]
            if not self._known or wanted == entries:
                return None
            return Write(version, wanted, first=not entries)
        former = self._left.get(key)
        if former is None:
            return None
        wanted = tuple(one for one in entries if one not in former)
        if wanted == entries:
            self.disown(key)
            return None
        return Write(version, wanted, removes=True, unproven=key in self._unproven)

    def wrote(self, key: ObjectKey, write: Write, version: str) -> None:
        """An object was written, and has a new version."""
        found = self._current(key)
        if found is not None and found.metadata.resource_version != version:
            self._written[key] = _Written(found.metadata.resource_version, version, write.entries)

    def slices(self) -> Iterator[list[ObjectKey]]:
        """Everything that may have to be written, a part at a time; it may change meanwhile."""
        keys = [*self._ours, *self._left]
        for start in range(0, len(keys), SLICE):
            yield self.differing(keys[start : start + SLICE])

    def _entries(self, status: Any) -> Entries | None:
        """The entries of a status, None when nobody knows them. Objects share one status, so one is remembered."""
        if status is not self._last[0]:
            balancer = status.get("loadBalancer")
            found = None if balancer is None else msgspec.convert(balancer.get("ingress", ()), Entries)
            self._last = (status, found)
        return self._last[1]


def body_of(write: Write) -> bytes:
    """The merge patch. It names the version, so that it cannot change an object that we have not seen yet."""
    entries = msgspec.to_builtins(write.entries)
    return msgspec.json.encode(
        {
            "metadata": {"resourceVersion": write.version},
            "status": {"loadBalancer": {"ingress": entries or None}},
        }
    )
