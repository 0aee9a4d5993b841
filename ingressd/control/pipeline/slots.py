"""Which slot of the shared table an endpoint owns. Keyed by upstream and address, so that nothing but the two decides.

The directory is in the table itself, so a controller that starts again finds every endpoint where workers know it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

from ingressd.observe.shared_table import (
    DIRECTORY,
    IN_FLIGHT,
    MAX_SLOTS,
    SLOTS_USED,
    SharedTable,
)

REST_S: Final = 60.0
"""A slot rests so long after every worker has let go of it: an exchange that began before may still choose it once."""


class OwnedSlots(NamedTuple):
    """The addresses of an upstream and their slots. Two tuples take half the memory of a dict."""

    addresses: tuple[str, ...] = ()
    slots: tuple[int, ...] = ()

    def by_address(self) -> dict[str, int]:
        """Address ("10.0.0.1:80") to slot."""
        return dict(zip(self.addresses, self.slots, strict=True))


_NONE: Final = OwnedSlots()


class Slots:
    """Gives slots to endpoints and takes them back. Not before every worker has acknowledged is a slot used again."""

    def __init__(self, table: SharedTable, clock: Callable[[], float]) -> None:
        self._table = table
        self._clock = clock
        self._directory = table.controller_column()
        self._of: dict[str, OwnedSlots] = {}  # By upstream.
        self._leaving: dict[int, int] = {}  # Slot to the version that no longer names it.
        self._resting: dict[int, float] = {}  # Slot to when it may be used again.
        self._owned: dict[int, int] = {}  # Digest to slot, of a controller that ran before us.
        self._back: dict[int, int] = {}  # Digest to slot, of endpoints that left and may come back before it is free.
        self._free: list[int] = []  # Among those that were used; the least last.
        for slot in range(self._directory[SLOTS_USED], 0, -1):
            digest = self._directory[table.base(slot) + DIRECTORY]
            if digest:
                self._owned[digest] = slot
            else:
                self._free.append(slot)

    def owned(self, upstream: str) -> OwnedSlots:
        """Those of one upstream now."""
        return self._of.get(upstream, _NONE)

    def of(self, upstream: str) -> Mapping[str, int]:
        """Address ("10.0.0.1:80") to slot of one upstream, for its part of a delta."""
        return self.owned(upstream).by_address()

    def assign(self, upstream: str, addresses: Iterable[str], *, version: int) -> None:
        """Make these the endpoints of an upstream as of a version. Endpoints beyond the last free slot get none."""
        before = self.of(upstream)
        after: dict[str, int] = {}
        for address in addresses:
            slot = before.get(address)
            if slot is None:
                slot = self._take(upstream, address)
            if slot is not None:
                after[address] = slot
        for address, slot in before.items():
            if address not in after:
                self._leave(slot, version)
        if after:
            self._of[upstream] = OwnedSlots(tuple(after), tuple(after.values()))
        else:
            self._of.pop(upstream, None)

    def settle(self) -> None:
        """After the first complete snapshot: slots of a former controller that nobody asked for are let go."""
        for slot in self._owned.values():
            self._leave(slot, 0)
        self._owned.clear()

    def _leave(self, slot: int, version: int) -> None:
        self._leaving[slot] = version
        self._back[self._directory[self._table.base(slot) + DIRECTORY]] = slot

    def release(self, acknowledged: int) -> None:
        """Give back what every worker has let go of; `acknowledged` is the version that all of them serve."""
        now_s = self._clock()
        for slot, version in list(self._leaving.items()):
            if version <= acknowledged and self._table.sum(slot, IN_FLIGHT) == 0:
                del self._leaving[slot]
                self._resting[slot] = now_s + REST_S
        for slot, moment in list(self._resting.items()):
            if now_s >= moment and self._table.sum(slot, IN_FLIGHT) == 0:
                del self._resting[slot]
                del self._back[self._directory[self._table.base(slot) + DIRECTORY]]
                self._table.clear_slot(slot)
                self._free.append(slot)

    def in_flight(self) -> int:
        """Exchanges with endpoints that have a slot, over all workers."""
        return sum(self._table.sum(slot, IN_FLIGHT) for owned in self._of.values() for slot in owned.slots)

    def ejected(self) -> int:
        """Endpoints that some worker ejects now."""
        now_s = self._clock()
        return sum(self._table.ejects(slot, now_s) for owned in self._of.values() for slot in owned.slots)

    def _take(self, upstream: str, address: str) -> int | None:
        digest = _digest(upstream, address)
        slot = self._owned.pop(digest, None)
        if slot is None:
            slot = self._back.pop(digest, None)
            if slot is not None:
                self._leaving.pop(slot, None)
                self._resting.pop(slot, None)
        if slot is None:
            slot = self._free_slot()
            if slot is None:
                return None
            self._directory[self._table.base(slot) + DIRECTORY] = digest
        return slot

    def _free_slot(self) -> int | None:
        if self._free:
            return self._free.pop()
        slot = self._directory[SLOTS_USED] + 1
        if slot >= MAX_SLOTS:
            return None
        self._directory[SLOTS_USED] = slot
        return slot


def _digest(upstream: str, address: str) -> int:
    """A cell's value for an endpoint: 63 bits, never 0."""
    name = f"{upstream}\0{address}".encode()
    return (int.from_bytes(blake2b(name, digest_size=8).digest(), "big") >> 1) or 1
