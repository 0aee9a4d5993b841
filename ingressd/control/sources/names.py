"""When each host name is resolved again, and what it last resolved to. Pure: time is passed in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ingressd.control.sources.resolver import Answer

LEAST_S: Final = 1.0
MOST_S: Final = 3600.0
RETRY_MOST_S: Final = 30.0


class Names:
    """Keyed by host name. A name keeps its last answer while it does not resolve."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self.answers: dict[str, tuple[str, ...]] = {}
        self.errors: dict[str, str] = {}

    def want(self, hosts: Iterable[str], *, now: float) -> None:
        """These and no other names are wanted; new ones are due at once."""
        wanted = set(hosts)
        for host in self._due.keys() - wanted:
            del self._due[host]
            self.answers.pop(host, None)
            self.errors.pop(host, None)
            self._failures.pop(host, None)
        for host in wanted - self._due.keys():
            self._due[host] = now

    def due(self, *, now: float) -> list[str]:
        """The names to resolve now, in order; they are not due again before an answer or a failure is told."""
        hosts = sorted(host for host, at in self._due.items() if at <= now)
        for host in hosts:
            self._due[host] = float("inf")
        return hosts

    def next_due(self) -> float:
        """When the next name is due, infinity for never."""
        return min(self._due.values(), default=float("inf"))

    def answered(self, host: str, answer: Answer, *, now: float) -> bool:
        """Take an answer; whether it changes anything that is shown."""
        if host not in self._due:
            return False
        self._due[host] = now + min(max(answer.ttl_s, LEAST_S), MOST_S)
        self._failures.pop(host, None)
        changed = self.answers.get(host) != answer.addresses or host in self.errors
        self.answers[host] = answer.addresses
        self.errors.pop(host, None)
        return changed

    def failed(self, host: str, message: str, *, now: float) -> bool:
        """Take a failure: the last answer stays; whether it changes anything that is shown."""
        if host not in self._due:
            return False
        failures = self._failures[host] = self._failures.get(host, 0) + 1
        self._due[host] = now + min(LEAST_S * 2.0 ** min(failures - 1, 10), RETRY_MOST_S)
        changed = self.errors.get(host) != message or host not in self.answers
        self.errors[host] = message
        self.answers.setdefault(host, ())
        return changed
