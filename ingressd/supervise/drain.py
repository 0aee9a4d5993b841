"""How far a drain has come, and when what still runs has had its time."""

from __future__ import annotations

from typing import Final

STOP_S: Final = 2.0
"""How long the controller may take to end after the last worker."""
OVERTIME_S: Final = 5.0
"""What workers may take beyond the time-out of a drain before they are killed."""


class Drain:
    """One supervisor's only drain. `grace_s` and `timeout_s` are the policy of the snapshot until it begins."""

    def __init__(self) -> None:
        self.grace_s = 0.0
        self.timeout_s = 0.0
        self.kills = 0
        """Children that did not end by themselves."""
        self._from_s: float | None = None
        self._stop_from_s: float | None = None

    @property
    def began(self) -> bool:
        """Whether nothing new is taken any more, or will not be after the grace period."""
        return self._from_s is not None

    def begin(self, now_s: float, *, least_grace_s: float = 0.0) -> None:
        """From now on."""
        self._from_s = now_s
        self.grace_s = max(self.grace_s, least_grace_s)

    def overdue(self, now_s: float) -> bool:
        """Whether workers have had their time, and more."""
        return self._from_s is not None and now_s >= self._from_s + self.grace_s + self.timeout_s + OVERTIME_S

    def begin_stop(self, now_s: float) -> bool:
        """The workers are gone; whether that is news."""
        news = self._stop_from_s is None
        if news:
            self._stop_from_s = now_s
        return news

    def controller_overdue(self, now_s: float) -> bool:
        """Whether the controller has had its time, too."""
        return self._stop_from_s is not None and now_s >= self._stop_from_s + STOP_S
