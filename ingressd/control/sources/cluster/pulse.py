"""Whether the API server is there at all, asked when it says nothing.

A watch without changes is silent, and so is one whose server, or the way to it, is gone without a word: over HTTP/1.1
nothing else can be heard on it. So a small request goes beside them. When none is answered the server is away; when one
is answered again, whatever was silent since is begun anew, at once and not when its own deadline comes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from ingressd.control.sources.cluster.api import ApiError, ApiServer

PATH: Final = "/version"
REST_S: Final = 3.0
AWAY_REST_S: Final = 0.5
TIMEOUT_S: Final = 2.0
NOT_THERE: Final = (0, 502, 503, 504)
"""Answers of whatever stands before a server that is away; any other is the server's own, a refusal too."""

log = logging.getLogger("ingressd.cluster")


class Follower(Protocol):
    """Who wants to hear of it."""

    def answered(self, asked_s: float) -> None:
        """A request made then was answered."""

    def returned(self, unanswered_s: float, away_s: float) -> None:
        """The server answers again, which last failed to then, and was away for so long."""

    def look(self, now_s: float) -> None:
        """Time has passed."""


class Pulse:
    """Asks every three seconds, twice a second while the server is away."""

    def __init__(
        self,
        api: ApiServer,
        followers: Iterable[Follower],
        *,
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self.away: ApiError | None = None
        """Why the server is believed to be away."""
        self._api = api
        self._followers = tuple(followers)
        self._clock = clock
        self._changed = changed
        self._away_since_s = 0.0
        self._unanswered_s = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.step()
            await asyncio.sleep(REST_S if self.away is None else AWAY_REST_S)

    async def step(self) -> None:
        """Ask once, and tell."""
        asked_s = self._clock()
        try:
            await self._api.request("GET", PATH, timeout_s=TIMEOUT_S)
        except ApiError as error:
            if error.status in NOT_THERE:
                self._unanswered(error, asked_s)
                return
        self._answered(asked_s)

    def _unanswered(self, error: ApiError, asked_s: float) -> None:
        self._unanswered_s = self._clock()
        if self.away is None:
            self.away, self._away_since_s = error, asked_s
            self._api.renew()
            log.warning("the API server does not answer: %s; what is known goes on serving", error)
            self._changed()

    def _answered(self, asked_s: float) -> None:
        if self.away is not None:
            away_s = self._clock() - self._away_since_s
            log.info("the API server answers again, after %.1f s", away_s)
            self.away = None
            for follower in self._followers:
                follower.returned(self._unanswered_s, away_s)
            self._changed()
        now_s = self._clock()
        for follower in self._followers:
            follower.answered(asked_s)
            follower.look(now_s)
