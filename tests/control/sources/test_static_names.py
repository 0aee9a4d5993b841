"""Host names of static endpoints: resolved again by TTL, the last answer kept."""

from ingressd.control.sources.names import Names
from ingressd.control.sources.resolver import Answer


def test_a_name_is_due_again_when_its_ttl_ends():
    names = Names()
    names.want(["a"], now=0)
    assert names.due(now=0) == ["a"]
    assert names.due(now=0) == []
    assert names.answered("a", Answer(("1.1.1.1",), 30), now=1)
    assert names.next_due() == 31
    assert names.due(now=30.9) == []
    assert names.due(now=31) == ["a"]
    assert not names.answered("a", Answer(("1.1.1.1",), 30), now=31)
    assert names.answers == {"a": ("1.1.1.1",)}


def test_ttl_is_at_least_a_second():
    names = Names()
    names.want(["a"], now=0)
    names.due(now=0)
    names.answered("a", Answer(("1.1.1.1",), 0), now=0)
    assert names.next_due() == 1


def test_the_last_answer_is_kept_and_the_failure_told_once():
    names = Names()
    names.want(["a"], now=0)
    names.due(now=0)
    names.answered("a", Answer(("1.1.1.1",), 5), now=0)
    assert names.failed("a", "no such name", now=5)
    assert names.answers == {"a": ("1.1.1.1",)}
    assert not names.failed("a", "no such name", now=6)
    assert names.errors == {"a": "no such name"}
    assert names.answered("a", Answer(("1.1.1.1",), 5), now=7)
    assert names.errors == {}


def test_failures_back_off():
    names = Names()
    names.want(["a"], now=0)
    pauses = []
    for _ in range(7):
        names.due(now=0)
        names.failed("a", "x", now=0)
        pauses.append(names.next_due())
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


def test_names_nobody_wants_are_forgotten():
    names = Names()
    names.want(["a", "b"], now=0)
    names.due(now=0)
    names.answered("a", Answer(("1.1.1.1",), 5), now=0)
    names.want(["b"], now=1)
    assert names.answers == {}
    assert not names.answered("a", Answer(("2.2.2.2",), 5), now=2)
    assert names.answers == {}
