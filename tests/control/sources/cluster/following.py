"""A reflector or a whole source that follows a played API server, in virtual time."""

from __future__ import annotations

import asyncio
import random

import msgspec

from ingressd.control.sources.cluster.kinds import KINDS, Scope
from ingressd.control.sources.cluster.pulse import Pulse
from ingressd.control.sources.cluster.reflector import Reflector
from ingressd.control.sources.cluster.source import ClusterSource
from ingressd.settings.config import KubernetesConfig

BY_KIND = {one.kind: one for one in KINDS}


class Told:
    """A receiver."""

    def __init__(self):
        self.objects = {}
        self.puts = []
        self.deleted = []

    def put(self, key, version, raw):
        self.objects[key] = msgspec.json.decode(raw)
        self.puts.append(key.name)

    def gone(self, key):
        del self.objects[key]
        self.deleted.append(key.name)

    def listed(self, scope):
        pass


class Following:
    """One reflector with the pulse of its server: an async context manager."""

    def __init__(self, api, *, kind="Ingress", namespace="", selector="", seed=1, pulse=True):
        self.api = api
        self.told = Told()
        self.changes = 0
        self._kind, self._namespace, self._selector = kind, namespace, selector
        self._random = random.Random(seed)
        self._with_pulse = pulse
        self._tasks = []

    async def __aenter__(self):
        clock = asyncio.get_running_loop().time
        scope = Scope(BY_KIND[self._kind], self._namespace, self._selector)
        self.reflector = Reflector(
            scope, self.api, self.told, clock=clock, random=self._random.random, changed=self._changed
        )
        self.pulse = Pulse(self.api, [self.reflector], clock=clock, changed=self._changed)
        self._tasks = [asyncio.create_task(self.reflector.run())]
        if self._with_pulse:
            self._tasks.append(asyncio.create_task(self.pulse.run()))
        return self

    async def __aexit__(self, *_):
        for task in self._tasks:
            task.cancel()
        for found in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(found, Exception):
                raise found

    def _changed(self):
        self.changes += 1

    def truth(self):
        return {key: value for key, value in self.api.objects.items() if key[0] == self._kind}

    def in_step(self):
        return {tuple(key): value for key, value in self.told.objects.items()} == self.truth()


class Sourced:
    """A whole source, its batches put together: an async context manager."""

    def __init__(self, api, *, config=None, watch_namespace="", seed=1):
        self.api = api
        self.config = config or KubernetesConfig(kubeconfig="/x")
        self.watch_namespace = watch_namespace
        self.objects = {}
        self.batches = []
        self._random = random.Random(seed)

    async def __aenter__(self):
        self.source = ClusterSource(
            self.config,
            self.api,
            watch_namespace=self.watch_namespace,
            clock=asyncio.get_running_loop().time,
            random=self._random.random,
        )
        self._task = asyncio.create_task(self.source.run(self))
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        for found in await asyncio.gather(self._task, return_exceptions=True):
            if isinstance(found, Exception):
                raise found

    async def put(self, batch):
        self.batches.append(batch)
        for key, value, _ in batch.events:
            if value is None:
                self.objects.pop(key, None)
            else:
                self.objects[key] = value

    @property
    def last(self):
        return self.batches[-1]

    def reasons(self):
        return [problem.reason for problem in self.last.problems]

    async def until(self, condition, within_s=60.0):
        """Let time pass until it holds; how long that took."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while not condition():
            assert loop.time() - began_s < within_s, f"not within {within_s} s"
            await asyncio.sleep(0.01)
        return loop.time() - began_s
