"""Which items belong to a name."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Generic, TypeVar, cast

Name = TypeVar("Name")
Item = TypeVar("Item")


class Index(Generic[Name, Item]):
    """Items by name; a name goes with its last item. Most names have one item, which is kept without a set around it:
    a set costs 216 bytes, times ten thousand names, times the indexes there are. An item is never a set itself.
    """

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: dict[Name, object] = {}

    def __contains__(self, name: Name) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[Name]:
        return iter(self._items)

    def get(self, name: Name) -> Collection[Item]:
        """The items of a name, to be read at once and not kept."""
        found = self._items.get(name)
        if found is None:
            return ()
        return cast("set[Item]", found) if isinstance(found, set) else (cast("Item", found),)

    def add(self, name: Name, item: Item) -> None:
        """Put an item under a name."""
        found = self._items.setdefault(name, item)
        if isinstance(found, set):
            found.add(item)
        elif found is not item and found != item:
            self._items[name] = {found, item}

    def discard(self, name: Name, item: Item) -> None:
        """Take an item away, if it is there."""
        found = self._items.get(name)
        if isinstance(found, set):
            found.discard(item)
            if not found:
                del self._items[name]
        elif found is not None and found == item:
            del self._items[name]
