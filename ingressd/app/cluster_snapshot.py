"""The snapshot of a cluster's objects in one controller: read at the start if need be, written while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import KubernetesObject
from ingressd.control.sources.cluster.recovery import Recovery
from ingressd.control.sources.cluster.snapshot import Snapshot
from ingressd.control.sources.cluster.snapshot_writer import SnapshotWriter
from ingressd.control.sources.cluster.source import ClusterSource
from ingressd.control.store.store import Store
from ingressd.model.problem import Problem
from ingressd.settings.config import KubernetesConfig

SAY_S: Final = 1.0
"""How often problems are looked at."""


class ClusterSnapshot:
    """Wires `kubernetes.snapshotDir` together. `say` hears what is wrong with it, all of it each time."""

    def __init__(
        self,
        config: KubernetesConfig,
        *,
        source: ClusterSource,
        say: Callable[[tuple[Problem, ...]], None],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._snapshot = Snapshot(config)
        self._source = source
        self._say = say
        self._clock = clock
        self._wall_clock = wall_clock
        self._recovery = Recovery(self._snapshot, source, clock=clock, wall_clock=wall_clock)
        self._writer: SnapshotWriter | None = None

    def good(self) -> tuple[tuple[ObjectKey, KubernetesObject], ...]:
        """Last good versions from before a restart: see `Pipeline`."""
        return self._recovery.good

    async def run(self, store: Store) -> None:
        """Until cancelled; `close` then."""
        self._writer = SnapshotWriter(
            self._snapshot,
            store,
            ours=lambda key: store.position(key) is None,
            age_s=self._source.age_s,
            clock=self._clock,
            wall_clock=self._wall_clock,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self._recovery.run(), name="recover")
            group.create_task(self._writer.run(), name="write the snapshot")
            group.create_task(self._say_all(), name="say what is wrong with the snapshot")

    async def close(self) -> None:
        """A clean end: what is not written yet is written."""
        if self._writer is not None:
            await self._writer.close()

    async def _say_all(self) -> None:
        while True:
            self._say(self._snapshot.problems())
            await asyncio.sleep(SAY_S)
