"""A start while the API server is away: with the snapshot, if there is one."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import KubernetesObject
from ingressd.control.sources.cluster.snapshot import Snapshot

STUCK_S: Final = 5.0
"""A list without progress for so long counts as failed."""
LOOK_S: Final = 0.05
PIECE: Final = 200
"""So many objects between two turns of the loop."""

log = logging.getLogger("ingressd.snapshot")


class Listing(Protocol):
    """What is needed of `ClusterSource`."""

    @property
    def listed(self) -> bool:
        """Everything was told."""

    @property
    def failing(self) -> bool:
        """Something necessary could not be listed."""

    def heard(self) -> int:
        """Grows with progress."""

    def plant(self, objects: Iterable[tuple[ObjectKey, KubernetesObject]]) -> None:
        """Some of those to begin with."""

    def seed(self, objects: Iterable[tuple[ObjectKey, KubernetesObject]], *, age_s: float) -> None:
        """Begin with these and those planted."""


class Recovery:
    """Looks at a source that lists for the first time. As soon as that fails, or does not get on, the source begins
    with what the snapshot holds; an API server that answers is believed alone.

    `good` are last good versions of objects that were refused before the restart, whoever brings the objects.
    """

    def __init__(
        self, snapshot: Snapshot, source: Listing, *, clock: Callable[[], float], wall_clock: Callable[[], float]
    ) -> None:
        self.good = snapshot.last_good()
        self._snapshot = snapshot
        self._source = source
        self._clock = clock
        self._wall_clock = wall_clock
        self._heard = -1
        self._heard_s = clock()

    async def run(self) -> None:
        """Until the source has something to serve, or there is no snapshot to help it."""
        done = await self.step()
        while not done:
            await asyncio.sleep(LOOK_S)
            done = await self.step()

    async def step(self) -> bool:
        """Look once; whether there is nothing left to do."""
        if self._source.listed:
            return True
        heard, now_s = self._source.heard(), self._clock()
        if heard != self._heard:
            self._heard, self._heard_s = heard, now_s
        if not self._source.failing and now_s - self._heard_s < STUCK_S:
            return False
        await self._restore()
        return True

    async def _restore(self) -> None:
        restored = await self._snapshot.restore()
        if restored is None:
            log.warning("the cluster cannot be listed, and there is no snapshot: not ready before it can")
            return
        if self._source.listed:
            return
        age_s = max(0.0, self._wall_clock() - restored.confirmed_at_s)
        self.good = restored.good
        while piece := tuple(itertools.islice(restored.objects, PIECE)):
            # The store keeps them in a third of the memory: they must not be decoded all at the same time.
            self._source.plant(piece)
            await asyncio.sleep(0)
        self._source.seed((), age_s=age_s)
        log.warning(
            "the cluster cannot be listed: serving %d objects of a snapshot that was last in step %.0f s ago",
            restored.number,
            age_s,
        )
