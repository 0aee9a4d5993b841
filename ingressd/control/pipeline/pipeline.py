"""The loop: batches of events in, deltas out, and what is known of them for whoever shows it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from ingressd.control.objects.event import AnyObject, ObjectKey
from ingressd.control.objects.kubernetes import Ingress
from ingressd.control.pipeline.held import Held
from ingressd.control.pipeline.places import Places
from ingressd.control.pipeline.precedence import Precedence
from ingressd.control.pipeline.problems import ProblemBoard
from ingressd.control.pipeline.publisher import Publisher
from ingressd.control.sources.batch import CLUSTER, SourceBatch
from ingressd.control.store.store import Store, StoreView
from ingressd.control.translate.translation import Translation
from ingressd.control.translate.translator import Translator
from ingressd.ipc import orders
from ingressd.ipc.orders import Order
from ingressd.model.codec import Units
from ingressd.model.problem import Origin, Problem
from ingressd.model.units import Listener, ProcessPolicy, Unit
from ingressd.settings.flags import ProcessFlags

REST_S: Final = 0.1
"""After so long without a change the next one goes at once."""
PAUSE_S: Final = 0.002
"""While changes come in quick succession, one waits for the next so long …"""
LONGEST_PAUSE_S: Final = 0.025
"""… and the first of them no longer than this."""
HOLD_S: Final = 0.5
"""How long a change waits for a Secret that nothing looked at before, so that its hosts do not start without it."""
TICK_S: Final = 0.25
UNSERVED: Final = 50
"""How many changes wait apart for their acknowledgement; more go together."""

log = logging.getLogger("ingressd.pipeline")


class Spans(Protocol):
    """Where the times of an apply go."""

    def translated(self, seconds: float) -> None:
        """Store and translation took so long."""

    def published(self, seconds: float) -> None:
        """Encoding and sending took so long."""


class Served(NamedTuple):
    """What is true of objects once every worker serves `version`.

    `statuses` are those that may have changed, None for an object that has none any more; `changed` are the objects
    whose content changed, ours or not. `flags` are the process-wide switches in force.
    """

    version: int
    statuses: dict[ObjectKey, Any]
    changed: frozenset[ObjectKey]
    flags: ProcessFlags


class Pipeline:
    """Owns store and translator. `batches` is the sink of all sources; `tell` sends an order to the supervisor.

    `own` are units that no object brings (the self-signed certificate), by key: they go out with the first version.
    `served` hears of every change that all workers serve. `want` tells the cluster's source which Secrets and
    ConfigMaps are looked at, and answers whether it has told of them all; if not, a batch that is `complete` follows.
    `translated` hears of every translation, published or not. `recall` gives last good versions from before a restart.
    `published` hears of the units there are now, those that changed and those that are gone.
    """

    def __init__(
        self,
        sources: Iterable[str],
        *,
        publisher: Publisher,
        board: ProblemBoard,
        places: Callable[[Store], Places],
        tell: Callable[[Order], None],
        clock: Callable[[], float],
        spans: Spans,
        own: Mapping[str, Unit],
        served: Callable[[Served], None] = lambda _: None,
        want: Callable[[frozenset[ObjectKey]], bool] = lambda _: True,
        translated: Callable[[StoreView], None] = lambda _: None,
        recall: Callable[[], Iterable[tuple[ObjectKey, AnyObject]]] = tuple,
        published: Callable[[Units, Units, tuple[str, ...]], None] = lambda *_: None,
    ) -> None:
        self.batches: asyncio.Queue[SourceBatch] = asyncio.Queue(maxsize=100)
        self.store = Store()
        self.publisher = publisher
        self.board = board
        self._precedence = Precedence(self.store)
        self._places = places(self.store)
        self._translator = Translator()
        self._units = Units()
        self._tell = tell
        self._clock = clock
        self._spans = spans
        self._own = Units.of(own)
        self._incomplete = set(sources)
        self._unlisted = set(self._incomplete)
        self._want = want
        self._translated = translated
        self._recall = recall
        self._published = published
        self._view = self.store.snapshot()
        self._wanted: frozenset[ObjectKey] | None = None
        self._held = Held()
        self._hold_until_s = 0.0
        self._changed: set[ObjectKey] = set()
        self._from_scratch = True
        self._published_at_s = 0.0
        self._served = served
        self._unserved: deque[Served] = deque()
        self._statuses: dict[ObjectKey, Any] = {}
        self._listeners: dict[str, Listener] = {}
        self._unbound: dict[str, str] = {}
        self._policy: ProcessPolicy | None = None

    # ------------------------------------------------------------------ the loop
    async def run(self) -> None:
        """Take batches until cancelled."""
        while True:
            self.take(await self._gather())

    async def _gather(self) -> list[SourceBatch]:
        """The next batch, and what follows it closely when changes come in quick succession; none when what is held
        has waited long enough."""
        left_s = self._hold_until_s - self._clock() if self._held and self.publisher.fleet.version else None
        try:
            async with asyncio.timeout(left_s):
                batches = [await self.batches.get()]
        except TimeoutError:
            return []
        began_s = self._clock()
        if began_s - self._published_at_s >= REST_S or _is_urgent(batches[0]):
            return batches
        while (left_s := began_s + LONGEST_PAUSE_S - self._clock()) > 0:
            try:
                # Not wait_for, which before Python 3.12 may swallow a cancellation.
                async with asyncio.timeout(min(PAUSE_S, left_s)):
                    batches.append(await self.batches.get())
            except TimeoutError:
                break
        return batches

    async def tick(self) -> None:
        """Quarantine and slots, until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            self.publisher.tick()
            self.board.put({"workers": self.publisher.problems()})

    def take(self, batches: Iterable[SourceBatch]) -> None:
        """Apply batches as one change: store, translate, publish.

        Nothing is translated before every source has `listed`, and nothing goes out before every one is `complete`.
        """
        began_s = self._clock()
        for batch in batches:
            self._changed |= self.store.apply(self._precedence.events(batch))
            if batch.complete:
                self._incomplete.discard(batch.source)
            if batch.complete or batch.listed:
                self._unlisted.discard(batch.source)
            self.board.put({batch.source: batch.problems, "precedence": self._precedence.problems()})
        if not self._unlisted and (self._changed or self._from_scratch):
            self._translate(began_s)
        if self._held and not self._must_wait():
            self._publish(*self._held.take())

    def _translate(self, began_s: float) -> None:
        changed = None if self._from_scratch else frozenset(self._changed)
        if not self.publisher.fleet.version:
            self.store.remember(self._recall())
        view = self._view = self.store.snapshot()
        translation = self._translator.translate(view, changed)
        self.store.accept(translation.accepted)
        because = frozenset(self._changed)
        self._from_scratch = False
        self._changed = set()
        now_s = self._clock()
        self._spans.translated(now_s - began_s)
        if not self._held:
            self._hold_until_s = now_s + HOLD_S
        self._held.add(translation, because)
        if translation.wanted is not self._wanted:
            self._wanted = translation.wanted
            (self._incomplete.discard if self._want(translation.wanted) else self._incomplete.add)(CLUSTER)
        self._translated(view)

    def _must_wait(self) -> bool:
        """Whether what is held waits for a source. The first snapshot waits for ever, a change only so long."""
        if self._incomplete and self.publisher.fleet.version and self._clock() >= self._hold_until_s:
            self._incomplete.clear()
        return bool(self._incomplete)

    def _publish(self, translation: Translation, because: frozenset[ObjectKey]) -> None:
        began_s = self._clock()
        publisher = self.publisher
        self._order_sockets(translation)
        before = publisher.fleet.version
        changed = translation.changed if before else Units({**self._own.wire, **translation.changed.wire})
        version = publisher.publish(changed, translation.removed)
        if not before:
            publisher.settle_slots()
        if version != before:
            log.info(
                "version %d: %d units changed, %d removed; because of %s",
                version,
                len(translation.changed),
                len(translation.removed),
                _named(because),
            )
        self._await_service(
            Served(
                version, {key: translation.statuses.get(key) for key in translation.told}, because, translation.flags
            )
        )
        self._units = translation.units
        self._published(translation.units, translation.changed, tuple(translation.removed))
        self.board.put(
            {"translate": self._places.add(translation.problems), "workers": publisher.problems()},
        )
        self.acknowledged(publisher.fleet.acknowledged_by_all())
        self._published_at_s = self._clock()
        self._spans.published(self._published_at_s - began_s)

    def _order_sockets(self, translation: Translation) -> None:
        """Tell the supervisor which sockets and which drain the new snapshot asks for, before workers hear of it."""
        first = self._policy is None
        dirty = first
        for key in translation.removed:
            if key.startswith("listener/"):
                dirty = self._listeners.pop(key.removeprefix("listener/"), None) is not None or dirty
        for key in translation.changed:
            unit = translation.changed[key] if key.startswith("listener/") else None
            if isinstance(unit, Listener):
                self._listeners[unit.name] = unit
                dirty = True
        if dirty:
            wanted = tuple((name, unit.host, unit.port) for name, unit in sorted(self._listeners.items()))
            self._unbound = {name: why for name, why in self._unbound.items() if name in self._listeners}
            self._tell(Order(orders.LISTENERS, listeners=wanted))
        process: Unit = translation.units.get("process") or ProcessPolicy()
        if isinstance(process, ProcessPolicy) and process != self._policy:
            self._policy = process
            self._tell(
                Order(
                    orders.POLICY,
                    grace_s=process.shutdown_grace_period_s,
                    timeout_s=process.worker_shutdown_timeout_s,
                    detail=process.log_level,
                )
            )

    # ------------------------------------------------------------------ news
    def acknowledged(self, version: int) -> None:
        """Every worker serves this version: statuses that waited for it are true now."""
        while self._unserved and self._unserved[0].version <= version:
            served = self._unserved.popleft()
            for key, status in served.statuses.items():
                if status is None:
                    self._statuses.pop(key, None)
                else:
                    self._statuses[key] = status
            self._served(served)

    def _await_service(self, news: Served) -> None:
        """Keep news until they are true. While workers are slow, the latest are put together."""
        if len(self._unserved) >= UNSERVED:
            last = self._unserved.pop()
            news = news._replace(statuses={**last.statuses, **news.statuses}, changed=last.changed | news.changed)
        self._unserved.append(news)

    def bound(self, name: str, error: str) -> None:
        """The supervisor bound a listener, or could not."""
        if error:
            self._unbound[name] = error
        else:
            self._unbound.pop(name, None)
        self.board.put(
            {
                "supervisor": [
                    Problem("error", Origin("Config", "", "listeners"), "NotBound", listener, why)
                    for listener, why in sorted(self._unbound.items())
                ]
            }
        )

    # ------------------------------------------------------------------ views
    def check(self, ingress: Ingress) -> tuple[Problem, ...]:
        """What would be wrong with an Ingress if it came now. RuntimeError before the first translation."""
        return self._translator.check(self._view, ingress)

    def ingresses(self) -> int:
        """How many Ingresses there are, whoever's."""
        return self._view.count(Ingress)

    def ingress_keys(self) -> tuple[ObjectKey, ...]:
        """The keys of all Ingresses."""
        return self._view.keys(Ingress)

    def statuses(self) -> dict[ObjectKey, Any]:
        """The status of each of our objects, as far as every worker serves what it speaks of."""
        return self._statuses

    def units(self) -> Units:
        """The units as translated last, to be read and not changed."""
        return self._units

    def listeners(self) -> list[tuple[Listener, str]]:
        """Each listener, and why it is not bound ("" when it is)."""
        return [(unit, self._unbound.get(name, "")) for name, unit in sorted(self._listeners.items())]


def _is_urgent(batch: SourceBatch) -> bool:
    """Endpoints do not wait: requests go to a pod that is gone."""
    return bool(batch.events) and all(event.key.kind == "EndpointSlice" for event in batch.events)


def _named(keys: Iterable[ObjectKey]) -> str:
    """A few of the objects by name, for a log line."""
    names = sorted(map(str, keys))
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown or "nothing"
