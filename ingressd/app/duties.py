"""What a replica does in a cluster besides serving: it runs for leader, and the leader writes statuses and Events."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
import random
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from ingressd.control.leader.candidate import Candidate, Clocks, Terms
from ingressd.control.objects.event import AnyObject, ObjectKey
from ingressd.control.objects.kubernetes import Ingress, KubernetesObject
from ingressd.control.pipeline.pipeline import Served
from ingressd.control.sources.batch import Sink
from ingressd.control.sources.cluster.api import ApiError, ApiServer
from ingressd.control.sources.cluster.own_addresses import AddressSource
from ingressd.control.sources.cluster.pods import OwnPods
from ingressd.control.status.events import EventWriter, Reporter
from ingressd.control.status.writer import StatusWriter
from ingressd.model.problem import Problem
from ingressd.observe.duty_metrics import Duties
from ingressd.observe.metrics import Identity
from ingressd.settings.flags import ProcessFlags

TAKE_BACK_S: Final = 30.0
"""How long our addresses may take to be removed while a drain lasts."""
MANAGER_LENGTH: Final = 128
"""What the API server takes for the name of a field manager."""
HURRY_S: Final = 0.7
"""How long a resignation may go on once we have to end; the supervisor waits 2 s in all."""

log = logging.getLogger("ingressd.duties")


class ClusterDuties:
    """One replica's. `current` finds an object as the cluster has it, None for one that is not there or from a file.

    `ingresses` are the keys of all Ingresses. `watches` says whether the Services of a namespace are watched. `holder`
    is added to our name in the Lease.
    """

    def __init__(
        self,
        api: ApiServer,
        *,
        identity: Identity,
        holder: str,
        current: Callable[[ObjectKey], AnyObject | None],
        has_status: Callable[[ObjectKey], bool],
        ingresses: Callable[[], Iterable[ObjectKey]],
        watches: Callable[[str], bool],
    ) -> None:
        self._has_status = has_status
        self._controller = identity.controller_class
        self._flags = ProcessFlags()
        self._told_before = False
        self._resigning: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._writing: list[asyncio.Task[None]] = []
        self._running: asyncio.Task[None] | None = None
        namespace = identity.namespace or "default"
        self._pods = OwnPods(api, namespace=namespace, name=identity.pod)
        clocks = Clocks(time.monotonic, time.time, random.random)  # noqa: TID251 - for people to read in the Lease
        self._candidate = Candidate(
            api,
            namespace=namespace,
            identity=(identity.pod or f"{platform.node()}_{secrets.token_hex(4)}") + holder,
            clocks=clocks,
            changed=self._leading,
        )
        self._statuses = StatusWriter(
            api,
            current=lambda key: found if isinstance(found := current(key), Ingress) else None,
            leads=self._candidate.leads,
            clock=clocks.now,
            chance=clocks.chance,
            manager=identity.controller_class[:MANAGER_LENGTH],
            everything=ingresses,
            first=lambda key: self._synced([key]),
        )
        self._events = EventWriter(
            api,
            current=lambda key: found if isinstance(found := current(key), KubernetesObject) else None,
            leads=self._candidate.leads,
            clock=clocks.now,
            wall=clocks.wall,
            reporter=Reporter(identity.controller_class, identity.pod or platform.node()),
        )
        self._addresses = AddressSource(api, self._pods, watches=watches)

    # ------------------------------------------------------------------ what is heard
    def served(self, news: Served) -> None:
        """Every worker serves this."""
        self._flags = flags = news.flags
        self._candidate.run_for(Terms("" if flags.disable_leader_election else flags.election_id, flags.election_ttl_s))
        self._addresses.follow(flags)
        self._statuses.manager = (flags.controller_class or self._controller)[:MANAGER_LENGTH]
        self._statuses.interval_s = flags.status_update_interval_s
        self._statuses.served(news.statuses)
        if self._told_before:
            self._synced([key for key in news.changed if key.kind == "Ingress" and self._has_status(key)])
        self._told_before = True  # The world as it was found is no change; whoever gets a first address hears of it.

    def problems(self, appeared: list[Problem], gone: list[Problem]) -> None:
        """Problems that are new, and those that are no more."""
        self._events.problems(appeared, gone)

    def _synced(self, keys: list[ObjectKey]) -> None:
        if not self._flags.disable_sync_events:
            self._events.synced(keys)

    def _leading(self, leads: bool) -> None:
        self._statuses.leading(leads)
        self._events.leading(leads)

    # ------------------------------------------------------------------ life
    async def run(self, sink: Sink) -> None:
        """Until cancelled, also after a resignation."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._addresses.run(sink), name="our own addresses")
            self._running = group.create_task(self._candidate.run(), name="leader election")
            self._writing = [
                group.create_task(self._statuses.run(), name="write statuses"),
                group.create_task(self._events.run(), name="write Events"),
            ]

    def resign(self) -> None:
        """We are going to end: let somebody else lead, or leave nothing behind when nobody is left."""
        if self._resigning is None and self._running is not None:
            self._resigning = asyncio.create_task(self._resign(), name="resign")

    def hand_on(self) -> None:
        """Another ingressd serves where we did: our addresses stay, the Lease goes."""
        if self._resigning is None and self._running is not None:
            self._resigning = asyncio.create_task(self._let_go(), name="hand on")

    async def close(self) -> None:
        """The end is here: what is left of a resignation must be quick."""
        self._hurry.set()
        if self._resigning is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._resigning, 2 * HURRY_S)

    async def _resign(self) -> None:
        if await self._is_last():
            taking = asyncio.create_task(self._statuses.take_back(within_s=TAKE_BACK_S), name="take statuses back")
            hurry = asyncio.create_task(self._hurry.wait(), name="hurry")
            await asyncio.wait((taking, hurry), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((taking,), timeout=HURRY_S)
            await _ended(taking, hurry)
        await self._let_go()

    async def _let_go(self) -> None:
        # Nothing of ours is on its way any more when the next one begins.
        await _ended(*self._writing)
        if self._running is not None:
            await _ended(self._running)
        await self._candidate.release()

    async def _is_last(self) -> bool:
        """Whether our addresses lead nowhere when we are gone (ingress-nginx, Shutdown)."""
        flags = self._flags
        if not (self._candidate.leads() and flags.update_status and flags.update_status_on_shutdown):
            return False
        try:
            others = await self._pods.others_stay()
        except ApiError as error:
            log.warning("whether other pods of ours run cannot be known (%s): statuses stay as they are", error)
            return False
        if others:
            log.info("another pod of ours goes on running: statuses stay as they are")
        return not others

    # ------------------------------------------------------------------ views
    def state(self) -> Duties:
        """For metrics."""
        events = self._events
        return Duties(
            lease=self._candidate.lease(),
            leads=self._candidate.leads(),
            status_writes=tuple(sorted(self._statuses.results.items())),
            statuses_pending=self._statuses.pending(),
            events=(("dropped", events.rules.dropped), ("failed", events.failed), ("sent", events.sent)),
        )


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
