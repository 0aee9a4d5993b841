"""A hung process is told from one that only waits for CPU."""

import os

import pytest

from ingressd.supervise.pulse import (
    ASLEEP_S,
    BLOCKED_S,
    LONGEST_STEP_S,
    SPINNING_S,
    STARTING_S,
    STOPPED_S,
    ProcessState,
    Pulse,
    read_process_state,
)


class Watched:
    """A pulse that is looked at every quarter of a second of a fake clock."""

    def __init__(self, beat: int = 1) -> None:
        self.now_s = 100.0
        self.pulse = Pulse(self.now_s)
        self.cpu_s = 0.0
        if beat:
            assert not self.pulse.is_silent(self.now_s, beat)
        self.beat = beat

    def silence(self, seconds: float, state: str, *, cpu_share: float = 0.0) -> str | None:
        """The first verdict within so many seconds without a beat."""
        for _ in range(round(seconds / 0.25)):
            self.now_s += 0.25
            self.cpu_s += 0.25 * cpu_share
            assert self.pulse.is_silent(self.now_s, self.beat)
            verdict = self.pulse.verdict(ProcessState(state, self.cpu_s))
            if verdict:
                return verdict
        return None


@pytest.mark.parametrize(
    ("state", "limit_s", "word"), [("T", STOPPED_S, "stopped"), ("S", ASLEEP_S, "asleep"), ("D", BLOCKED_S, "blocked")]
)
def test_each_state_has_its_patience(state, limit_s, word):
    watched = Watched()
    assert watched.silence(limit_s - 0.25, state) is None
    assert word in watched.silence(0.25, state)


def test_a_process_that_is_ready_to_run_but_gets_no_cpu_is_never_hung():
    assert Watched().silence(600.0, "R", cpu_share=0.005) is None


def test_a_process_that_burns_cpu_and_never_beats_is_hung():
    watched = Watched()
    assert watched.silence(SPINNING_S - 0.25, "R", cpu_share=1.0) is None
    assert "spinning" in watched.silence(1.0, "R", cpu_share=1.0)


def test_cpu_counts_from_the_last_beat():
    watched = Watched()
    assert watched.silence(SPINNING_S - 1.0, "R", cpu_share=1.0) is None
    watched.beat += 1
    assert not watched.pulse.is_silent(watched.now_s, watched.beat)
    assert watched.silence(SPINNING_S - 1.0, "R", cpu_share=1.0) is None


def test_a_process_that_never_beat_is_still_starting():
    assert Watched(beat=0).silence(STARTING_S - 0.25, "S") is None
    assert "since its start" in Watched(beat=0).silence(STARTING_S, "S")
    assert "stopped" in Watched(beat=0).silence(STOPPED_S, "T")


def test_time_in_which_the_supervisor_did_not_run_does_not_count():
    watched = Watched()
    watched.now_s += 3600.0
    assert watched.pulse.is_silent(watched.now_s, watched.beat)
    assert LONGEST_STEP_S < STOPPED_S
    assert watched.pulse.verdict(ProcessState("T", 0.0)) is None


def test_the_kernel_is_read_correctly():
    state = read_process_state(os.getpid())
    assert state.state == "R"
    assert state.cpu_s == pytest.approx(sum(os.times()[:2]), abs=0.1)
    assert read_process_state(2**22 + 1) is None
