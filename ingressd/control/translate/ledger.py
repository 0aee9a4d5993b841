"""All problems of the moment, in order, each said once however many sources say it."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable

from ingressd.model.problem import Problem


class ProblemLedger:
    """Problems by what said them, so that a source can take back what no longer holds without a look at the others.

    Keyed by source: an object's key, or a tuple that names a host, a certificate or an upstream. The source removes its
    entry by saying nothing.
    """

    def __init__(self) -> None:
        self._said: dict[Hashable, tuple[Problem, ...]] = {}
        self._times: dict[Problem, int] = {}
        self._sorted: list[Problem] = []

    def say(self, source: Hashable, problems: tuple[Problem, ...]) -> None:
        """Replace what `source` said before."""
        before = self._said.get(source, ())
        if before == problems:
            return
        for problem in before:
            self._drop(problem)
        for problem in problems:
            self._add(problem)
        if problems:
            self._said[source] = problems
        else:
            del self._said[source]

    def problems(self) -> list[Problem]:
        """Every problem once, in order."""
        return self._sorted.copy()

    def _add(self, problem: Problem) -> None:
        times = self._times.get(problem, 0)
        self._times[problem] = times + 1
        if not times:
            insort(self._sorted, problem)

    def _drop(self, problem: Problem) -> None:
        times = self._times[problem] - 1
        if times:
            self._times[problem] = times
            return
        del self._times[problem]
        del self._sorted[bisect_left(self._sorted, problem)]
