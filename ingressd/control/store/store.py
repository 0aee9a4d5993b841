"""The store: current objects by key, and what translation needs to look up quickly.

Copy on write: a view shares the store's dicts until the store next changes the one in question, so a view costs a few
references and stays what it was. Ingresses, Services and EndpointSlices rest packed: each look gives a new object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar, cast

import msgspec

from ingressd.control.objects.event import AnyObject, ObjectEvent, ObjectKey, Position
from ingressd.control.objects.kubernetes import EndpointSlice, Ingress
from ingressd.control.objects.packed import Resting, pack, unpack

T = TypeVar("T")
Key = TypeVar("Key")
Value = TypeVar("Value")

ServiceName = tuple[str, str]
"""Namespace and name."""


class StoreView:
    """An immutable view of the store at one moment. Everything it iterates over is in order of key."""

    __slots__ = ("_good", "_kinds", "_slices", "_sorted")

    def __init__(
        self,
        kinds: Mapping[str, Mapping[ObjectKey, Resting]],
        good: Mapping[ObjectKey, Resting],
        *,
        slices: Mapping[ServiceName, tuple[ObjectKey, ...]],
    ) -> None:
        self._kinds = kinds
        self._good = good
        self._slices = slices
        self._sorted: dict[str, tuple[ObjectKey, ...]] = {}

    def get(self, key: ObjectKey) -> AnyObject | None:
        """The current object, or None."""
        of_kind = self._kinds.get(key.kind)
        return None if of_kind is None else _unpacked(key.kind, of_kind.get(key))

    def find(self, of_type: type[T], *, namespace: str = "", name: str) -> T | None:
        """The current object of a type: `view.find(Service, namespace="default", name="api")`."""
        return cast("T | None", self.get(ObjectKey(of_type.__name__, namespace, name)))

    def last_good(self, key: ObjectKey) -> AnyObject | None:
        """The last version that translation accepted, or None. It is kept until the object is deleted."""
        return _unpacked(key.kind, self._good.get(key))

    def other_good(self, key: ObjectKey) -> AnyObject | None:
        """The last accepted version where that is not the current one."""
        good = self._good.get(key)
        return None if good is None or good is self.resting(key) else unpack(key.kind, good)

    def resting(self, key: ObjectKey) -> object:
        """What the store keeps of the current version: the same object as long as the version is the same."""
        of_kind = self._kinds.get(key.kind)
        return None if of_kind is None else of_kind.get(key)

    def keys(self, of_type: type[object]) -> tuple[ObjectKey, ...]:
        """The keys of a type in order."""
        kind = of_type.__name__
        keys = self._sorted.get(kind)
        if keys is None:
            keys = self._sorted[kind] = tuple(sorted(self._kinds.get(kind, ())))
        return keys

    def items(self, of_type: type[T]) -> Iterator[tuple[ObjectKey, T]]:
        """Keys and objects of a type in order of key."""
        kind = of_type.__name__
        of_kind = self._kinds.get(kind, {})
        for key in self.keys(of_type):
            yield key, cast("T", unpack(kind, of_kind[key]))

    def unordered(self, of_type: type[T]) -> Iterator[tuple[ObjectKey, T]]:
        """Keys and objects of a type in any order, without the cost of sorting."""
        kind = of_type.__name__
        for key, resting in self._kinds.get(kind, {}).items():
            yield key, cast("T", unpack(kind, resting))

    def count(self, of_type: type[object]) -> int:
        """How many objects of a type there are."""
        return len(self._kinds.get(of_type.__name__, ()))

    def slices(self, *, namespace: str, service: str) -> tuple[EndpointSlice, ...]:
        """The EndpointSlices whose label names the Service, in order of name."""
        of_kind = self._kinds.get("EndpointSlice", {})
        keys = sorted(self._slices.get((namespace, service), ()))
        return tuple(cast("EndpointSlice", unpack("EndpointSlice", of_kind[key])) for key in keys)

    def services_of_slices(self) -> dict[ObjectKey, ServiceName]:
        """Every EndpointSlice with the Service that its label names."""
        return {key: service for service, keys in self._slices.items() for key in keys}


class Store:
    """Current objects by key. Belongs to the pipeline's loop; not for several threads."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[ObjectKey, Resting]] = {}
        self._positions: dict[ObjectKey, Position] = {}
        self._good: dict[ObjectKey, Resting] = {}
        self._slices: dict[ServiceName, tuple[ObjectKey, ...]] = {}
        self._shared: set[str] = set()
        self.changes = 0
        """Counts the calls of `apply` that changed something."""

    def apply(self, events: Iterable[ObjectEvent]) -> frozenset[ObjectKey]:
        """Take events in order; return the keys whose content is not what it was before the call.

        A new `resourceVersion`, `generation` or position alone is kept but is not a change.
        """
        before: dict[ObjectKey, AnyObject | None] = {}
        after: dict[ObjectKey, AnyObject | None] = {}
        for key, value, position in events:
            old = after[key] if key in after else self._current(key)
            if position is not None and value is not None:
                self._positions[key] = position
            if old is value:
                continue
            before.setdefault(key, old)
            after[key] = value
            self._put(key, old, value)
        changed = frozenset(key for key, old in before.items() if not same_content(old, after[key]))
        self.changes += bool(changed)
        return changed

    def accept(self, keys: Iterable[ObjectKey]) -> None:
        """Remember the current version of these objects as good, because translation refused nothing in them."""
        good = self._own("good", self._good)
        self._good = good
        for key in keys:
            of_kind = self._kinds.get(key.kind)
            resting = None if of_kind is None else of_kind.get(key)
            if resting is not None:
                good[key] = resting

    def remember(self, found: Iterable[tuple[ObjectKey, AnyObject]]) -> None:
        """Take last good versions from before a restart: those of objects that are still there (same uid) and have
        had none since."""
        self._good = good = self._own("good", self._good)
        for key, value in found:
            current = self._current(key)
            if current is not None and key not in good and _uid(current) == _uid(value):
                good[key] = pack(key.kind, value)

    def last_good(self, key: ObjectKey) -> AnyObject | None:
        """The last accepted version, or None."""
        return _unpacked(key.kind, self._good.get(key))

    def get(self, key: ObjectKey) -> AnyObject | None:
        """The current object, or None."""
        return self._current(key)

    def position(self, key: ObjectKey) -> Position | None:
        """Where the current object was read from, None when it came from a cluster."""
        return self._positions.get(key)

    def snapshot(self) -> StoreView:
        """A view that later changes do not touch."""
        self._shared.update(self._kinds)
        self._shared.update(("good", "slices"))
        return StoreView(dict(self._kinds), self._good, slices=self._slices)

    def _current(self, key: ObjectKey) -> AnyObject | None:
        of_kind = self._kinds.get(key.kind)
        return None if of_kind is None else _unpacked(key.kind, of_kind.get(key))

    def _own(self, name: str, table: dict[Key, Value]) -> dict[Key, Value]:
        if name in self._shared:
            self._shared.discard(name)
            return dict(table)
        return table

    def _put(self, key: ObjectKey, old: AnyObject | None, new: AnyObject | None) -> None:
        of_kind = self._kinds[key.kind] = self._own(key.kind, self._kinds.get(key.kind, {}))
        if new is None:
            del of_kind[key]
            self._positions.pop(key, None)
            if key in self._good:
                self._good = self._own("good", self._good)
                del self._good[key]
        else:
            of_kind[key] = pack(key.kind, new)
        if key.kind == "EndpointSlice":
            self._slices = self._own("slices", self._slices)
            _reindex(self._slices, key, old=_service_of(old), new=_service_of(new))


