"""Secrets and ConfigMaps: the names of all, and the content of those that somebody looks at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from ingressd.control.objects.decode import DecodeError
from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import KubernetesObject
from ingressd.control.sources.cluster.api import ApiError, ApiServer
from ingressd.control.sources.cluster.kinds import Scope, path_of
from ingressd.control.sources.cluster.objects import decode_object, refused_object
from ingressd.control.sources.cluster.outbox import Outbox
from ingressd.control.sources.cluster.patience import Patience
from ingressd.model.problem import Origin, Problem

AT_ONCE: Final = 16
"""How many are fetched at the same time."""
FETCH_TIMEOUT_S: Final = 3.0
POLL_S: Final = 30.0
"""How often those are fetched again of which no watch tells: in namespaces that are not watched, or where we may get a
Secret and not list them."""
_BEHIND: Final = ApiError(0, "Behind", "an older version was answered")


class _Content:
    """One object that is looked at. `version` is the last that was fetched, "" for none; `told` whether the sink has
    one."""

    __slots__ = ("later", "patience", "queued", "told", "version")

    def __init__(self, patience: Patience) -> None:
        self.version = ""
        self.told = False
        self.queued = False
        self.later: asyncio.TimerHandle | None = None
        self.patience = patience


class Contents:
    """A `Receiver` for the metadata of Secrets and ConfigMaps, which fetches what is wanted when its version moves.

    `version_of` says what the watch of metadata knows: None when there is none that would know (yet), "" for an object
    that does not exist. What nobody wants any more is told to be gone, and forgotten.
    """

    def __init__(
        self,
        api: ApiServer,
        outbox: Outbox,
        *,
        version_of: Callable[[ObjectKey], str | None],
        unwatched: Callable[[ObjectKey], bool],
        random: Callable[[], float],
    ) -> None:
        self.problems: dict[ObjectKey, Problem] = {}
        self._api = api
        self._outbox = outbox
        self._version_of = version_of
        self._unwatched = unwatched
        self._random = random
        self._wanted: dict[ObjectKey, _Content] = {}
        self._seeds: dict[ObjectKey, KubernetesObject] = {}
        self._unsettled: set[ObjectKey] = set()
        self._untried: set[ObjectKey] = set()
        self._queue: asyncio.Queue[ObjectKey] = asyncio.Queue()

    async def run(self) -> None:
        """Fetch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(self._work(), name=f"fetch {number}")

    # ------------------------------------------------------------------ what is wanted
    def want(self, keys: frozenset[ObjectKey]) -> None:
        """From now on these, and no others."""
        for key in [key for key in self._wanted if key not in keys]:
            self._forget(key)
        for key in sorted(keys - self._wanted.keys()):
            content = self._wanted[key] = _Content(Patience(self._random))
            self._unsettled.add(key)
            self._untried.add(key)
            seed = self._seeds.get(key)
            if seed is not None:
                content.version, content.told = seed.metadata.resource_version, True
                self._outbox.put(key, seed)
                self._settle(key)
            self._consider(key, content)
        self._seeds = {}

    def seed(self, objects: Iterable[tuple[ObjectKey, KubernetesObject]]) -> None:
        """What they were before a restart, for those that the next `want` names; more may follow."""
        self._seeds.update(objects)

    def settled(self, *, strictly: bool) -> bool:
        """Whether it is known of everything wanted what it is, or (not `strictly`) whether that was tried at least."""
        return not (self._unsettled if strictly else self._untried)

    def reconsider(self) -> None:
        """It may have turned out that nobody watches the metadata of something."""
        for key in sorted(self._unsettled):
            self._consider(key, self._wanted[key])

    # ------------------------------------------------------------------ a receiver of metadata
    def put(self, key: ObjectKey, version: str, raw: msgspec.Raw) -> None:
        """An object is there, or at another version."""
        content = self._wanted.get(key)
        if content is not None:
            self._consider(key, content)

    def gone(self, key: ObjectKey) -> None:
        """An object is no longer there."""
        content = self._wanted.get(key)
        if content is not None:
            self._absent(key, content)

    def listed(self, scope: Scope) -> None:
        """All the metadata is known now: what is not among it does not exist."""
        for key, content in self._wanted.items():
            if key.kind == scope.of.kind and scope.namespace in ("", key.namespace):
                self._consider(key, content)

    # ------------------------------------------------------------------ fetching
    def _consider(self, key: ObjectKey, content: _Content) -> None:
        version = self._version_of(key)
        if version is None:
            if self._unwatched(key):
                self._fetch_soon(key, content)
        elif not version:
            self._absent(key, content)
        elif version == content.version:
            self._settle(key)
        else:
            self._fetch_soon(key, content)

    def _fetch_soon(self, key: ObjectKey, content: _Content) -> None:
        if content.later is not None:
            content.later.cancel()
            content.later = None
        if not content.queued:
            content.queued = True
            self._queue.put_nowait(key)

    def _fetch_later(self, key: ObjectKey, content: _Content, wait_s: float) -> None:
        if content.later is not None:
            content.later.cancel()
        content.later = asyncio.get_running_loop().call_later(wait_s, self._fetch_soon, key, content)

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            content = self._wanted.get(key)
            if content is not None and content.queued:
                await self._fetch(key, content)

    async def _fetch(self, key: ObjectKey, content: _Content) -> None:
        content.queued = False
        try:
            body = await self._api.request("GET", path_of(*key), timeout_s=FETCH_TIMEOUT_S)
        except ApiError as error:
            if self._wanted.get(key) is content:
                self._failed(key, content, error)
            return
        if self._wanted.get(key) is not content:
            return  # Nobody looks at it any more, and so nobody shall hold it.
        self._arrived(key, content, body)
        if self._unwatched(key):
            self._fetch_later(key, content, POLL_S)
            return
        # It may have moved on meanwhile: a watch that lags behind what was fetched brings the version yet, but an
        # answer that lags behind the watch has to be asked for again, and not without rest.
        version = self._version_of(key)
        if version and _is_behind(content.version, version):
            self._fetch_later(key, content, content.patience.failed(_BEHIND))
        else:
            content.patience.succeeded()

    def _arrived(self, key: ObjectKey, content: _Content, body: bytes) -> None:
        try:
            value = decode_object(key, body)
        except DecodeError as error:
            # Not asked for again before its version moves; what was told last stays.
            content.version = self._version_of(key) or ""
            self.problems[key] = refused_object(key, error)
            self._outbox.stir()
        else:
            self._mended(key)
            if content.version != value.metadata.resource_version or not content.told:
                content.version, content.told = value.metadata.resource_version, True
                self._outbox.put(key, value)
        self._settle(key)

    def _failed(self, key: ObjectKey, content: _Content, error: ApiError) -> None:
        # An object that is not there, unless the watch knows better: then it will tell, or the answer was wrong.
        if error.status == 404 and not self._version_of(key):
            self._absent(key, content)
            if self._unwatched(key):
                self._fetch_later(key, content, POLL_S)
            return
        wait_s = content.patience.failed(error)
        self._untried.discard(key)
        if error.status == 403:
            self._settle(key)
        if content.patience.failures > 1 or error.status == 403:
            before = self.problems.get(key)
            reason = "Forbidden" if error.status == 403 else "NotFetched"
            if before is None or before.reason != reason:
                origin = Origin(key.kind, key.namespace, key.name)
                self.problems[key] = Problem("error", origin, reason, "", f"cannot be read: {error}")
        self._outbox.stir()
        self._fetch_later(key, content, wait_s)

    # ------------------------------------------------------------------ outcomes
    def _settle(self, key: ObjectKey) -> None:
        self._untried.discard(key)
        if key in self._unsettled:
            self._unsettled.discard(key)
            self._outbox.stir()

    def _mended(self, key: ObjectKey) -> None:
        # Told by itself: what was fetched may be the version that the sink has, of a fetch that overtook this one.
        if self.problems.pop(key, None) is not None:
            self._outbox.stir()

    def _absent(self, key: ObjectKey, content: _Content) -> None:
        content.patience.succeeded()
        self._mended(key)
        content.version = ""
        if content.told:
            content.told = False
            self._outbox.put(key, None)
        self._settle(key)

    def _forget(self, key: ObjectKey) -> None:
        content = self._wanted.pop(key)
        self._unsettled.discard(key)
        self._untried.discard(key)
        self.problems.pop(key, None)
        if content.later is not None:
            content.later.cancel()
        if content.told:
            self._outbox.put(key, None)


def _is_behind(version: str, known: str) -> bool:
    if version.isdecimal() and known.isdecimal():
        return int(version) < int(known)
    return version != known
