"""The source of our own addresses, where they are not objects that we watch anyway.

The nodes under our pods, and a published Service outside the namespaces that we read. Asked for now and then rather
than watched: a watch of all nodes of a cluster brings their heartbeats, for an address that changes once a year.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from ingressd.control.objects.decode import DecodeError, decode_json
from ingressd.control.objects.event import NODES_KEY, AnyObject, ObjectEvent, ObjectKey
from ingressd.control.objects.static import NodeAddresses
from ingressd.control.sources.batch import Sink, SourceBatch
from ingressd.control.sources.cluster.api import ApiError
from ingressd.control.sources.cluster.pods import Api, OwnPods
from ingressd.model.problem import Origin, Problem
from ingressd.settings.flags import ProcessFlags

ADDRESSES: Final = "addresses"
"""The name of the source."""
SOON_S: Final = 2.0
"""How soon is asked again as long as there is no address: our own pod becomes ready, a load balancer is made."""
SERVICE_S: Final = 10.0
"""How often a Service is asked for."""


class AddressSource:
    """Yields `NodeAddresses`, and the published Service where `watches` says that its namespace is not read.

    The first batch comes at once and says that nobody knows. See `batch.Source`.
    """

    def __init__(self, api: Api, pods: OwnPods, *, watches: Callable[[str], bool]) -> None:
        self._api = api
        self._pods = pods
        self._watches = watches
        self._flags: ProcessFlags | None = None
        self._changed = asyncio.Event()
        self._has: dict[ObjectKey, AnyObject] = {}
        self._problems: tuple[Problem, ...] = ()

    def follow(self, flags: ProcessFlags) -> None:
        """The switches in force; what has to be asked for follows from them, and nothing is before they are known."""
        if flags != self._flags:
            self._flags = flags
            self._changed.set()

    async def run(self, sink: Sink) -> None:
        """Put batches until cancelled."""
        self._has = {NODES_KEY: NodeAddresses(None)}
        await sink.put(SourceBatch(ADDRESSES, (ObjectEvent(NODES_KEY, self._has[NODES_KEY]),)))
        await self._changed.wait()
        while True:
            self._changed.clear()
            assert self._flags is not None
            batch, pause_s = await self._look(self._flags)
            if batch is not None:
                await sink.put(batch)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), pause_s)

    async def _look(self, flags: ProcessFlags) -> tuple[SourceBatch | None, float]:
        """What is new, and when to look again."""
        found: dict[ObjectKey, AnyObject] = {NODES_KEY: NodeAddresses(None)}
        problems: tuple[Problem, ...] = ()
        pause_s = flags.status_update_interval_s
        namespace, _, name = (flags.published_service() or "").partition("/")
        service = ObjectKey("Service", namespace, name) if name else None
        try:
            if flags.update_status and not flags.publish_status_address and service is None:
                nodes = await self._pods.nodes()
                found[NODES_KEY] = NodeAddresses(nodes)
                pause_s = pause_s if nodes else SOON_S
            elif service is not None and not self._watches(service.namespace):
                pause_s = min(pause_s, SERVICE_S)
                one = await self._get(service)
                found |= {} if one is None else {service: one}
        except ApiError as error:
            # What was known stays: the API server is away, or somebody has to do something about it.
            problems = (_problem(error, service),)
            found = self._has
            pause_s = min(pause_s, SERVICE_S)
        events = [ObjectEvent(key, None) for key in self._has if key not in found]
        events += [ObjectEvent(key, value) for key, value in found.items() if self._has.get(key) != value]
        news = bool(events) or problems != self._problems
        self._has, self._problems = found, problems
        return (SourceBatch(ADDRESSES, tuple(events), True, problems) if news else None), pause_s

    async def _get(self, key: ObjectKey) -> AnyObject | None:
        path = f"/api/v1/namespaces/{quote(key.namespace, safe='')}/services/{quote(key.name, safe='')}"
        try:
            return decode_json("Service", await self._api.request("GET", path))[1]
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        except DecodeError as error:
            raise ApiError(0, "NotUnderstood", f"{error.field}: {error}") from None


def _problem(error: ApiError, service: ObjectKey | None) -> Problem:
    what = service or "neither it nor publish-status-address is set, and the nodes under our pods"
    message = f"{what} cannot be read ({error.reason}: {error.message}): statuses stay as they are"
    return Problem("warning", Origin("Config", "", "flags"), "NoAddresses", "publish-service", message)
