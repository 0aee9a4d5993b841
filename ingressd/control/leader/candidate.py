"""One replica in the election: asks what `election` says, and tells when we begin or end to lead."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import msgspec

from ingressd.control.leader.election import (
    RENEW_PART,
    Answer,
    Create,
    Election,
    Failed,
    Found,
    Lease,
    Read,
    Refused,
    Request,
    Update,
    Wait,
)
from ingressd.control.sources.cluster.api import ApiError

log = logging.getLogger("ingressd.leader")

_SAY_AGAIN_S: Final = 300.0
"""How often it is said that the Lease cannot be had."""
_LET_GO_TRIES: Final = 3
"""A renewal that was under way when we ended may arrive between our look at the Lease and our release of it."""


class Api(Protocol):
    """What we need of `sources.cluster.api.ApiServer`."""

    async def request(self, method: str, path: str, *, body: bytes | None = None, timeout_s: float = 30.0) -> bytes:
        """The body of the answer. Raises ApiError."""


class Terms(NamedTuple):
    """What is run for: the Lease's name and duration. `name` "" is no election: then we always lead."""

    name: str
    duration_s: float


class Clocks(NamedTuple):
    """`now` is monotonic, `wall` seconds since 1970; `chance` is random in [0, 1)."""

    now: Callable[[], float]
    wall: Callable[[], float]
    chance: Callable[[], float]


class Candidate:
    """Runs for a Lease in `namespace` until cancelled. `changed` hears when we begin (True) or end (False) to lead."""

    def __init__(
        self, api: Api, *, namespace: str, identity: str, clocks: Clocks, changed: Callable[[bool], None]
    ) -> None:
        self._api = api
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._identity = identity
        self._clocks = clocks
        self._changed = changed
        self._terms: Terms | None = None
        self._new_terms = asyncio.Event()
        self._election: Election | None = None
        self._over = False
        self._was_leading = False
        self._said: tuple[str, float] = ("", 0.0)

    # ------------------------------------------------------------------ views
    def leads(self) -> bool:
        """Whether we may write at this moment. Ask again before every write: it ends by itself."""
        if self._over or self._terms is None:
            return False
        if not self._terms.name:
            return True
        return self._election is not None and self._election.leads(self._clocks.now())

    def lease(self) -> str:
        """The Lease's name, "" as long as there is none to run for."""
        return self._terms.name if self._terms is not None else ""

    # ------------------------------------------------------------------ life
    def run_for(self, terms: Terms) -> None:
        """Begin to run, or run for something else from now on: what we led before is let go first."""
        if terms != self._terms:
            self._terms = terms
            self._new_terms.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._new_terms.clear()
            terms = self._terms
            if terms is None or not terms.name:
                self._tell()
                await self._new_terms.wait()
                continue
            self._election = Election(
                terms.name,
                self._identity,
                duration_s=terms.duration_s,
                wall=self._clocks.wall,
                chance=self._clocks.chance,
            )
            while not self._new_terms.is_set():
                await self._step(self._election)
            await self._let_go(self._election)

    async def release(self) -> None:
        """Lead no more, from this moment on, and let the next one begin at once. `run` must have ended."""
        self._over = True
        if self._election is not None:
            await self._let_go(self._election)
        self._tell()

    async def _step(self, election: Election) -> None:
        """One request, or one wait."""
        now_s = self._clocks.now()
        step = election.step(now_s)
        if isinstance(step, Wait):
            # Word of our end comes in time even when it is not the end of the wait.
            lapse_s = election.lapses_s() - now_s
            await self._rest(min(step.seconds, lapse_s) if lapse_s > 0 else step.seconds)
        else:
            answer = await self._ask(election, step)
            election.heard(step, answer, sent_s=now_s, now_s=self._clocks.now())
        self._tell()

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._new_terms.wait(), seconds)

    async def _let_go(self, election: Election) -> None:
        """Read the Lease, and empty it if it is ours. When that fails, others wait until it has run out."""
        self._election = None
        if election.holder() not in ("", self._identity):
            return
        for _ in range(_LET_GO_TRIES):
            read = await self._ask(election, Read())
            given = election.released(read.lease) if isinstance(read, Found) and read.lease is not None else None
            answer = await self._ask(election, given) if given is not None else Failed()
            if isinstance(answer, Found):
                log.info("Lease %s is released", election.name)
            if not isinstance(answer, Refused):
                return

    def _tell(self) -> None:
        leads = self.leads()
        if leads != self._was_leading:
            self._was_leading = leads
            name = self.lease()
            log.info("%s", (f"leading (Lease {name})" if name else "leading") if leads else "no longer leading")
            self._changed(leads)

    # ------------------------------------------------------------------ requests
    async def _ask(self, election: Election, request: Request) -> Answer:
        try:
            body = await self._send(request, name=election.name, timeout_s=election.duration_s * RENEW_PART)
            return Found(msgspec.json.decode(body, type=Lease))
        except ApiError as error:
            if error.status == 404 and isinstance(request, Read):
                return Found(None)
            if error.status == 409 or (error.status == 404 and isinstance(request, Update)):
                return Refused()
            self._say(f"Lease {election.name}: {error}")
            return Failed(error.retry_after_s or 0.0)
        except msgspec.DecodeError as error:
            self._say(f"Lease {election.name}: the answer is no Lease: {error}")
            return Failed()

    async def _send(self, request: Request, *, name: str, timeout_s: float) -> bytes:
        if isinstance(request, Read):
            return await self._api.request("GET", f"{self._path}/{name}", timeout_s=timeout_s)
        body = msgspec.json.encode(request.lease)
        if isinstance(request, Create):
            return await self._api.request("POST", self._path, body=body, timeout_s=timeout_s)
        return await self._api.request("PUT", f"{self._path}/{name}", body=body, timeout_s=timeout_s)

    def _say(self, what: str) -> None:
        """Once, and again after a while."""
        before, at_s = self._said
        now_s = self._clocks.now()
        if what != before or now_s - at_s >= _SAY_AGAIN_S:
            self._said = (what, now_s)
            log.warning("%s", what)
