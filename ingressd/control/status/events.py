"""Problems and changes as Events on the objects they concern, for `kubectl describe`.

Events of core/v1, as most of the field writes them: `kubectl describe` and `kubectl get events` show count and times of
those. The name of an Event is made from what it says and of which object, so that a leader that comes after us, or we
ourselves after a restart, find what was said already and count on.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import quote

import msgspec

from ingressd.control.objects.decode import KINDS
from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import KubernetesObject
from ingressd.control.sources.cluster.api import ApiError
from ingressd.control.status.complaints import Complaints
from ingressd.control.status.event_rules import REPEAT_S, EventRules, Saying
from ingressd.model.problem import Problem

TIMEOUT_S: Final = 10.0
LAST_HOLD_S: Final = 60.0
MESSAGE_BYTES: Final = 1024
"""What the API takes in an Event's message (events.k8s.io/v1, `note`)."""
COMPONENT: Final = "ingressd"
_REMEMBERED: Final = 4096

log = logging.getLogger("ingressd.events")


class Api(Protocol):
    """What we need of `sources.cluster.api.ApiServer`."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str = "application/json",
        timeout_s: float = 30.0,
    ) -> bytes:
        """The body of the answer. Raises ApiError."""


class Reporter(NamedTuple):
    """Who speaks: the controller's name and this instance of it, the pod."""

    controller: str
    instance: str


class _Said(msgspec.Struct, rename="camel"):
    """What we read of an Event."""

    count: int | None = None
    last_timestamp: datetime.datetime | None = None


