"""When the snapshot is written: soon after a change, not too often, and once at a clean end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ingressd.control.objects.event import ObjectKey
from ingressd.control.sources.cluster.snapshot import Snapshot
from ingressd.control.store.store import Store

STEP_S: Final = 1.0
REST_S: Final = 5.0
"""Between two writes lie at least so many seconds …"""
SHARE: Final = 20
"""… and so many times what the last one took: with 30,000 objects that change all the time a write takes 0.2 s."""
CONFIRM_S: Final = 10.0
"""How often a file without change is noted to be up to date."""


class SnapshotWriter:
    """Follows a store. `age_s` says how old the knowledge of the cluster is, None until all of it was seen once.

    `ours` are the objects that come from the cluster. The wall clock is for the age of a file after a restart.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        store: Store,
        *,
        ours: Callable[[ObjectKey], bool],
        age_s: Callable[[], float | None],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._snapshot = snapshot
        self._store = store
        self._ours = ours
        self._age_s = age_s
        self._clock = clock
        self._wall_clock = wall_clock
        self._written = -1
        self._not_before_s = 0.0
        self._confirmed_s = 0.0

    async def run(self) -> None:
        """Until cancelled; `close` then."""
        while self._snapshot.usable:
            await asyncio.sleep(STEP_S)
            await self.step()

    async def step(self) -> None:
        """Write or confirm, if it is time."""
        age_s, now_s = self._age_s(), self._clock()
        if age_s is None:
            return
        if self._store.changes == self._written:
            if now_s - self._confirmed_s >= CONFIRM_S:
                self._confirmed_s = now_s
                self._snapshot.confirm(self._wall_clock() - age_s)
        elif now_s >= self._not_before_s:
            await self._write(age_s)

    async def close(self) -> None:
        """The last write, when there is something to write."""
        age_s = self._age_s()
        if self._snapshot.usable and age_s is not None and self._store.changes != self._written:
            await self._write(age_s)

    async def _write(self, age_s: float) -> None:
        began_s = self._clock()
        changes = self._store.changes
        confirmed_at_s = self._wall_clock() - age_s
        if await self._snapshot.write(self._store.snapshot(), ours=self._ours, confirmed_at_s=confirmed_at_s):
            self._written = changes
            self._confirmed_s = began_s
        took_s = self._clock() - began_s
        self._not_before_s = began_s + max(REST_S, SHARE * took_s)
