"""A loop that is held is noticed, whenever that begins."""

import pytest

from ingressd.observe.stalls import LOOK_S, STALL_S, LoopWatch, Stalls


class Loop:
    """Calls what is due when it is not held."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list = []

    def call_later(self, delay_s, callback):
        timer = [self.now + delay_s, callback]
        self.timers.append(timer)
        return self

    def cancel(self):
        self.timers.clear()

    def run_until(self, at):
        while self.timers and self.timers[0][0] <= at:
            due, callback = self.timers.pop(0)
            self.now = max(self.now, due)
            callback()
        self.now = max(self.now, at)

    def hold(self, seconds):
        """The loop is busy with something else."""
        self.now += seconds


@pytest.fixture
def loop():
    return Loop()


@pytest.mark.parametrize("into_s", [0.0, LOOK_S / 3, LOOK_S * 0.99])
def test_a_stall_counts_once_whenever_it_begins(loop, into_s):
    watch = LoopWatch(lambda: loop.now, loop.call_later)
    loop.run_until(1.0 + into_s)
    loop.hold(STALL_S + LOOK_S)
    loop.run_until(2.0)
    assert watch.stalls.times == 1
    assert STALL_S <= watch.stalls.worst_s <= STALL_S + LOOK_S


def test_delays_below_the_limit_are_no_stalls_but_the_worst_is_known(loop):
    heard = []
    watch = LoopWatch(lambda: loop.now, loop.call_later, late=heard.append)
    loop.run_until(1.0)
    loop.hold(0.045)
    loop.run_until(1.0 + 0.2)
    assert watch.stalls == Stalls(0, pytest.approx(max(heard)))
    assert 0.02 <= watch.stalls.worst_s <= 0.045
    watch.forget()
    loop.run_until(2.0)
    assert watch.stalls.worst_s == pytest.approx(0.0, abs=1e-9)


def test_it_ends(loop):
    watch = LoopWatch(lambda: loop.now, loop.call_later)
    watch.close()
    assert loop.timers == []


def test_it_goes_on_when_whoever_hears_of_it_breaks(loop):
    """Overload ends by what is heard here: it would last for ever."""
    heard = []

    def late(lag_s):
        heard.append(lag_s)
        raise ZeroDivisionError

    LoopWatch(lambda: loop.now, loop.call_later, late=late)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            loop.run_until(loop.now + 2 * LOOK_S)
    assert len(heard) == 2
