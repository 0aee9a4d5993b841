"""The source of a standalone proxy: configuration file, manifests, certificate files and static host names."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from ingressd.control.objects.event import ObjectEvent, Position
from ingressd.control.sources.batch import LOCAL, Sink, SourceBatch
from ingressd.control.sources.locate import locate_fields
from ingressd.control.sources.manifests import ManifestReader
from ingressd.control.sources.names import Names
from ingressd.control.sources.resolver import DnsResolver, Resolver
from ingressd.control.sources.signatures import PATIENCE_S, SETTLE_S, Signatures, must_settle
from ingressd.control.sources.static import host_names, watched_files
from ingressd.control.sources.world import (
    World,
    build_world,
    difference,
    look_at,
    name_problems,
    read_bytes,
    restart_problems,
)
from ingressd.model.problem import Problem
from ingressd.settings.config import Config, LoadedConfig
from ingressd.settings.load import load_config

POLL_S: Final = 0.05
POLL_MOST_S: Final = 0.25
FIRST_NAMES_S: Final = 2.0
NEW_NAMES_S: Final = 0.5
"""How long the first batch, and a change, wait for host names that have never been resolved."""
_READINGS: Final = 5
_MANY_FILES: Final = 200

Clock = Callable[[], float]


class _Reading(NamedTuple):
    world: World
    config: Config
    seen: Signatures
    events: tuple[ObjectEvent, ...]


class LocalSource:
    """Reads the configuration file and everything it names, and watches all of it. See `batch.Source`.

    `config` is the configuration in force from the first batch on; before, that of the first reading. A file that is
    refused at the first reading leaves the default configuration without listeners, and its problems in the batch:
    whoever starts a proxy reads the file himself first and does not come so far.
    """

    def __init__(
        self,
        config_path: str,
        *,
        environ: Mapping[str, str],
        flags: Mapping[str, str],
        resolver: Resolver | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._load: Callable[[], LoadedConfig] = lambda: load_config(config_path, environ=environ, flags=flags)
        self._resolver: Resolver = DnsResolver() if resolver is None else resolver
        self._clock = clock
        self._wake = asyncio.Event()
        self._names_wanted = asyncio.Event()
        self._forced = False
        self._names_changed = False
        self._names = Names()
        self._manifests = ManifestReader()
        self._world = World({})
        self._problems: tuple[Problem, ...] = ()
        self._seen: Signatures = {}
        self._started: Config | None = None
        self.config = Config(path=config_path)

    async def run(self, sink: Sink) -> None:
        """Put a first batch, then one a change. Returns only by cancellation."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._resolve_all(), name="resolve static names")
                group.create_task(self._follow(sink), name="follow files")
        finally:
            await self._resolver.close()

    def reload(self) -> None:
        """Look again now, whatever the files' times say (SIGHUP)."""
        self._forced = True
        self._wake.set()

    def locate(self, position: Position, fields: Sequence[str]) -> list[int]:
        """The lines of fields of an object read from there."""
        return locate(position, fields)

    async def _follow(self, sink: Sink) -> None:
        await sink.put(await self._refresh(first=True))
        while True:
            await self._changed()
            batch = await self._refresh(first=False)
            if batch.events or batch.config is not None or batch.problems != self._problems:
                self._problems = batch.problems
                await sink.put(batch)

    async def _changed(self) -> None:
        """Return when there is something to read."""
        since: float | None = None
        stable_since = 0.0
        last: Signatures = self._seen
        interval = POLL_S
        while not self._forced and not self._names_changed:
            await self._sleep(interval)
            now = self._clock()
            found, cost_s = await self._look()
            interval = min(max(POLL_S, 20 * cost_s), POLL_MOST_S)
            if found == self._seen:
                since = None
                last = found
                continue
            if not must_settle(self._seen, found, paired=self._paired()):
                return
            if since is None or found != last:
                since = now if since is None else since
                stable_since, last = now, found
            elif now - stable_since >= SETTLE_S:
                return
            if now - since >= PATIENCE_S:
                return

    def _paired(self) -> frozenset[str]:
        return frozenset(watched_files(self.config))

    async def _look(self) -> tuple[Signatures, float]:
        before = self._clock()
        if len(self._seen) > _MANY_FILES:
            found = await asyncio.to_thread(look_at, self.config)
        else:
            found = look_at(self.config)
        return found, self._clock() - before

    async def _sleep(self, interval: float) -> None:
        handle = asyncio.get_running_loop().call_later(interval, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            handle.cancel()
            self._wake.clear()

    async def _refresh(self, *, first: bool) -> SourceBatch:
        """Read what changed (in a thread: a large file takes seconds) and say what differs from before."""
        old_config = self.config
        self._forced = self._names_changed = False
        reading = await asyncio.to_thread(self._read, dict(self._names.answers))
        if await self._new_names(reading.config, patience_s=FIRST_NAMES_S if first else NEW_NAMES_S):
            self._names_changed = False
            reading = await asyncio.to_thread(self._read, dict(self._names.answers))
        self._world, self.config, self._seen = reading.world, reading.config, reading.seen
        self._started = self._started or self.config
        problems = (
            *reading.world.problems,
            *name_problems(self.config, self._names.errors),
            *restart_problems(self.config, self._started),
        )
        if first:
            self._problems = problems
        changed = self.config if first or self.config != old_config else None
        return SourceBatch(LOCAL, reading.events, True, problems, changed)

    def _read(self, answers: Mapping[str, tuple[str, ...]]) -> _Reading:
        """Read until nothing moves meanwhile, so that files of one change are not read half before and half after."""
        for _ in range(_READINGS):
            # Before it is read: a file replaced between reading and looking would count as seen for ever.
            before = look_at(Config(path=self.config.path))
            loaded = self._load()
            config = self.config if loaded.config is None else loaded.config
            seen = {**look_at(config), **before}
            world = build_world(loaded, config, before=self._world, manifests=self._manifests, answers=answers)
            if look_at(config) == seen:
                break
        return _Reading(world, config, seen, difference(self._world, world))

    async def _new_names(self, config: Config, *, patience_s: float) -> bool:
        """Want the names of a configuration; wait until each has an answer or an error, but not for long."""
        hosts = host_names(config)
        self._names.want(hosts, now=self._clock())
        self._names_wanted.set()
        deadline = self._clock() + patience_s
        waited = False
        while set(hosts) - self._names.answers.keys() and self._clock() < deadline:
            waited = True
            await self._sleep(POLL_S)
        return waited

    async def _resolve_all(self) -> None:
        """Resolve names when they are due, all that are due at once."""
        loop = asyncio.get_running_loop()
        while True:
            due = self._names.due(now=self._clock())
            await asyncio.gather(*(self._resolve(host) for host in due))
            delay = self._names.next_due() - self._clock()
            timer = loop.call_later(max(delay, 0.0), self._names_wanted.set) if delay < math.inf else None
            try:
                await self._names_wanted.wait()
            finally:
                if timer is not None:
                    timer.cancel()
                self._names_wanted.clear()

    async def _resolve(self, host: str) -> None:
        try:
            answer = await self._resolver.resolve(host)
        except OSError as exc:
            changed = self._names.failed(host, str(exc), now=self._clock())
        else:
            changed = self._names.answered(host, answer, now=self._clock())
        if changed:
            self._names_changed = True
            self._wake.set()


def read_config(config_path: str, *, environ: Mapping[str, str], flags: Mapping[str, str]) -> SourceBatch:
    """Read the file and all it names once, offline: host names stay unresolved. For `check` and `explain`.

    `config` is None when the whole file is refused; the problems say why.
    """
    loaded = load_config(config_path, environ=environ, flags=flags)
    if loaded.config is None:
        world = build_world(loaded, Config(), before=World({}), manifests=ManifestReader(), answers=None)
        return SourceBatch(LOCAL, (), True, world.problems, None)
    world = build_world(loaded, loaded.config, before=World({}), manifests=ManifestReader(), answers=None)
    return SourceBatch(LOCAL, difference(World({}), world), True, world.problems, loaded.config)


def read_manifests(paths: Sequence[str]) -> SourceBatch:
    """Read manifest files and folders once, without a configuration file. For `check PATH…`."""
    config = msgspec.structs.replace(Config(), manifests=tuple(paths))
    world = build_world(LoadedConfig(config), config, before=World({}), manifests=ManifestReader(), answers=None)
    return SourceBatch(LOCAL, difference(World({}), world), True, world.problems, config)


def locate(position: Position, fields: Sequence[str]) -> list[int]:
    """The lines of fields ("spec.rules[0].host", or an annotation's key) of an object read from there."""
    try:
        content = read_bytes(position.file)
    except OSError:
        return [position.line] * len(fields)
    return locate_fields(content, line=position.line, path=position.path, fields=fields)
