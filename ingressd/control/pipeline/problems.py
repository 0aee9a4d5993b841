"""Problems are said once: a line when one appears, a line when it goes away."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from ingressd.model.problem import Problem

News = Callable[[list[Problem], list[Problem]], None]

LINES_AT_ONCE = 100
"""More news than this in one go end in a count, so that one bad class in a big cluster floods no log."""


class ProblemBoard:
    """The problems of this moment, gathered from whoever finds them: sources, translation, workers, the supervisor."""

    def __init__(self, log: logging.Logger, *, news: News = lambda appeared, gone: None) -> None:
        """`news` hears what is new and what is gone, each time something is."""
        self._log = log
        self._news = news
        self._by_finder: dict[str, tuple[Problem, ...]] = {}
        self._current: frozenset[Problem] = frozenset()

    def put(self, finders: Mapping[str, Iterable[Problem]]) -> None:
        """Replace all that each of these finders said before, and log what is new or gone."""
        before = self._by_finder
        self._by_finder = {**before, **{finder: tuple(problems) for finder, problems in finders.items()}}
        if self._by_finder == before:
            return
        current = frozenset(problem for problems in self._by_finder.values() for problem in problems)
        if current == self._current:
            return
        appeared, gone = sorted(current - self._current), sorted(self._current - current)
        self._current = current
        self._news(appeared, gone)
        for problem in appeared[:LINES_AT_ONCE]:
            level = logging.ERROR if problem.severity == "error" else logging.WARNING
            self._log.log(level, "%s", problem, extra={"object": str(problem.origin), "reason": problem.reason})
        for problem in gone[:LINES_AT_ONCE]:
            self._log.info("resolved: %s", problem, extra={"object": str(problem.origin), "reason": problem.reason})
        for news, what in ((appeared, "problems"), (gone, "resolved problems")):
            if len(news) > LINES_AT_ONCE:
                self._log.warning("and %d more %s", len(news) - LINES_AT_ONCE, what)

    def all(self) -> list[Problem]:
        """All problems in order."""
        return sorted(self._current)
