"""Brings units to the workers and hears what became of them: the links around `fleet`, `quarantine` and `slots`."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from ingressd.control.pipeline.fleet import Fleet, Sending, Worker
from ingressd.control.pipeline.quarantine import CLOSED, Changes, Quarantine, closed
from ingressd.control.pipeline.slots import Slots
from ingressd.ipc.frames import MAX_FRAME_BYTES
from ingressd.ipc.link import Link
from ingressd.ipc.messages import (
    Ack,
    Counters,
    Flush,
    Hello,
    Listening,
    ToController,
    decode_to_controller,
    delta_frames,
)
from ingressd.model.codec import Units, decode_unit
from ingressd.model.problem import Origin, Problem
from ingressd.model.units import Certificate, Endpoints, Unit, Upstream, VirtualHost
from ingressd.observe.totals import Totals

FLUSH_S: Final = 0.3
"""How long a scrape waits for the counters of workers that are slow to answer."""
MAX_UNIT_BYTES: Final = MAX_FRAME_BYTES // 2

log = logging.getLogger("ingressd.publish")


class _Attached:
    """A worker that is connected."""

    def __init__(self, pid: int, link: Link[ToController]) -> None:
        self.pid = pid
        self.link = link
        self.hello = False
        self.served_before = 0
        self.listening: tuple[str, ...] = ()
        self.sent_at_s = 0.0


class WorkerView(NamedTuple):
    """What an operator may see of a worker. `version` is what it serves."""

    worker: int
    starts: int
    pid: int
    version: int
    listening: tuple[str, ...]


class Publisher:
    """Every worker gets every unit; a unit that workers cannot take is replaced by its last good version."""

    def __init__(
        self,
        *,
        slots: Slots,
        totals: Totals,
        clock: Callable[[], float],
        applied: Callable[[float, float], None],
        acknowledged: Callable[[int], None],
    ) -> None:
        """`applied` hears how long a worker took to build and until it was heard, `acknowledged` what all serve now."""
        self.fleet = Fleet()
        self.quarantine = Quarantine()
        self.expected = 0
        """How many workers there should be, 0 as long as nobody said."""
        self._slots = slots
        self._totals = totals
        self._clock = clock
        self._applied = applied
        self._acknowledged = acknowledged
        self._attached: dict[Worker, _Attached] = {}
        self._unconfirmed: deque[tuple[int, dict[str, bytes]]] = deque()
        self._confirmed = 0
        self._ready: set[int] = set()
        self._unfinished: dict[Worker, Sending] = {}
        self._flush_token = 0
        self._flushing: dict[int, tuple[set[Worker], asyncio.Future[None]]] = {}

    # ------------------------------------------------------------------ publishing
    def publish(self, changed: Mapping[str, Unit], removed: Iterable[str]) -> int:
        """Publish what a translation changed; the version that has it."""
        encoded: dict[str, bytes] = {}
        too_long: dict[str, bytes] = {}
        units = Units.of(changed)
        for key, wire in units.wire.items():
            (encoded if len(wire) <= MAX_UNIT_BYTES else too_long)[key] = wire
            unit = units[key] if key.startswith("endpoints/") else None
            if isinstance(unit, Endpoints):
                addresses = [f"{endpoint.address}:{endpoint.port}" for endpoint in unit.endpoints]
                self._slots.assign(unit.upstream, addresses, version=self.fleet.version + 1)
        gone = tuple(removed)
        for key in gone:
            if key.startswith("endpoints/"):
                self._slots.assign(key.removeprefix("endpoints/"), (), version=self.fleet.version + 1)
        version = self._issue(self.quarantine.admit(encoded, gone))
        if too_long:
            reasons = dict.fromkeys(too_long, f"more than {MAX_UNIT_BYTES} bytes")
            version = self._issue(self.quarantine.refused(too_long, reasons, self._clock()))
        return version

    def settle_slots(self) -> None:
        """The first complete snapshot is out: endpoints of a former controller that it does not have are gone."""
        self._slots.settle()

    def _issue(self, changes: Changes) -> int:
        before = self.fleet.version
        version = self.fleet.publish(changes.changed, changes.removed)
        if version != before:
            self._unconfirmed.append((version, dict(changes.changed)))
            for worker in self._attached:
                self._send(worker)
        return version

    def _send(self, worker: Worker) -> None:
        attached = self._attached[worker]
        if not attached.hello:
            return
        sending = self.fleet.next(worker)
        if sending is None:
            return
        attached.sent_at_s = self._clock()
        upstreams = [key.removeprefix("endpoints/") for key in sending.changed if key.startswith("endpoints/")]
        owned = [(upstream, self._slots.owned(upstream)) for upstream in upstreams]
        attached.link.send_frames(
            delta_frames(
                sending.version,
                sending.base,
                changed={key: self.fleet.units[key] for key in sending.changed},
                removed=sending.removed,
                slots=((upstream, slots.by_address()) for upstream, slots in owned),
            )
        )

    # ------------------------------------------------------------------ workers come and go
    def attach(self, worker: Worker, pid: int, connected: socket.socket) -> None:
        """A worker was started, or we were; it will say hello over this socket."""
        link: Link[ToController] = Link(
            connected,
            asyncio.get_running_loop(),
            decode=decode_to_controller,
            received=lambda message: self._hear(worker, message),
            lost=lambda: self._detach(worker),
        )
        self._attached[worker] = _Attached(pid, link)

    def gone(self, worker: Worker, how: str, *, applying: int, unit: int) -> None:
        """A worker ended. `applying` is the version it was building, 0 for none; `unit` the place in it, if known."""
        self._detach(worker)
        sending = self._unfinished.pop(worker, None)
        if not applying or sending is None or sending.version != applying:
            return
        keys = sending.changed[unit - 1 : unit] if unit else sending.changed
        self._blame(sending, keys, f"a worker ended while it was built ({how})", sure=False)

    def _blame(self, sending: Sending, keys: tuple[str, ...], reason: str, *, sure: bool) -> None:
        units = {key: self.fleet.units[key] for key in keys if key in self.fleet.units}
        log.error("version %d: %s; %d units are under suspicion", sending.version, reason, len(units))
        self._unpublish(units)
        self._issue(self.quarantine.crashed(units, reason, now_s=self._clock(), sure=sure))

    def _unpublish(self, units: Iterable[str]) -> None:
        """These were not served: nobody may take them for good."""
        for _, waiting in self._unconfirmed:
            for key in units:
                waiting.pop(key, None)

    def _detach(self, worker: Worker) -> None:
        attached = self._attached.pop(worker, None)
        if attached is None:
            return
        attached.link.close()
        sending = self.fleet.lose(worker)
        self._totals.fold(worker)
        self._answered(worker)
        self._confirm()
        # A crash is judged when the supervisor says how the worker ended; the link usually tells of it before.
        if sending is not None:
            self._unfinished[worker] = sending

    # ------------------------------------------------------------------ what workers say
    def _hear(self, worker: Worker, message: ToController) -> None:
        attached = self._attached.get(worker)
        if attached is None:
            return
        if isinstance(message, Hello):
            attached.hello = True
            attached.served_before = message.version
            self.fleet.add(worker, message.version)
            attached.link.send(Flush(0, True))
            self._settle_readiness()
            self._send(worker)
        elif isinstance(message, Listening):
            attached.listening = message.names
        elif isinstance(message, Counters):
            self._totals.absorb(worker, message.report)
            if message.token:
                self._answered(worker, token=message.token)
        else:
            self._heard_ack(worker, attached, message)

    def _heard_ack(self, worker: Worker, attached: _Attached, ack: Ack) -> None:
        if ack.error:
            sending = self.fleet.reject(worker, ack.version)
            if sending is not None:
                self._blame(sending, sending.changed, ack.error, sure=True)
                self._send(worker)
            return
        self._applied(ack.seconds, self._clock() - attached.sent_at_s)
        refused = {key: self.fleet.units[key] for key in ack.refused if key in self.fleet.units}
        self._unpublish(refused)
        sending = self.fleet.acknowledge(worker, ack.version)
        if sending is None:
            return
        log.debug("worker %d serves version %d after %.1f ms", worker[0], ack.version, ack.seconds * 1000)
        if refused:
            for key, reason in ack.refused.items():
                log.error("worker %d refused %s: %s", worker[0], key, reason)
            self._issue(self.quarantine.refused(refused, ack.refused, self._clock()))
        self._settle_readiness()
        self._confirm()
        self._send(worker)

    def _confirm(self) -> None:
        """What every worker serves is good, and may be told to the world."""
        version = self.fleet.acknowledged_by_all()
        while self._unconfirmed and self._unconfirmed[0][0] <= version:
            self.quarantine.served(self._unconfirmed.popleft()[1])
        if version > self._confirmed:
            self._confirmed = version
            self._acknowledged(version)

    # ------------------------------------------------------------------ readiness and views
    def _settle_readiness(self) -> None:
        for worker, attached in self._attached.items():
            if attached.served_before or self.fleet.acknowledged(worker):
                self._ready.add(worker[0])

    def ready(self) -> bool:
        """Whether every worker has acknowledged a complete snapshot once, and one serves now."""
        serving = any(
            attached.served_before or self.fleet.acknowledged(worker) for worker, attached in self._attached.items()
        )
        return bool(serving and self.expected and self._ready >= set(range(self.expected)))

    def workers(self) -> list[WorkerView]:
        """The attached workers by index."""
        return sorted(
            WorkerView(worker[0], worker[1], attached.pid, self._version_of(worker, attached), attached.listening)
            for worker, attached in self._attached.items()
        )

    def _version_of(self, worker: Worker, attached: _Attached) -> int:
        return self.fleet.acknowledged(worker) or attached.served_before

    def units(self) -> dict[str, Unit]:
        """The units as they are published, those in quarantine replaced by their last good version."""
        return {key: decode_unit(unit) for key, unit in sorted(self.fleet.units.items())}

    def problems(self) -> list[Problem]:
        """A problem for every unit in quarantine."""
        found = []
        for key, held in sorted(self.quarantine.held.items()):
            good, shut = self.quarantine.good.get(key), closed(key, held.unit)
            if good not in (None, shut):
                instead = "its last good version serves"
            else:
                instead = "nothing serves in its place" if shut is None else f"its host answers {CLOSED}"
            origin = origin_of(key, decode_unit(held.unit))
            found.append(Problem("error", origin, "Quarantined", key, f"{held.reason}; {instead}"))
        return found

    def slots_of(self, upstream: str) -> Mapping[str, int]:
        """Which slots of the shared table the endpoints of an upstream own, by "address:port"."""
        return self._slots.of(upstream)

    def in_flight(self) -> int:
        """Exchanges with endpoints, over all workers."""
        return self._slots.in_flight()

    def ejected(self) -> int:
        """Endpoints that a worker ejects now."""
        return self._slots.ejected()

    # ------------------------------------------------------------------ time
    def tick(self) -> None:
        """Now and then: slots that nobody needs, units that get another chance."""
        quiet = bool(self._attached) and self.fleet.acknowledged_by_all() == self.fleet.version
        if quiet:
            self._slots.release(self.fleet.version)
        chance = self.quarantine.due(self._clock(), quiet=quiet)
        if chance:
            self._issue(Changes(chance, ()))

    # ------------------------------------------------------------------ counters
    async def flush_counters(self) -> None:
        """Ask every worker for its numbers and wait a little; who does not answer counts as of a second ago."""
        asked = {worker for worker, attached in self._attached.items() if attached.hello}
        if not asked:
            return
        self._flush_token += 1
        token = self._flush_token
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flushing[token] = (set(asked), answered)
        for worker in asked:
            attached = self._attached[worker]
            attached.link.send(Flush(token))
        await asyncio.wait({answered}, timeout=FLUSH_S)
        self._flushing.pop(token, None)

    def _answered(self, worker: Worker, token: int = 0) -> None:
        for number, (missing, answered) in self._flushing.items():
            if token in (0, number):
                missing.discard(worker)
                if not missing and not answered.done():
                    answered.set_result(None)

    def close(self) -> None:
        """Let go of every link; workers serve on."""
        for attached in self._attached.values():
            attached.link.close()
        self._attached.clear()


def origin_of(key: str, unit: Unit) -> Origin:
    """The object a unit came from, as far as the unit knows; else the unit itself by its key."""
    if isinstance(unit, Upstream | Certificate):
        return unit.origin
    if isinstance(unit, VirtualHost):
        routes = [*unit.routes, *([unit.default] if unit.default else [])]
        if routes:
            return routes[0].origin
    kind, _, name = key.partition("/")
    return Origin("Unit", "", f"{kind}/{name}" if name else kind)
