"""What probes make of an endpoint, and where workers read it: cells of the controller's column of the shared table.

A verdict "unhealthy" is a lease: it is written as the moment at which it ends unless it is renewed, so no controller
that is gone or stuck keeps an endpoint out for ever. A new controller finds it there and goes on from it.
"""

from __future__ import annotations

from typing import Final

from ingressd.observe.shared_table import EJECTED_UNTIL_MS, GOOD_AT_US, SharedTable
from ingressd.settings.config import HealthCheck

LEASE_INTERVALS: Final = 3
"""A verdict ends when so many intervals have brought nothing new …"""
LEASE_MIN_S: Final = 10.0
"""… but not before: a controller may be busy."""
HOLD_S: Final = 1.0
"""Added to a time-out: until then an endpoint that workers eject stays out while it is probed."""


class Verdict:
    """The verdict on one endpoint of one upstream, which is what owns a slot. Times are monotonic seconds."""

    __slots__ = ("_cells", "_column", "_last_s", "_slot", "_table", "check", "failures", "healthy", "successes")

    def __init__(self, table: SharedTable, slot: int, check: HealthCheck, now: float) -> None:
        """An endpoint that nobody has said anything about is healthy."""
        self._table = table
        self._slot = slot
        self._cells = table.base(slot)
        self._column = table.controller_column()
        self.check = check
        self.successes = 0
        self.failures = 0
        self._last_s = now
        self.healthy = self._column[self._cells + EJECTED_UNTIL_MS] <= now * 1000

    def ejected(self, now: float) -> bool:
        """Whether some worker ejects it."""
        return self._table.ejects(self._slot, now)

    def succeeded(self, now: float) -> bool:
        """A probe was answered as expected; whether that lets the endpoint back, whoever kept it out."""
        self.failures = 0
        self.successes += 1
        if not self.healthy and self.successes < self.check.healthy_threshold:
            self._renew(now)
            self._last_s = now
            return False
        self._last_s = now
        kept_out = not self.healthy or self._in_doubt(now)
        self.healthy = True
        self._column[self._cells + EJECTED_UNTIL_MS] = 0
        if kept_out:
            self._column[self._cells + GOOD_AT_US] = int(now * 1e6)
        return kept_out

    def failed(self, now: float) -> bool:
        """A probe failed; whether that makes the endpoint unhealthy. Where workers eject it, one is enough."""
        self.successes = 0
        self.failures += 1
        news = self.healthy and (self.failures >= self.check.unhealthy_threshold or self._in_doubt(now))
        if news:
            self.healthy = False
        if not self.healthy:
            self._renew(now)
        self._last_s = now
        return news

    def hold(self, until: float) -> None:
        """Workers eject it: it stays out until a probe that begins before `until` has said more."""
        if self.healthy:
            self._column[self._cells + EJECTED_UNTIL_MS] = int((until + self.check.timeout_s + HOLD_S) * 1000)

    def forget(self) -> None:
        """It is probed no more."""
        self._column[self._cells + EJECTED_UNTIL_MS] = 0

    def _in_doubt(self, now: float) -> bool:
        """Whether workers eject it, or did when it was last looked at."""
        return self._column[self._cells + EJECTED_UNTIL_MS] > now * 1000 or self.ejected(now)

    def _renew(self, now: float) -> None:
        # With very many endpoints, intervals are longer than was asked for.
        interval_s = max(self.check.interval_s, now - self._last_s)
        lease_s = max(LEASE_INTERVALS * interval_s, LEASE_MIN_S) + self.check.timeout_s
        self._column[self._cells + EJECTED_UNTIL_MS] = int((now + lease_s) * 1000)
