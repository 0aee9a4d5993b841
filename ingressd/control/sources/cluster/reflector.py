"""One kind in one namespace, listed and then watched, for ever."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from ingressd.control.objects.event import ObjectKey
from ingressd.control.sources.cluster.api import ApiError, ApiServer
from ingressd.control.sources.cluster.kinds import Scope
from ingressd.control.sources.cluster.patience import Patience
from ingressd.control.sources.cluster.wire import (
    LIST_ACCEPT,
    METADATA_ACCEPT,
    METADATA_LIST_ACCEPT,
    Event,
    Head,
    Lines,
    decode_head,
    decode_page,
    refusal,
)

PAGE: Final = 500
WHOLE_AFTER: Final = 2
"""After so many lists whose `continue` expired on the way, the next is asked for without pages."""
LIST_TIMEOUT_S: Final = 20.0
WATCH_LEAST_S: Final = 300.0
WATCH_MOST_S: Final = 600.0
"""How long a watch may last; by chance, so that the watches of many controllers do not end at once."""
MARGIN_S: Final = 30.0
SILENCE_S: Final = 150.0
"""A watch that has sent bookmarks (an API server does about once a minute) and then nothing for so long is dead."""
SETTLED_S: Final = 2.0
"""A watch that has been open for so long without an error works, although nothing has come."""
SPREAD_S: Final = 0.3
"""When an API server is back, watches begin again within so many seconds, by chance."""
TRUST: Final = 3
"""After so many answers in a row that refuse a watch from a version, the kind is listed again …"""
BLAMELESS: Final = (401, 403, 429, 500, 502, 503)
"""… unless they are of these, which say nothing about the version."""
STUCK_S: Final = 5.0
"""How long an API server must have been away before a list that it was asked for meanwhile is given up."""

log = logging.getLogger("ingressd.cluster")


class Receiver(Protocol):
    """Who takes what a reflector hears."""

    def put(self, key: ObjectKey, version: str, raw: msgspec.Raw) -> None:
        """An object is new, or at another version."""

    def gone(self, key: ObjectKey) -> None:
        """An object is no longer there."""

    def listed(self, scope: Scope) -> None:
        """Everything there is has been put, and what is no longer there is gone."""


class Reflector:
    """Keeps `receiver` in step with the API server.

    Of each object it keeps the key and the version: a list after a gap is compared with them, so that what did not
    change costs nothing and what was deleted meanwhile is found. `random` is from 0 to 1.
    """

    def __init__(
        self,
        scope: Scope,
        api: ApiServer,
        receiver: Receiver,
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self.scope = scope
        self.known: dict[ObjectKey, str] = {}
        self.listed = False
        """Whether everything was seen once."""
        self.trouble: ApiError | None = None
        """Why it is not in step now, once that is more than a passing thing."""
        self.restarts: Counter[str] = Counter()
        self.lists: Counter[str] = Counter()
        self._in_step_s: float | None = None
        self._open_s: float | None = None
        self._heard_s = clock()
        self._bookmarked = False
        self._version = ""
        self._relist = "first"
        self._api = api
        self._receiver = receiver
        self._clock = clock
        self._random = random
        self._changed = changed
        self._patience = Patience(random)
        self._expired = 0
        self._wake = asyncio.Event()
        self._round: asyncio.Timeout | None = None
        self._cut = ""

    # ------------------------------------------------------------------ life
    async def run(self) -> None:
        """Until cancelled."""
        while True:
            wait_s = await self._live()
            if wait_s:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    # Not wait_for, which before Python 3.12 may swallow a cancellation.
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
                    await asyncio.sleep(SPREAD_S * self._random())

    async def _live(self) -> float:
        """List if need be and watch, until the watch ends; how long to wait before the next."""
        try:
            async with asyncio.timeout(None) as self._round:
                if not self._version:
                    await self._list()
                await self._watch()
        except ApiError as error:
            return self._failed(error)
        except TimeoutError:
            self.restarts[self._cut] += 1
            return SPREAD_S * self._random()
        finally:
            self._round = self._open_s = None
        self.restarts["ended"] += 1
        return 0.0

    def cut(self, reason: str) -> None:
        """Begin again: what runs now is not believed any more."""
        if self._round is not None and not self._round.expired():
            self._cut = reason
            self._round.reschedule(asyncio.get_running_loop().time())

    def returned(self, unanswered_s: float, away_s: float) -> None:
        """The API server is back, which was away for so long: whatever has heard nothing since it last failed to answer
        begins again.

        A list may only be slow, and an overloaded server must not be asked for the same over and over again.
        """
        if self._round is None:
            self._wake.set()
        elif self._heard_s < unanswered_s and (self._open_s is not None or away_s >= STUCK_S):
            self.cut("returned")

    def look(self, now_s: float) -> None:
        """Now and then: is the watch well?"""
        if self._open_s is None:
            return
        if now_s - self._open_s >= SETTLED_S:
            self._well()
        if self._bookmarked and now_s - self._heard_s > SILENCE_S:
            self.cut("silent")

    # ------------------------------------------------------------------ how far behind
    def seeded(self, in_step_s: float) -> None:
        """What is known is from before a restart, and was in step then."""
        if self._in_step_s is None:
            self._in_step_s = in_step_s

    def answered(self, asked_s: float) -> None:
        """The API server answered something that was asked then: a watch that was open had missed nothing."""
        if self._open_s is not None and self._open_s <= asked_s and self._in_step_s is not None:
            self._in_step_s = max(self._in_step_s, asked_s)

    def age_s(self, now_s: float) -> float | None:
        """How long ago this was last known to be in step, None when it never was."""
        return None if self._in_step_s is None else max(0.0, now_s - self._in_step_s)

    @property
    def refused(self) -> bool:
        """Whether the API server has said that we may not read this, or that it does not have it."""
        return self.trouble is not None and self.trouble.status in (403, 404)

    # ------------------------------------------------------------------ listing
    async def _list(self) -> None:
        """Everything, page by page, compared with what is known."""
        reason, began_s = self._relist, self._clock()
        seen: set[ObjectKey] = set()
        token, expired = "", 0
        while True:
            query = {"labelSelector": self.scope.selector} if self.scope.selector else {}
            if expired < WHOLE_AFTER:
                query["limit"] = str(PAGE)
            if token:
                query["continue"] = token
            accept = METADATA_LIST_ACCEPT if self.scope.of.by_reference else LIST_ACCEPT
            try:
                body = await self._api.request(
                    "GET", self.scope.path, query=query, accept=accept, timeout_s=LIST_TIMEOUT_S
                )
            except ApiError as error:
                if error.status != 410 or not token:
                    raise
                token, expired = "", expired + 1
                seen.clear()
                continue
            self._heard_s = self._clock()
            page = decode_page(body)
            for raw in page.items or ():
                seen.add(self._put(decode_head(raw), raw))
            token = page.metadata.continued
            if not token:
                break
        for key in [key for key in self.known if key not in seen]:
            del self.known[key]
            self._receiver.gone(key)
        self._version = page.metadata.resource_version
        self._in_step_s = began_s
        self.lists[reason] += 1
        first, self.listed = not self.listed, True
        if not first:
            log.info("%s: listed again because %s; %d there", self.scope, _WHY.get(reason, reason), len(seen))
        self._receiver.listed(self.scope)
        self._changed()

    def _put(self, head: Head, raw: msgspec.Raw) -> ObjectKey:
        key = ObjectKey(self.scope.of.kind, sys.intern(head.metadata.namespace), head.metadata.name)
        version = head.metadata.resource_version
        if self.known.get(key) != version:
            self.known[key] = version
            self._receiver.put(key, version, raw)
        return key

    # ------------------------------------------------------------------ watching
    async def _watch(self) -> None:
        """Until the server ends it. What breaks off goes on from the last version."""
        lasts_s = WATCH_LEAST_S + (WATCH_MOST_S - WATCH_LEAST_S) * self._random()
        query = {
            "watch": "1",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(lasts_s)),
        }
        if self.scope.selector:
            query["labelSelector"] = self.scope.selector
        accept = METADATA_ACCEPT if self.scope.of.by_reference else LIST_ACCEPT
        lines = Lines()
        began_s = self._clock()
        async with self._api.stream(
            self.scope.path, query=query, accept=accept, timeout_s=lasts_s + MARGIN_S
        ) as stream:
            self._bookmarked = False
            self._open_s = self._heard_s = self._clock()
            while data := await stream.read():
                self._heard_s = self._clock()
                for event in lines.feed(data):
                    self._take(event)
                # Half an event is something that we do not know yet.
                if not lines.begun:
                    self._in_step_s = self._heard_s
                    self._well()
        if self._clock() - began_s < 1.0:
            raise ApiError(0, "Closed", "the watch ended as soon as it began")

    def _take(self, event: Event) -> None:
        if event.type == "ERROR":
            raise refusal(event)
        head = decode_head(event.object)
        version = head.metadata.resource_version
        if _is_before(version, self._version):
            # An etcd put back from a backup: the watch would be silent until its versions reach ours.
            raise ApiError(410, "Rewound", f"version {version} came after version {self._version}")
        if event.type in ("ADDED", "MODIFIED"):
            self._put(head, event.object)
        elif event.type == "DELETED":
            key = ObjectKey(self.scope.of.kind, head.metadata.namespace, head.metadata.name)
            if self.known.pop(key, None) is not None:
                self._receiver.gone(key)
        elif event.type == "BOOKMARK":
            self._bookmarked = True
        self._version = version

    # ------------------------------------------------------------------ trouble
    def _failed(self, error: ApiError) -> float:
        wait_s = self._patience.failed(error, passing=True)
        failures = self._patience.failures
        self._expired = self._expired + 1 if error.status == 410 else 0
        watching = bool(self._version)
        self.restarts["expired" if error.status == 410 else "refused" if error.status else "broken"] += 1
        if watching:
            if error.status == 410:
                self._version, self._relist = "", "rewound" if error.reason == "Rewound" else "expired"
                # At once, also when it is what a server says that was away; not when it says it again and again.
                wait_s = 0.0 if self._expired == 1 else wait_s
            elif error.status and error.status not in BLAMELESS and failures >= TRUST:
                self._version, self._relist = "", "refused"
        # A watch that breaks off is everyday's business, unless the next does not work either.
        if failures > 1 or not watching or error.status in (401, 403, 404):
            self._note(error)
        return wait_s

    def _note(self, error: ApiError) -> None:
        before, self.trouble = self.trouble, error
        if before is None:
            log.warning("%s: %s; asking again until it works", self.scope, error)
        if before is None or (before.status, before.reason) != (error.status, error.reason):
            self._changed()
        else:
            self.trouble = before  # Messages may name ports and times, and would be news each time.

    def _well(self) -> None:
        self._patience.succeeded()
        self._expired = 0
        if self.trouble is not None:
            self.trouble = None
            log.info("%s: in step again", self.scope)
            self._changed()


_WHY: Final = {
    "expired": "the version that we had was too old to watch from",
    "rewound": "the API server went back to an older state",
    "refused": "the watch was refused again and again",
}


def _is_before(version: str, known: str) -> bool:
    """Whether a resourceVersion is older. Comparable since Kubernetes 1.35 says so, and numbers of one etcd before."""
    return version.isdecimal() and known.isdecimal() and int(version) < int(known)
