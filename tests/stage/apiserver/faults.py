"""What can be wrong with the server. A fault is one of these values; where it strikes, `FakeApiServer.fault` says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Refuse:
    """Nothing listens: running connections are reset, new ones refused (with a path prefix: reset once it was read)."""


@dataclass(frozen=True)
class BlackHole:
    """Nothing is answered any more, and running watches fall silent; connections stay open.

    What was asked during the fault is never answered, not even when it ends, as when a router lost its state.
    """


@dataclass(frozen=True)
class Answer:
    """Every request is answered with this status, and running watches are reset."""

    code: int
    retry_after_s: int = 0
    message: str = "injected"


@dataclass(frozen=True)
class Truncate:
    """The next event of a watch, and the body of every other answer, end in the middle, with a reset."""


@dataclass(frozen=True)
class Slow:
    """Bodies of answers and watch events come in pieces of this size with a pause before each."""

    piece_bytes: int = 64
    pause_s: float = 0.01


Fault = Refuse | BlackHole | Answer | Truncate | Slow


@dataclass(eq=False)
class Strike:
    """A fault that is switched on. `times` counts down; None has no end."""

    fault: Fault
    prefix: str = "/"
    verbs: frozenset[str] = frozenset()
    times: int | None = None

    def hits(self, path: str, verb: str) -> bool:
        """Does it concern such a request?"""
        if self.times == 0 or not path.startswith(self.prefix):
            return False
        return not self.verbs or verb in self.verbs


@dataclass
class Faults:
    """The faults that are switched on; the first that fits a request strikes it."""

    active: list[Strike] = field(default_factory=list)

    def take(self, path: str, verb: str) -> Fault | None:
        """The fault that strikes this request (or this event of a watch), counted."""
        for strike in self.active:
            if strike.hits(path, verb):
                if strike.times is not None:
                    strike.times -= 1
                return strike.fault
        return None

    def refusing_all(self) -> bool:
        """Is there nobody listening at all?"""
        return any(isinstance(one.fault, Refuse) and one.prefix == "/" and not one.verbs for one in self.active)

    def __iter__(self) -> Iterator[Strike]:
        return iter(self.active)
