"""Deadlines on a clock that is moved by hand."""

from __future__ import annotations

import pytest

from ingressd.proxy.runtime.wheel import TICK_S, TimerWheel


class Timed:
    """Notes when it was woken."""

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.wheel_slot = -1
        self.wheel_at_s = 0.0
        self.woken: list[float] = []
        self.then: object = None

    def on_deadline(self, now: float) -> None:
        self.woken.append(now)
        if callable(self.then):
            self.then()


def run(wheel: TimerWheel, start: float, seconds: float) -> None:
    for tick in range(1, round(seconds / TICK_S) + 1):
        wheel.advance(start + tick * TICK_S)


def test_never_early_and_within_two_ticks() -> None:
    wheel = TimerWheel(100.0)
    timed = [Timed(100.0 + after) for after in (0.01, 0.1, 0.95, 3.3, 60.0, 300.0)]
    for one in timed:
        wheel.schedule(one)
    run(wheel, 100.0, 301.0)
    for one in timed:
        (woken,) = one.woken
        assert one.deadline_s <= woken <= one.deadline_s + 2 * TICK_S


def test_a_deadline_that_moves_away_costs_no_wake_up() -> None:
    wheel = TimerWheel(0.0)
    one = Timed(1.0)
    wheel.schedule(one)
    one.deadline_s = 5.0
    wheel.schedule(one)
    run(wheel, 0.0, 4.5)
    assert one.woken == []
    run(wheel, 4.5, 1.0)
    assert len(one.woken) == 1


def test_a_deadline_that_moves_nearer_is_met() -> None:
    wheel = TimerWheel(0.0)
    one = Timed(70.0)
    wheel.schedule(one)
    one.deadline_s = 2.0
    wheel.schedule(one)
    run(wheel, 0.0, 3.0)
    assert len(one.woken) == 1


def test_removed_means_never_even_by_one_of_the_same_slot() -> None:
    wheel = TimerWheel(0.0)
    first, second = Timed(1.0), Timed(1.0)
    first.then = lambda: wheel.remove(second)
    wheel.schedule(first)
    wheel.schedule(second)
    run(wheel, 0.0, 2.0)
    assert len(first.woken) == 1
    assert second.woken == []


def test_a_loop_that_was_late_wakes_everything_once() -> None:
    wheel = TimerWheel(0.0)
    timed = [Timed(at / 10) for at in range(1, 50)]
    for one in timed:
        wheel.schedule(one)
    wheel.advance(500.0)
    assert all(len(one.woken) == 1 for one in timed)


def test_a_failure_of_one_costs_the_others_nothing() -> None:
    """A connection whose time-out cannot be dealt with must not leave those of its slot without any, for good."""
    wheel = TimerWheel(0.0)
    before, broken, behind = Timed(1.0), Timed(1.0), Timed(1.0)

    def fail() -> None:
        raise ZeroDivisionError

    broken.then = fail
    for one in (before, broken, behind):
        wheel.schedule(one)
    with pytest.raises(ZeroDivisionError):
        run(wheel, 0.0, 2.0)
    assert [len(one.woken) for one in (before, broken, behind)] == [1, 1, 1]
    behind.deadline_s = 3.0
    wheel.schedule(behind)
    run(wheel, 2.0, 2.0)
    assert len(behind.woken) == 2