class EventWriter:
    """One Event at a time, only as leader. `current` finds an object as the cluster has it, if it does.

    `wall` is seconds since 1970. What could not be said is counted in `failed`, what had no room in `rules.dropped`.
    """

    def __init__(
        self,
        api: Api,
        *,
        current: Callable[[ObjectKey], KubernetesObject | None],
        leads: Callable[[], bool],
        clock: Callable[[], float],
        wall: Callable[[], float],
        reporter: Reporter,
    ) -> None:
        self._api = api
        self._current = current
        self._leads = leads
        self._clock = clock
        self._wall = wall
        self._reporter = reporter
        self._wake = asyncio.Event()
        self._counts: dict[str, int] = {}
        self._failures = 0
        self._complaints = Complaints(log, clock)
        self.rules = EventRules()
        self.sent = self.failed = 0

    # ------------------------------------------------------------------ what is heard
    def problems(self, appeared: Iterable[Problem], gone: Iterable[Problem]) -> None:
        """Problems that are new, and those that are no more."""
        for problem in gone:
            self.rules.end(_warning(problem))
        for problem in appeared:
            if problem.origin.kind in KINDS:
                self.rules.begin(_warning(problem), self._clock())
                self._wake.set()

    def synced(self, keys: Iterable[ObjectKey]) -> None:
        """Every worker serves what these Ingresses say now. Reason and words are those of ingress-nginx."""
        if self._leads():
            for key in keys:
                self.rules.once(Saying(key, "Normal", "Sync", "", "Scheduled for sync"), self._clock())
                self._wake.set()

    def leading(self, leads: bool) -> None:
        """We begin to lead, or end."""
        if leads:
            self._wake.set()
        else:
            self.rules.drop_queued()

    # ------------------------------------------------------------------ life
    async def run(self) -> None:
        """Until cancelled."""
        while True:
            taken = self.rules.take(self._clock()) if self._leads() else None
            pause_s = await self._say(taken) if isinstance(taken, Saying) else taken
            if pause_s != 0.0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause_s)
                self._wake.clear()

    async def _say(self, saying: Saying) -> float:
        """Say it; how long to rest then."""
        try:
            if await self._send(saying):
                self.sent += 1
        except ApiError as error:
            self.failed += 1
            self.rules.failed(saying, self._clock())
            what = f"{error.status} {error.reason}"
            self._complaints.say(what, f"an Event on {saying.subject} cannot be written: {error}")
            if error.status in (400, 404, 409, 422):
                return 0.0  # It is about this one alone.
            self._failures += 1
            self.rules.drop_queued()
            return max(min(LAST_HOLD_S, 2.0 ** min(self._failures, 16)), error.retry_after_s or 0.0)
        self._failures = 0
        self.rules.said(saying, self._clock())
        return 0.0

    # ------------------------------------------------------------------ one Event
    async def _send(self, saying: Saying) -> bool:
        """Whether it had to be said: there is such an object, and nobody else said so lately."""
        found = self._current(saying.subject)
        if found is None or not found.metadata.uid:
            return False
        name = event_name(saying, found.metadata.uid)
        namespace = saying.subject.namespace or "default"
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/events"
        if name not in self._counts:
            try:
                await self._request("POST", path, self._event(saying, found, name=name, namespace=namespace))
            except ApiError as error:
                if error.status != 409:
                    raise
            else:
                self._remember(name, 1)
                return True
            # The answer to a patch of nothing is the Event: our role need not allow to read all Events.
            before = _decoded(await self._request("PATCH", f"{path}/{name}", {}))
            self._remember(name, before.count or 1)
            if self.rules.lasts(saying) and self._age_s(before) < REPEAT_S:
                return False
        count = self._counts[name] + 1
        try:
            await self._request("PATCH", f"{path}/{name}", {"count": count, "lastTimestamp": self._moment()})
        except ApiError as error:
            if error.status != 404:
                raise
            # Kubernetes has forgotten it.
            await self._request("POST", path, self._event(saying, found, name=name, namespace=namespace))
            count = 1
        self._remember(name, count)
        return True

    async def _request(self, method: str, path: str, body: dict[str, Any]) -> bytes:
        return await self._api.request(
            method,
            path,
            body=msgspec.json.encode(body),
            content_type="application/json" if method == "POST" else "application/merge-patch+json",
            timeout_s=TIMEOUT_S,
        )

    def _event(self, saying: Saying, found: KubernetesObject, *, name: str, namespace: str) -> dict[str, Any]:
        subject = saying.subject
        now = self._moment()
        # No `fieldPath`: `kubectl describe` would say the field a second time, and `kubectl get events` not at all.
        about = {
            "apiVersion": KINDS[subject.kind].api_version,
            "kind": subject.kind,
            "name": subject.name,
            "uid": found.metadata.uid,
            "resourceVersion": found.metadata.resource_version,
        }
        about |= {"namespace": subject.namespace} if subject.namespace else {}
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": about,
            "type": saying.type,
            "reason": saying.reason,
            "message": _cut(f"{saying.field}: {saying.message}" if saying.field else saying.message),
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": COMPONENT},
            "reportingComponent": self._reporter.controller,
            "reportingInstance": self._reporter.instance,
        }

    def _remember(self, name: str, count: int) -> None:
        self._counts.pop(name, None)
        self._counts[name] = count
        if len(self._counts) > _REMEMBERED:
            del self._counts[next(iter(self._counts))]

    def _age_s(self, said: _Said) -> float:
        return self._wall() - said.last_timestamp.timestamp() if said.last_timestamp is not None else REPEAT_S

    def _moment(self) -> str:
        return datetime.datetime.fromtimestamp(self._wall(), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def event_name(saying: Saying, uid: str) -> str:
    """The same for the same words about the same object, whoever says them."""
    digest = hashlib.sha256("\0".join((uid, *map(str, saying))).encode()).hexdigest()[:16]
    return f"{saying.subject.name[:200].rstrip('.-')}.{digest}"


def _warning(problem: Problem) -> Saying:
    origin = problem.origin
    subject = ObjectKey(origin.kind, origin.namespace, origin.name)
    return Saying(subject, "Warning", problem.reason, problem.field or origin.rule, problem.message)


def _cut(text: str) -> str:
    encoded = text.encode()
    return text if len(encoded) <= MESSAGE_BYTES else encoded[: MESSAGE_BYTES - 3].decode(errors="ignore") + "…"


def _decoded(body: bytes) -> _Said:
    try:
        return msgspec.json.decode(body, type=_Said)
    except msgspec.DecodeError:
        return _Said()
