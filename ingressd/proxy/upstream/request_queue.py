"""The cap on requests per endpoint, and the queue of those that wait because every endpoint has as many as it may.

The cap is the pod's and exact: a worker first counts the request in its own column of the shared table, then adds up
all columns, and takes it back when that is too many. So two workers that want the last place at the same time may both
be sent to the queue, but never both to the endpoint.

The queue is first come, first served over all workers. A worker hands a place that becomes free in it to its own
eldest, and says in the shared table since when that one has waited; whoever sees that somebody else's has waited longer
leaves the place to it. Nobody can wake another worker, so while requests wait each worker looks every `LOOK_S` for what
became free elsewhere.

A queue belongs to an upstream of one worker, and lives as long as there is a cap. An endpoint without a slot in the
shared table has no cap.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any, Final, Protocol

from ingressd.observe.counters import WorkerCounters
from ingressd.observe.shared_table import SharedTable
from ingressd.proxy.upstream.endpoint import EndpointState
from ingressd.settings.config import RequestCap

LOOK_S: Final = 0.002
LOOK_PER_CELL_S: Final = 2e-6
"""Where there are many endpoints and workers, a look takes longer and comes less often: a twentieth of the time."""
PATIENCE_S: Final = 0.02
"""How long a free place is left to another worker's eldest, which may not take it because the worker was stopped. Then
nothing is left to that one any more."""
LOOK_AT: Final = 8
"""How many of the eldest are offered a place: one that has tried an endpoint in vain does not want that again."""

_NO_SLOT: Final = SharedTable.base(0)
_COUNT_BITS: Final = 20
_COUNT: Final = (1 << _COUNT_BITS) - 1
_FENCE: Final = threading.Lock()
"""Taking a lock is a full barrier on x86: what was written before is seen by all before anything is read after it."""


class Waiter(Protocol):
    """A request that waits. When it goes it calls `leave` first."""

    @property
    def picky(self) -> bool:
        """Whether there are endpoints that it does not want, because it has tried them in vain."""

    def offer(self, endpoint: EndpointState, now: float) -> bool:
        """A place has become free at this endpoint; false when the request cannot use it."""

    def look(self, now: float) -> bool:
        """Go to any endpoint with a place, or give up when there are no endpoints any more; false to wait on."""


class Loop(Protocol):
    """What is needed of an event loop."""

    def call_soon(self, callback: Callable[[], object], /) -> Any: ...
    def call_later(self, delay: float, callback: Callable[[], object], /) -> Any: ...


class RequestQueue:
    """The cap of one upstream, and who waits for a place."""

    __slots__ = (
        "_base",
        "_columns",
        "_counters",
        "_endpoints",
        "_freed",
        "_looking",
        "_loop",
        "_own",
        "_said",
        "_waiting",
        "_yielded_s",
        "_yields_to",
        "cap",
        "clock",
    )

    def __init__(self, cap: RequestCap, *, loop: Loop, clock: Callable[[], float], counters: WorkerCounters) -> None:
        self.cap = cap
        self.clock = clock
        self._loop = loop
        self._counters = counters
        self._waiting: OrderedDict[Waiter, float] = OrderedDict()
        """Since when each waits; the eldest first."""
        self._freed: list[EndpointState] = []
        self._looking = False
        self._endpoints = 0
        self._base = 0
        self._columns: Any = ()
        self._own: Any = None
        self._said = 0
        self._yields_to = 0
        self._yielded_s = 0.0

    def __len__(self) -> int:
        """How many wait in this worker."""
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<RequestQueue {len(self._waiting)} waiting, {self.cap.max_requests} for each endpoint>"

    # ------------------------------------------------------------------------------------------------ the cap
    def has_place(self, endpoint: EndpointState) -> bool:
        """Whether an endpoint has fewer requests than it may."""
        return endpoint.base <= _NO_SLOT or endpoint.in_flight() < self.cap.max_requests

    def is_over(self, endpoint: EndpointState) -> bool:
        """Whether an endpoint has more than it may, now that this worker has counted one more there."""
        if endpoint.base <= _NO_SLOT:
            return False
        with _FENCE:
            pass
        return endpoint.in_flight() > self.cap.max_requests

    def left(self, endpoint: EndpointState) -> None:
        """A request of this worker has left an endpoint: the eldest that waits gets the place, in the next turn."""
        if self._waiting:
            if not self._freed:
                self._loop.call_soon(self._hand_on)
            self._freed.append(endpoint)

    # ------------------------------------------------------------------------------------------------ the queue
    def choose(self, candidates: Iterable[EndpointState], now: float) -> EndpointState | None:
        """The first of these with a place for the eldest that waits, or for one that comes now when nobody does."""
        for endpoint in candidates:
            if self.has_place(endpoint):
                return None if self._yields(now) else endpoint
        return None

    def is_full(self) -> bool:
        """Whether no more may wait, counted over all workers."""
        waiting = len(self._waiting)
        if self._base:
            waiting = sum([column[self._base] & _COUNT for column in self._columns])
        return waiting >= self.cap.max_pending

    def join(self, waiter: Waiter, now: float) -> None:
        """Wait, behind all others."""
        self._waiting[waiter] = now
        self._counters.queued += 1
        self._counters.queue_length += 1
        self._say()
        self._look_later()

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer: it goes, its time is up, or its client has left."""
        if self._waiting.pop(waiter, None) is not None:
            self._counters.queue_length -= 1
            self._say()

    def open(self) -> None:
        """There is no cap any more: everybody goes."""
        self._loop.call_soon(self._let_all_go)

    def changed(self) -> None:
        """The cap or the endpoints have changed: there may be places."""
        if self._waiting:
            self._loop.call_soon(self._look)

    def share(self, base: int, columns: Any, own: Any, *, endpoints: int) -> None:
        """Wait together with other workers: in this cell of their `columns`, of which `own` is ours; 0 is no cell."""
        if self._said and self._base != base:
            self._own[self._base] = self._said = 0
        self._base = base
        self._columns, self._own = columns, own
        self._endpoints = endpoints
        self._say()

    def _say(self) -> None:
        """Tell the other workers how many wait here, and since when the eldest does."""
        if not self._base:
            return
        said = 0
        if self._waiting:
            since = next(iter(self._waiting.values()))
            said = _milliseconds(since) << _COUNT_BITS | len(self._waiting)
        if said != self._said:
            self._own[self._base] = self._said = said

    def _yields(self, now: float) -> bool:
        """Whether a place that is free is left to another worker, whose eldest has waited longer than ours."""
        if not self._base:
            return False
        ours = eldest = _milliseconds(next(iter(self._waiting.values()), now))
        for column in self._columns:
            said = column[self._base] >> _COUNT_BITS
            if 0 < said < eldest:
                eldest = said
        if eldest == ours:
            self._yields_to = 0
            return False
        if eldest != self._yields_to:
            self._yields_to = eldest
            self._yielded_s = now
        return now - self._yielded_s < PATIENCE_S

    # ------------------------------------------------------------------------------------------------ free places
    def _hand_on(self) -> None:
        """What became free in this worker."""
        freed, self._freed = self._freed, []
        now = self.clock()
        for endpoint in freed:
            if not self._waiting:
                return
            if self.has_place(endpoint) and not self._yields(now):
                self._until_one_goes(partial(_offer, endpoint, now))

    def _look_later(self) -> None:
        if not self._looking:
            self._looking = True
            delay = max(LOOK_S, LOOK_PER_CELL_S * self._endpoints * len(self._columns))
            self._loop.call_later(delay, self._look_and_go_on)

    def _look_and_go_on(self) -> None:
        self._looking = False
        try:
            self._look()
        finally:
            if self._waiting:
                self._look_later()

    def _look(self) -> None:
        """What became free anywhere: in other workers, or because endpoints came, or came back."""
        now = self.clock()
        while self._until_one_goes(lambda waiter: waiter.look(now)):
            pass

    def _until_one_goes(self, ask: Callable[[Waiter], bool]) -> bool:
        """Ask one after the other, the eldest first. What one who takes any endpoint does not want, nobody does."""
        for waiter in list(islice(self._waiting, LOOK_AT)):
            if ask(waiter):
                return True
            if not waiter.picky:
                break
        return False

    def _let_all_go(self) -> None:
        now = self.clock()
        for waiter in list(self._waiting):
            waiter.look(now)


def _offer(endpoint: EndpointState, now: float, waiter: Waiter) -> bool:
    return waiter.offer(endpoint, now)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
