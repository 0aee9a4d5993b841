"""Where a problem stands: from the object it names to file and line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from ingressd.control.objects.event import ObjectKey, Position, key_of_origin
from ingressd.model.problem import Problem

PositionOf = Callable[[ObjectKey], Position | None]
Locate = Callable[[Position, Sequence[str]], list[int]]
"""The lines of some fields of one object."""


class Places:
    """Adds file and line to problems, and remembers the answer as long as the object stays where it is."""

    def __init__(self, position_of: PositionOf, locate: Locate) -> None:
        self._position_of = position_of
        self._locate = locate
        self._known: dict[tuple[Problem, Position], Problem] = {}

    def add(self, problems: Iterable[Problem]) -> list[Problem]:
        """The same problems with their places, as far as they are known."""
        pairs = [
            (problem, None if problem.file else self._position_of(key_of_origin(problem.origin)))
            for problem in problems
        ]
        new: dict[Position, list[Problem]] = {}
        known: dict[tuple[Problem, Position], Problem] = {}
        for problem, position in pairs:
            if position is not None:
                answer = self._known.get((problem, position))
                if answer is None:
                    new.setdefault(position, []).append(problem)
                else:
                    known[problem, position] = answer
        for position, here in new.items():
            for problem, answer in zip(here, with_lines(here, position, self._locate), strict=True):
                known[problem, position] = answer
        self._known = known
        return [problem if position is None else known[problem, position] for problem, position in pairs]


def with_lines(problems: Sequence[Problem], position: Position, locate: Locate) -> list[Problem]:
    """The problems of the object at `position` with file and line. One look for all: an object may have thousands."""
    lines = locate(position, [problem.field for problem in problems])
    return [
        msgspec.structs.replace(problem, file=position.file, line=line)
        for problem, line in zip(problems, lines, strict=True)
    ]
