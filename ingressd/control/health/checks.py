"""The schedule of probes: every endpoint of every upstream that asks for health checks, by one task.

A probe begins an interval after the one before it began, give or take a tenth, so that replicas and endpoints do not
march in step; the next one waits until the last one has ended. An endpoint that workers have just ejected is probed at
once and stays out until that probe has ended: no client has to try it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from typing import Final, NamedTuple, Protocol

from ingressd.control.health.verdicts import Verdict
from ingressd.model.codec import Units
from ingressd.model.units import Endpoints, Upstream, UpstreamTls
from ingressd.observe.health_metrics import HealthNumbers
from ingressd.observe.shared_table import SharedTable, ring
from ingressd.settings.config import HealthCheck

MAX_PROBES: Final = 128
"""Probes under way at once. With more endpoints than this or `MAX_PER_TURN` allow, intervals grow."""
MAX_PER_TURN: Final = 20
"""Probes begun in a turn of `TURN_S`: the controller has more to do."""
TURN_S: Final = 0.05
JITTER: Final = 0.1
SPACE_S: Final = 1.0
"""Between the beginnings of probes that ejections ask for."""
SPREAD_S: Final = 1.0
"""Probes of endpoints that are new begin within this time, or within an interval where that is shorter."""

log = logging.getLogger("ingressd.health")


class Probe(Protocol):
    """Asks one endpoint. Whoever calls bounds the time by cancelling."""

    async def __call__(self, address: str, port: int, *, check: HealthCheck, tls: UpstreamTls | None) -> str | None:
        """Why the endpoint is not well, "" when it is, None when it could not be asked."""


class Clocks(NamedTuple):
    """`now` is monotonic seconds, `chance` a number from 0 to below 1."""

    now: Callable[[], float]
    chance: Callable[[], float]


class EndpointView(NamedTuple):
    """What an operator may see of an endpoint that is probed. `said` is what was wrong with the last probe."""

    upstream: str
    address: str
    healthy: bool
    ejected: bool
    successes: int
    failures: int
    said: str


class _Subject:
    """An endpoint of an upstream, keyed by both, because health is a property of what is asked."""

    __slots__ = ("address", "began_s", "due_s", "name", "port", "probing", "said", "tls", "upstream", "verdict")

    def __init__(self, upstream: str, address: str, port: int, verdict: Verdict) -> None:
        self.upstream = upstream
        self.name = f"{address}:{port}"
        self.address = address
        self.port = port
        self.verdict = verdict
        self.tls: UpstreamTls | None = None
        self.began_s = -SPACE_S
        self.due_s = 0.0
        self.probing = False
        self.said = ""


class HealthChecks:
    """All health checks of the pod. `slots_of` tells which slots of the table the endpoints of an upstream own."""

    def __init__(
        self, table: SharedTable, probe: Probe, *, slots_of: Callable[[str], Mapping[str, int]], clocks: Clocks
    ) -> None:
        self._table = table
        self._probe = probe
        self._slots_of = slots_of
        self._clocks = clocks
        self._subjects: dict[str, dict[str, _Subject]] = {}  # By upstream, then by "address:port".
        self._queue: list[tuple[float, int, _Subject]] = []
        self._serial = 0
        self._probing = 0
        self._rung = 0
        self._work = asyncio.Event()
        self._results = {"failure": 0, "success": 0, "unknown": 0}

    # ------------------------------------------------------------------ what is probed
    def follow(self, units: Units, changed: Units, removed: tuple[str, ...]) -> None:
        """A translation was published; `units` are all there are now. Slots have been given."""
        names = set()
        for key in (*changed, *removed):
            kind, _, name = key.partition("/")
            if kind in ("upstream", "endpoints") and (name in self._subjects or _asks(changed.wire.get(key))):
                names.add(name)
        for name in sorted(names):
            self._follow(name, units.get(f"upstream/{name}"), units.get(f"endpoints/{name}"))
        if self._subjects:
            self._work.set()
        else:
            self._work.clear()

    def _follow(self, name: str, upstream: object, endpoints: object) -> None:
        before = self._subjects.pop(name, {})
        after: dict[str, _Subject] = {}
        check = upstream.health_check if isinstance(upstream, Upstream) else None
        if isinstance(upstream, Upstream) and isinstance(check, HealthCheck):
            slots = self._slots_of(name)
            found = endpoints.endpoints if isinstance(endpoints, Endpoints) else ()
            now = self._clocks.now()
            for endpoint in found:
                address = f"{endpoint.address}:{endpoint.port}"
                slot = slots.get(address)
                if slot is None:
                    continue  # There are more endpoints than slots: nobody would hear of the verdict.
                subject = before.pop(address, None)
                if subject is None:
                    verdict = Verdict(self._table, slot, check, now)
                    subject = _Subject(name, endpoint.address, endpoint.port, verdict)
                    self._schedule(subject, now + min(check.interval_s, SPREAD_S) * self._clocks.chance())
                elif subject.verdict.check != check:
                    subject.verdict.check = check
                    self._schedule(subject, min(subject.due_s, now + check.interval_s * self._clocks.chance()))
                subject.tls = upstream.tls
                after[address] = subject
            # An upstream without endpoints stays, so that endpoints that come are noticed.
            self._subjects[name] = after
        for subject in before.values():
            subject.due_s = -1.0
            subject.verdict.forget()
        if before:
            self._ring()

    def _schedule(self, subject: _Subject, due_s: float) -> None:
        """The entry that was there, if any, is void."""
        subject.due_s = due_s
        self._serial += 1
        heappush(self._queue, (due_s, self._serial, subject))

    # ------------------------------------------------------------------ probing
    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._work.wait()
                for subject in self.due():
                    group.create_task(self.probe(subject), name="health check")
                await asyncio.sleep(TURN_S)

    def due(self) -> list[_Subject]:
        """Those whose time has come, as many as may be under way; they count as under way from now on."""
        now = self._clocks.now()
        self._look_for_ejections(now)
        found: list[_Subject] = []
        while self._queue and self._queue[0][0] <= now and self._probing < MAX_PROBES and len(found) < MAX_PER_TURN:
            due_s, _, subject = heappop(self._queue)
            if subject.due_s == due_s and not subject.probing:
                subject.probing = True
                self._probing += 1
                found.append(subject)
        return found

    def _look_for_ejections(self, now: float) -> None:
        rung = self._table.bell[0]
        if rung == self._rung:
            return
        self._rung = rung
        for subjects in self._subjects.values():
            for subject in subjects.values():
                if subject.verdict.healthy and subject.verdict.ejected(now):
                    self._hurry(subject, now)

    def _hurry(self, subject: _Subject, now: float) -> None:
        """Workers eject it. One whose probes lie is not let back, and tried by clients, more often than `SPACE_S`."""
        space_s = min(subject.verdict.check.interval_s, SPACE_S)
        due_s = now if subject.probing else min(subject.due_s, max(now, subject.began_s + space_s))
        subject.verdict.hold(due_s)
        if not subject.probing and due_s < subject.due_s:
            self._schedule(subject, due_s)

    async def probe(self, subject: _Subject) -> None:
        """Ask one endpoint, and judge it by what it says."""
        check = subject.verdict.check
        began = subject.began_s = self._clocks.now()
        said: str | None = None
        try:
            async with asyncio.timeout(check.timeout_s):
                said = await self._probe(subject.address, subject.port, check=check, tls=subject.tls)
        except TimeoutError:
            said = f"no answer within {check.timeout_s:g} s"
        except Exception as error:  # noqa: BLE001 - whatever it is, the controller and the other probes go on
            said = f"{type(error).__name__}: {error}"
        finally:
            subject.probing = False
            self._probing -= 1
        if subject.due_s < 0:
            return  # It left meanwhile.
        self._judge(subject, said)
        jitter = 1.0 - JITTER + 2.0 * JITTER * self._clocks.chance()
        self._schedule(subject, began + subject.verdict.check.interval_s * jitter)

    def _judge(self, subject: _Subject, said: str | None) -> None:
        self._results["unknown" if said is None else "failure" if said else "success"] += 1
        if said is None:
            return
        subject.said = said
        where = f"upstream {subject.upstream}: endpoint {subject.name}"
        if said:
            if subject.verdict.failed(self._clocks.now()):
                log.warning("%s is unhealthy: %s", where, said)
                self._ring()
        elif subject.verdict.succeeded(self._clocks.now()):
            log.info("%s is healthy", where)
            self._ring()

    def _ring(self) -> None:
        ring(self._table.bell, self._clocks.now())

    # ------------------------------------------------------------------ views
    def view(self) -> list[EndpointView]:
        """Every endpoint that is probed, by upstream and address."""
        now = self._clocks.now()
        return [
            EndpointView(
                upstream,
                one.name,
                healthy=one.verdict.healthy,
                ejected=one.verdict.ejected(now),
                successes=one.verdict.successes,
                failures=one.verdict.failures,
                said=one.said,
            )
            for upstream, subjects in sorted(self._subjects.items())
            for _, one in sorted(subjects.items())
        ]

    def numbers(self) -> HealthNumbers:
        """For metrics."""
        subjects = [one for subjects in self._subjects.values() for one in subjects.values()]
        unhealthy = sum(not one.verdict.healthy for one in subjects)
        return HealthNumbers(len(subjects), unhealthy, tuple(sorted(self._results.items())))


def _asks(wire: bytes | None) -> bool:
    """Whether an encoded upstream has health checks. Most have none, and decoding them all takes time."""
    return wire is not None and b"health_check" in wire
