"""A problem is said when it appears and when it goes away, not in between."""

import logging

import pytest

from ingressd.control.pipeline import problems
from ingressd.control.pipeline.problems import ProblemBoard
from ingressd.model.problem import Origin, Problem


def problem(name: str, severity="error") -> Problem:
    return Problem(severity, Origin("Ingress", "shop", name), "Bad", "spec", "is wrong")


@pytest.fixture
def board(caplog):
    caplog.set_level(logging.INFO)
    return ProblemBoard(logging.getLogger("test.problems"))


def said(caplog) -> list[tuple[str, str]]:
    found = [(record.levelname, record.getMessage()) for record in caplog.records]
    caplog.clear()
    return found


def test_each_is_said_once_and_once_more_when_resolved(board, caplog):
    board.put({"translate": [problem("a")]})
    assert said(caplog) == [("ERROR", "error: Ingress shop/a spec: is wrong [Bad]")]
    board.put({"translate": [problem("a"), problem("b", "warning")]})
    assert said(caplog) == [("WARNING", "warning: Ingress shop/b spec: is wrong [Bad]")]
    board.put({"translate": [problem("b", "warning")]})
    assert said(caplog) == [("INFO", "resolved: error: Ingress shop/a spec: is wrong [Bad]")]
    assert board.all() == [problem("b", "warning")]


def test_finders_do_not_touch_each_others_problems(board, caplog):
    board.put({"source": [problem("a")], "translate": [problem("b")]})
    board.put({"source": []})
    assert board.all() == [problem("b")]


def test_a_flood_ends_in_a_count(board, caplog, monkeypatch):
    monkeypatch.setattr(problems, "LINES_AT_ONCE", 2)
    board.put({"translate": [problem(f"i{number}") for number in range(5)]})
    lines = said(caplog)
    assert len(lines) == 3
    assert lines[-1] == ("WARNING", "and 3 more problems")


def test_news_are_what_is_new_and_what_is_gone():
    heard = []
    board = ProblemBoard(logging.getLogger("test.problems"), news=lambda appeared, gone: heard.append((appeared, gone)))
    one = Problem("error", Origin("Ingress", "default", "a"), "InvalidIngress", "spec", "x")
    two = Problem("error", Origin("Ingress", "default", "b"), "InvalidIngress", "spec", "x")
    board.put({"translate": [one]})
    board.put({"translate": [one]})
    board.put({"workers": [one]})  # The same said by another is not new.
    board.put({"translate": [two]})
    assert heard == [([one], []), ([two], [])]
    board.put({"workers": []})
    assert heard[2:] == [([], [one])]
