"""More requests than a worker can serve: which are served, which are told to come back, which are left in the kernel.

Off, and `Worker.shedding` None, until the loop was late by `TARGET_S`, many connections wait to be accepted, or one
turn has very much to write. From there on each turn of the loop serves `PER_TURN` requests. Those beyond wait here
(their connections, with the bytes as they came), and what a turn has room for is taken from them: the eldest first, so
that all wait equally long. So a turn stays short, whatever comes. When all are served in their turn, as after a pause
or a burst, that is all.

Who has waited for `PATIENCE_S` and `PATIENCE_TURNS` is late: by the time of an answer he may have given up. The late
are refused, the eldest first, for a small share of the worker's CPU time: refusing costs nearly what serving does (the
bytes are read, parsed, answered and logged), so answering everybody would leave nothing for those who are served. Who
is neither served nor refused waits; when nobody else does, the late are served, the latest first.

A new connection costs four requests, so while requests wait on those that are open few are let in, one for
`REQUESTS_PER_OPENING` requests; its first request is served at once, for it has waited in the kernel. See `Acceptor`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from ingressd.protocol.h1 import END_OF_HEAD

if TYPE_CHECKING:
    from ingressd.proxy.runtime.worker import Worker

TARGET_S: Final = 0.1
"""How late the loop may be: more than a pause of the garbage collector, or a period of a CPU quota."""
BACKLOG: Final = 256
"""The same, for connections that wait to be accepted."""
REST_S: Final = 0.5
"""After so long without anything of it, it is over."""
PER_TURN: Final = 64
"""Few enough for a turn of some milliseconds, many enough to share its fixed costs."""
PATIENCE_S: Final = 0.5
LONG_S: Final = 0.25
"""When the eldest has waited for so long, it is too much indeed, and no burst: new connections wait elsewhere."""
PATIENCE_TURNS: Final = 4
"""A request is refused when it has waited for both: through a pause nobody is served in its stead."""
PAUSE_SHARE: Final = 0.02
"""Less CPU time than this in the time the loop was late: it was stopped. Under a CPU quota it is throttled, to more."""
SHARE: Final = 0.03
"""Of the CPU time that goes into refusing; what has been spent on reading is not in it."""
REQUESTS_PER_OPENING: Final = 64
MOST_OPENINGS: Final = 8.0
"""What may be let in at once after a time without new connections, and what they may have had too much."""
MOST_OWED_S: Final = 0.005
"""What may be spent at once after a time without refusals."""
COMPLAIN_S: Final = 10.0

log = logging.getLogger("ingressd.overload")


class Waiting(Protocol):
    """A connection whose request waits."""

    queued: bool

    def queue(self, data: bytes | bytearray) -> None:
        """Keep a request for later."""

    def go_on(self) -> None:
        """Serve it now."""

    def turn_away(self) -> None:
        """Answer it 503."""


class Overload:
    """One worker's."""

    __slots__ = (
        "_began_s",
        "_complained_s",
        "_cpu_s",
        "_last_s",
        "_late",
        "_looked_cpu_s",
        "_openings",
        "_owed_s",
        "_passing",
        "_paused_s",
        "_probed",
        "_probes",
        "_served",
        "_shorten",
        "_shut_s",
        "_turn_number",
        "_turning",
        "_waiting",
        "_worker",
        "cpu",
        "shut",
        "tight",
    )

    def __init__(self, worker: Worker, cpu: Callable[[], float], shorten: Callable[[bool], None]) -> None:
        """`cpu` gives the seconds of CPU that this thread has used; `shorten` makes the queue of those who
        wait to be accepted short (True) or long.
        """
        self._shorten = shorten
        self._served = 0
        self.shut = False
        self._shut_s = 0.0
        self._began_s = 0.0
        self._openings = 0.0
        self._worker = worker
        self.cpu = cpu
        self.tight = False
        self._cpu_s = 0.0
        self._last_s = 0.0
        self._looked_cpu_s = 0.0
        self._owed_s = 0.0
        self._passing: Any = None
        self._probed = 0
        self._paused_s = float("-inf")
        self._turning = False
        self._turn_number = 0
        self._waiting: deque[tuple[Waiting, float, int]] = deque()
        self._late: deque[tuple[Waiting, float, int]] = deque()
        self._probes: tuple[bytes, bytes] = (b"", b"")
        self._complained_s = -COMPLAIN_S

    # ------------------------------------------------------------------------------------------------ on and off
    def look(self, lag_s: float, backlog: int) -> None:
        """Hear how late the loop was, and how many connections wait to be accepted, every `LOOK_S`."""
        cpu_s = self.cpu()
        if lag_s >= PATIENCE_S and cpu_s - self._looked_cpu_s < PAUSE_SHARE * lag_s:
            self._paused_s = self._worker.clock()
        self._looked_cpu_s = cpu_s
        if lag_s >= TARGET_S or backlog >= BACKLOG:
            self.begin()
        elif self._worker.shedding is not None and not self.tight and self._worker.clock() - self._last_s >= REST_S:
            self._worker.shedding = None
        if self.shut:
            self.shut = self._worker.clock() - self._shut_s < REST_S
            self._shorten(self.shut)  # Again: the queue is shared, and another worker may have got over it.

    def tighten(self) -> None:
        """There is no memory for more: every request is refused, and nobody accepted, until `loosen`."""
        self.tight = True
        self.begin()

    def loosen(self) -> None:
        """There is memory again."""
        self.tight = False

    def _shut_door(self) -> None:
        self._shut_s = self._worker.clock()
        if not self.shut:
            self.shut = True
            self._shorten(True)

    def begin(self) -> None:
        """There is more than can be done at once. For the outbox, too, which sees it before a turn is over."""
        worker = self._worker
        self._last_s = worker.clock()
        if worker.shedding is None:
            worker.shedding = self
            self._began_s = self._last_s
            self._openings = MOST_OPENINGS
            health = worker.current.health_path
            self._probes = (b"GET %b " % health, b"HEAD %b " % health)
            self._cpu_s = self.cpu()
            self._owed_s = 0.0

    # ------------------------------------------------------------------------------------------------ connections
    def may_open(self) -> bool:
        """Whether there is time to let somebody in."""
        return not self._waiting or self._openings > 0.0

    def opened(self, cost: float) -> None:
        """Somebody is let in, who costs as much as `cost` plain connections."""
        self._openings = max(-MOST_OPENINGS, self._openings - cost)

    def may_turn_away(self) -> bool:
        """Whether who cannot be let in is to be told so: no pause or burst explains it, and there is time for that."""
        # Who has said nothing yet cannot be told, and is let in all the same: not without end.
        return self.shut and self._openings > -MOST_OPENINGS and self.accounts_for() and self.may_refuse()

    # ------------------------------------------------------------------------------------------------ requests
    def holds_back(self, client: Any, data: bytes | bytearray, opened_s: float) -> bool:
        """Whether a request of `client` has to wait; then it is kept. `PER_TURN` probes of load balancers do not, nor
        do first requests of those who were let in meanwhile: `opened_s` says when; it is 0 for later requests.
        """
        if client is self._passing:
            self._passing = None  # Not the request behind this one.
            return False
        if self.tight and END_OF_HEAD in data and not self.is_probe(data):
            self._worker.counters.shed += 1
            client.queue(data)
            client.turn_away()
            return True
        if not self._turning:
            self._turning = True
            self._worker.loop.call_soon(self._turn)
        if END_OF_HEAD not in data:
            return False
        if (self._served < PER_TURN and not self._waiting) or opened_s > self._began_s:
            self._served += 1
            return False
        if self._probed < PER_TURN and self.is_probe(data):
            self._probed += 1
            return False
        client.queue(data)
        self._waiting.append((client, self._worker.clock(), self._turn_number))
        return True

    def is_probe(self, data: bytes | bytearray) -> bool:
        """Whether this begins the request of a load balancer that looks whether we live."""
        return data.startswith(self._probes)

    def accounts_for(self) -> bool:
        """Whether others, and no pause, explain why somebody has waited for `PATIENCE_S`. A loop that was late by that
        and used no CPU time stood still, with everything around it, and who came meanwhile is served in no time.
        """
        return self._worker.clock() - self._paused_s >= PATIENCE_S

    def may_refuse(self) -> bool:
        """Whether there is time left to refuse somebody."""
        now_s = self.cpu()
        self._owed_s = min(MOST_OWED_S, self._owed_s + SHARE * (now_s - self._cpu_s))
        self._cpu_s = now_s
        return self._owed_s > 0.0

    def refused(self, began_s: float) -> None:
        """Somebody was, and that began at `began_s` of `cpu`."""
        self._shut_door()
        self._owed_s -= self.cpu() - began_s
        worker = self._worker
        worker.counters.shed += 1
        now = worker.clock()
        if now - self._complained_s >= COMPLAIN_S:
            self._complained_s = now
            log.warning("overloaded: who has waited too long is answered 503, %d until now", worker.counters.shed)

    def _turn(self) -> None:
        """Once in each turn of the loop with requests in it."""
        try:
            self._serve_waiting()
        finally:  # Whatever one request breaks: without the next turn nobody would be served any more.
            self._passing = None
            self._served = self._probed = 0
            self._turning = bool(self._waiting or self._late)
            if self._turning:
                self._last_s = self._worker.clock()
                self._worker.loop.call_soon(self._turn)

    def _serve_waiting(self) -> None:
        waiting, late = self._waiting, self._late
        self._turn_number += 1
        self._find_late()
        served = self._served
        while served < PER_TURN and (waiting or late):
            client, _, _ = waiting.popleft() if waiting else late.pop()
            if client.queued:
                served += 1
                self._passing = client
                client.go_on()
        self._passing = None
        self._served = 0
        self._openings = min(MOST_OPENINGS, self._openings + served / REQUESTS_PER_OPENING)
        self._refuse_late()

    def _find_late(self) -> None:
        waiting = self._waiting
        until_s = self._worker.clock() - PATIENCE_S
        until_turn = self._turn_number - PATIENCE_TURNS
        while waiting and waiting[0][1] <= until_s and waiting[0][2] <= until_turn:
            self._late.append(waiting.popleft())
        if (self._late or (waiting and waiting[0][1] <= until_s + LONG_S)) and self.accounts_for():
            self._shut_door()

    def _refuse_late(self) -> None:
        late = self._late
        while late and (not late[0][0].queued or self.may_refuse()):
            client, _, _ = late.popleft()
            if client.queued:
                began_s = self.cpu()
                client.turn_away()
                self.refused(began_s)
