"""The source of a cluster's objects: its reflectors, what it makes of them, and how it stands."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from ingressd.control.objects.event import ObjectKey, Position
from ingressd.control.objects.kubernetes import KubernetesObject
from ingressd.control.sources.batch import CLUSTER, Sink, SourceBatch
from ingressd.control.sources.cluster.api import ApiError, ApiServer
from ingressd.control.sources.cluster.contents import Contents
from ingressd.control.sources.cluster.kinds import BY_REFERENCE, namespaces_of, scopes
from ingressd.control.sources.cluster.objects import Objects
from ingressd.control.sources.cluster.outbox import Outbox
from ingressd.control.sources.cluster.pulse import Pulse
from ingressd.control.sources.cluster.reflector import Reflector
from ingressd.model.problem import Origin, Problem
from ingressd.settings.config import KubernetesConfig

_REASONS: Final = {401: "Unauthorized", 403: "Forbidden", 404: "NotServed"}


class KindState(NamedTuple):
    """How one kind stands, over all its namespaces. `age_s` is how long ago it was last known to be in step, None when
    it never was; `restarts` and `lists` count by reason."""

    kind: str
    objects: int
    age_s: float | None
    restarts: Counter[str]
    lists: Counter[str]


class ClusterSource:
    """Lists and watches, and tells the sink. See `batch.Source`.

    `watch_namespace` is the flag of that name. A first batch comes at once; objects come as they are listed, `listed`
    when every kind is, `complete` when besides it is known of everything `want` named what it is.
    """

    def __init__(
        self,
        config: KubernetesConfig,
        api: ApiServer,
        *,
        watch_namespace: str = "",
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._nothing = namespaces_of(config, watch_namespace) is None
        self._outbox = Outbox()
        self._objects = Objects(self._outbox)
        self._contents = Contents(
            api, self._outbox, version_of=self._version_of, unwatched=self._is_unwatched, random=random
        )
        self._reflectors: dict[tuple[str, str], Reflector] = {}
        for scope in scopes(config, watch_namespace):
            receiver = self._contents if scope.of.by_reference else self._objects
            self._reflectors[scope.of.kind, scope.namespace] = Reflector(
                scope, api, receiver, clock=clock, random=random, changed=self._changed
            )
        self._pulse = Pulse(api, self._reflectors.values(), clock=clock, changed=self._outbox.stir)
        self._asked = False
        self._seeded = False
        self._was_complete = False

    # ------------------------------------------------------------------ a source
    async def run(self, sink: Sink) -> None:
        """Put batches until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver(sink), name="deliver")
            for reflector in self._reflectors.values():
                group.create_task(reflector.run(), name=f"reflect {reflector.scope}")
            group.create_task(self._contents.run(), name="fetch contents")
            group.create_task(self._pulse.run(), name="pulse of the API server")

    def reload(self) -> None:
        """Nothing to look at again: a watch tells."""

    def locate(self, position: Position, field: str) -> tuple[str, int]:
        """Objects of a cluster stand in no file."""
        return position.file, position.line

    def want(self, keys: frozenset[ObjectKey]) -> bool:
        """These Secrets and ConfigMaps are looked at, and no others. Whether it is told of all of them what they are;
        if not, a batch that is `complete` follows."""
        self._asked = True
        self._contents.want(keys)
        return not self._outbox and self._complete()

    def plant(self, objects: Iterable[tuple[ObjectKey, KubernetesObject]]) -> None:
        """Some of what was known before a restart, because the API server is away; `seed` says when it is all. What
        has been listed meanwhile stays, and what is listed later is compared with it."""
        contents = []
        for key, value in objects:
            if key.kind in BY_REFERENCE:
                contents.append((key, value))
                continue
            reflector = self._covering(key)
            if reflector is not None and not reflector.listed and key not in reflector.known:
                # Of no version, so that it is decoded again: another ingressd may have written it.
                reflector.known[key] = ""
                self._outbox.put(key, value)
        self._contents.seed(contents)

    def seed(self, objects: Iterable[tuple[ObjectKey, KubernetesObject]], *, age_s: float) -> None:
        """Begin with these, and with what was planted before: it was in step `age_s` ago."""
        self.plant(objects)
        for reflector in self._reflectors.values():
            reflector.seeded(self._clock() - age_s)
        self._seeded = True
        self._outbox.stir()

    # ------------------------------------------------------------------ how it stands
    @property
    def listed(self) -> bool:
        """Whether everything but what `want` names was told."""
        return self._seeded or self._is_listed()

    @property
    def failing(self) -> bool:
        """Whether listing has failed for something without which we cannot serve."""
        return self._pulse.away is not None or any(
            reflector.trouble is not None and reflector.scope.of.required and not reflector.listed
            for reflector in self._reflectors.values()
        )

    def heard(self) -> int:
        """Grows while lists make progress."""
        return sum(len(reflector.known) + reflector.listed for reflector in self._reflectors.values())

    @property
    def away(self) -> ApiError | None:
        """Why the API server is believed to be away, None while it answers."""
        return self._pulse.away

    def age_s(self) -> float | None:
        """How long ago everything was last known to be in step, None before all of it was seen once (or `seed`)."""
        if not self._seeded and not all(
            reflector.listed or reflector.refused for reflector in self._reflectors.values()
        ):
            return None
        ages = [age for reflector in self._reflectors.values() if (age := reflector.age_s(self._clock())) is not None]
        return max(ages, default=None)

    def kinds(self) -> list[KindState]:
        """Each kind."""
        found: dict[str, KindState] = {}
        for (kind, _), reflector in self._reflectors.items():
            age_s = reflector.age_s(self._clock())
            before = found.get(kind)
            if before is None:
                before = KindState(kind, 0, age_s, Counter(), Counter())
            older = None if age_s is None or before.age_s is None else max(age_s, before.age_s)
            found[kind] = KindState(
                kind,
                before.objects + len(reflector.known),
                older,
                before.restarts + reflector.restarts,
                before.lists + reflector.lists,
            )
        return list(found.values())

    # ------------------------------------------------------------------ batches
    async def _deliver(self, sink: Sink) -> None:
        last: SourceBatch | None = None
        while True:
            complete = self._complete()
            # Nothing is published before the first time it is complete: what is fetched until then goes in one piece.
            events = () if self._asked and not self._was_complete else self._outbox.empty()
            batch = SourceBatch(CLUSTER, events, complete, self._problems(), listed=self.listed)
            if events or last is None or batch[2:] != last[2:]:
                await sink.put(batch)
                last = batch
            await self._outbox.wait_for_news()

    def _complete(self) -> bool:
        if not self.listed or not self._asked:
            return False
        # The first snapshot waits until everything is known. Later one attempt has to do: a change must not wait for an
        # API server that answers nothing but the watch.
        if not self._seeded and not self._contents.settled(strictly=not self._was_complete):
            return False
        self._was_complete = True
        return True

    def _is_listed(self) -> bool:
        return all(
            reflector.listed or (reflector.refused and not reflector.scope.of.required)
            for reflector in self._reflectors.values()
        )

    def _changed(self) -> None:
        if self._seeded and self._is_listed():
            self._seeded = False  # From now on it is as if there had been no restart.
        self._contents.reconsider()
        self._outbox.stir()

    def _problems(self) -> tuple[Problem, ...]:
        found = []
        if self._nothing:
            message = "the flag watch-namespace names none of the namespaces in `kubernetes`: nothing is read"
            found.append(_problem("NothingToRead", message, field="namespaces"))
        if self._pulse.away is not None:
            away = self._pulse.away
            found.append(_problem("ApiServerAway", f"the API server does not answer ({away}); what is known serves on"))
        for reflector in self._reflectors.values():
            trouble = reflector.trouble
            # While the server is away that is said once, and not of every kind.
            if trouble is not None and (trouble.status or self._pulse.away is None):
                reason = _REASONS.get(trouble.status, "NotInStep")
                found.append(
                    _problem(reason, f"{reflector.scope} cannot be read: {trouble}", field=str(reflector.scope))
                )
        return (*found, *self._objects.problems.values(), *self._contents.problems.values())

    # ------------------------------------------------------------------ the index of metadata
    def _covering(self, key: ObjectKey) -> Reflector | None:
        return self._reflectors.get((key.kind, "")) or self._reflectors.get((key.kind, key.namespace))

    def _version_of(self, key: ObjectKey) -> str | None:
        reflector = self._covering(key)
        if reflector is None or not reflector.listed:
            return None
        return reflector.known.get(key, "")

    def _is_unwatched(self, key: ObjectKey) -> bool:
        reflector = self._covering(key)
        return reflector is None or (reflector.refused and not reflector.listed)


def _problem(reason: str, message: str, *, field: str = "") -> Problem:
    return Problem("error", Origin("Config", "", "kubernetes"), reason, field, message)
