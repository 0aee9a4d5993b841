"""Writes the statuses that `addresses` asks for: as leader only, at a bounded rate, and again when that failed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import quote

import msgspec

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import Ingress, Metadata
from ingressd.control.sources.cluster.api import ApiError
from ingressd.control.status.addresses import SLICE, AddressBook, Write, body_of
from ingressd.control.status.complaints import Complaints
from ingressd.control.status.proof import proven_version
from ingressd.control.status.queue import WriteQueue

TIMEOUT_S: Final = 10.0
CLEARING_PER_S: Final = 200.0
"""How fast statuses are taken back at the end, when time is short."""

log = logging.getLogger("ingressd.status")


class Api(Protocol):
    """What we need of `sources.cluster.api.ApiServer`."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] = ...,
        body: bytes | None = None,
        content_type: str = "application/json",
        timeout_s: float = 30.0,
    ) -> bytes:
        """The body of the answer. Raises ApiError."""


class _Answered(msgspec.Struct):
    metadata: Metadata


class StatusWriter:
    """`leads` is asked before every write. `first` hears of an object that was given its first address. `everything`
    are the keys of all Ingresses, whoever's. Writes carry `manager`, by which they are known again.

    `results` counts writes by what became of them: written, removed, conflict, failed.
    """

    def __init__(
        self,
        api: Api,
        *,
        current: Callable[[ObjectKey], Ingress | None],
        leads: Callable[[], bool],
        clock: Callable[[], float],
        chance: Callable[[], float],
        manager: str,
        everything: Callable[[], Iterable[ObjectKey]] = tuple,
        first: Callable[[ObjectKey], None] = lambda _: None,
    ) -> None:
        self._api = api
        self._book = AddressBook(current)
        self._queue = WriteQueue(chance=chance)
        self._leads = leads
        self._clock = clock
        self._first = first
        self._everything = everything
        self._searched = False
        self.manager = manager
        self._wake = asyncio.Event()
        self._look = asyncio.Event()
        self._idle = asyncio.Event()
        self._closing = False
        self._complaints = Complaints(log, clock)
        self.interval_s = 60.0
        """How often all statuses are compared."""
        self.results = {"written": 0, "removed": 0, "conflict": 0, "failed": 0}

    # ------------------------------------------------------------------ what is heard
    def served(self, statuses: Mapping[ObjectKey, Any]) -> None:
        """Statuses that every worker serves now, None for those that are gone."""
        if self._closing:
            return
        self._book.tell(statuses)
        if len(statuses) > SLICE:
            self._look.set()  # To be looked at in slices: it is in the way of a change.
        elif self._leads():
            self._add(self._book.differing(statuses))

    def leading(self, leads: bool) -> None:
        """We begin to lead, or end."""
        if leads:
            self._searched = False
            self._look.set()
        else:
            self._queue.clear()

    def pending(self) -> int:
        """How many objects wait to be written."""
        return len(self._queue)

    def _add(self, keys: list[ObjectKey]) -> None:
        for key in keys:
            self._queue.add(key)
        if keys:
            self._idle.clear()
            self._wake.set()

    # ------------------------------------------------------------------ life
    async def run(self) -> None:
        """Until cancelled. What runs then is cancelled too."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_at_all(), name="compare statuses")
            while True:
                taken = self._queue.take(self._clock())
                if isinstance(taken, ObjectKey):
                    group.create_task(self._write(taken), name=f"status of {taken}")
                    continue
                if not len(self._queue):
                    self._idle.set()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), taken)
                self._wake.clear()

    async def take_back(self, *, within_s: float) -> None:
        """Take our addresses from all objects, while `run` runs. The rest is left after `within_s`."""
        self._closing = True
        self._book.give_up()
        self._queue.bucket.per_s = self._queue.bucket.burst = CLEARING_PER_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                for keys in self._book.slices():
                    self._add(keys)
                    await asyncio.sleep(0)
                if len(self._queue):
                    await self._idle.wait()
        log.info("statuses: %d taken back, %d left", self.results["removed"], len(self._queue))

    async def _look_at_all(self) -> None:
        """Everything at the begin of leadership, and at intervals: others may have written."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), self.interval_s)
            self._look.clear()
            for keys in self._book.slices():
                if self._leads():
                    self._add(keys)
                await asyncio.sleep(0)
            if self._leads() and self._book.knows() and not self._searched:
                self._searched = True
                for keys in self._book.strays(list(self._everything())):
                    self._add(keys)
                    await asyncio.sleep(0)

    # ------------------------------------------------------------------ one write
    async def _write(self, key: ObjectKey) -> None:
        try:
            write = self._book.write(key)
            if write is not None and write.unproven:
                write = await self._proven(key)
            if write is not None and self._leads():
                await self._send(key, write)
            self._queue.done(key)
        except ApiError as error:
            self._failed(key, error)
        finally:
            # Cancelled: nobody runs that could take it again.
            self._wake.set()

    async def _proven(self, key: ObjectKey) -> Write | None:
        """The write, if what it removes is what we wrote, and onto no other version than that which says so."""
        # A list of one: we have no right to get an Ingress, and need none.
        body = await self._api.request(
            "GET",
            f"/apis/networking.k8s.io/v1/namespaces/{quote(key.namespace, safe='')}/ingresses",
            query={"fieldSelector": f"metadata.name={key.name}"},
            timeout_s=TIMEOUT_S,
        )
        version = proven_version(body, self.manager)
        write = self._book.write(key)  # Meanwhile the object may have become ours.
        if write is None or not write.unproven:
            return write
        if version:
            return write._replace(version=version, entries=())
        self._book.disown(key)
        return None

    async def _send(self, key: ObjectKey, write: Write) -> None:
        namespace, name = quote(key.namespace, safe=""), quote(key.name, safe="")
        answer = await self._api.request(
            "PATCH",
            f"/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/{name}/status",
            query={"fieldManager": self.manager},
            body=body_of(write),
            content_type="application/merge-patch+json",
            timeout_s=TIMEOUT_S,
        )
        with contextlib.suppress(msgspec.DecodeError):
            version = msgspec.json.decode(answer, type=_Answered).metadata.resource_version
            self._book.wrote(key, write, version)
        self.results["removed" if write.removes else "written"] += 1
        log.debug("status of %s: %s", key, "our addresses are removed" if write.removes else "written")
        if write.first and not write.removes:
            self._first(key)

    def _failed(self, key: ObjectKey, error: ApiError) -> None:
        now_s = self._clock()
        if error.status == 404:
            self._queue.done(key)  # Gone, and its deletion is on its way to us.
            return
        self._queue.failed(key, now_s)
        if error.status == 409:
            self.results["conflict"] += 1  # A newer version is on its way to us.
            return
        self.results["failed"] += 1
        if error.status in (0, 401, 429) or error.status >= 500:
            self._queue.hold(now_s, at_least_s=error.retry_after_s or 0.0)
        self._complaints.say(f"{error.status} {error.reason}", f"status of {key} cannot be written: {error}")
