"""Where a problem stands: from the object it names to file and line."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from ingressd.control.objects.event import ObjectKey, Position, key_of_origin
from ingressd.model.problem import Problem

PositionOf = Callable[[ObjectKey], Position | None]
Locate = Callable[[Position, str], tuple[str, int]]


class Places:
    """Adds file and line to problems, and remembers the answer as long as the object stays where it is."""

    def __init__(self, position_of: PositionOf, locate: Locate) -> None:
        self._position_of = position_of
        self._locate = locate
        self._known: dict[tuple[Problem, Position], Problem] = {}

    def add(self, problems: Iterable[Problem]) -> list[Problem]:
        """The same problems with their places, as far as they are known."""
        known: dict[tuple[Problem, Position], Problem] = {}
        placed = []
        for problem in problems:
            position = None if problem.file else self._position_of(key_of_origin(problem.origin))
            if position is None:
                placed.append(problem)
                continue
            answer = self._known.get((problem, position))
            if answer is None:
                file, line = self._locate(position, problem.field)
                answer = msgspec.structs.replace(problem, file=file, line=line)
            known[problem, position] = answer
            placed.append(answer)
        self._known = known
        return placed