def _unpacked(kind: str, resting: Resting | None) -> AnyObject | None:
    return None if resting is None else unpack(kind, resting)


def same_content(old: AnyObject | None, new: AnyObject | None) -> bool:
    """Whether two versions of an object mean the same: all but `resourceVersion` and `generation` is equal.

    The status of an Ingress is written by us and means nothing to us. That of a Service holds our own addresses.
    """
    if old is new or old == new:
        return True
    if old is None or new is None or type(old) is not type(new):
        return False
    before, after = getattr(old, "metadata", None), getattr(new, "metadata", None)
    if before is None or after is None:
        return False
    after = msgspec.structs.replace(after, resource_version=before.resource_version, generation=before.generation)
    if before != after:
        return False
    if isinstance(old, Ingress):
        return bool(msgspec.structs.replace(new, metadata=before, status=old.status) == old)
    return bool(msgspec.structs.replace(new, metadata=before) == old)


def _uid(value: AnyObject) -> str:
    metadata = getattr(value, "metadata", None)
    return "" if metadata is None else metadata.uid


def _service_of(value: AnyObject | None) -> ServiceName | None:
    if not isinstance(value, EndpointSlice) or not value.service:
        return None
    return (value.metadata.namespace, value.service)


def _reindex(
    index: dict[ServiceName, tuple[ObjectKey, ...]], key: ObjectKey, *, old: ServiceName | None, new: ServiceName | None
) -> None:
    """Tuples, because views share them, and because a set of one costs four times as much for each Service."""
    if old == new:
        return
    if old is not None:
        rest = tuple(one for one in index[old] if one != key)
        if rest:
            index[old] = rest
        else:
            del index[old]
    if new is not None:
        index[new] = (*index.get(new, ()), key)
