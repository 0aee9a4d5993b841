from collections import Counter
from random import Random

import pytest

from ingressd.proxy.upstream.balancers.peak_ewma import DECAY_S, PeakEwma


def balancer_of(states, seed=1):
    balancer = PeakEwma(Random(seed))
    balancer.update(states)
    return balancer


def test_slow_endpoint_gets_little(fleet):
    states = fleet.states(3)
    balancer = balancer_of(states)
    picks = Counter()
    now = 0.0
    for _ in range(3000):
        now += 0.01
        state = balancer.pick(None, now)
        picks[state] += 1
        balancer.observe(state, 0.5 if state is states[0] else 0.01, now)
    assert picks[states[0]] < 0.05 * 3000
    assert picks[states[1]] > 1000 < picks[states[2]]


def test_one_slow_answer_counts_at_once_and_is_forgotten_in_time(fleet):
    states = fleet.states(2)
    balancer = balancer_of(states)
    for turn in range(100):
        for state in states:
            balancer.observe(state, 0.01, turn * 0.1)
    balancer.observe(states[0], 2.0, 10.0)
    assert states[0].ewma_s == 2.0
    assert {balancer.pick(None, 10.1) for _ in range(20)} == {states[1]}
    later = 10.0 + 8 * DECAY_S
    balancer.observe(states[1], 0.01, later)
    assert balancer.pick(None, later) is states[0]


def test_fast_answers_lower_the_average_by_the_time_constant(fleet):
    (state,) = fleet.states(1)
    balancer = balancer_of([state])
    balancer.observe(state, 1.0, 0.0)
    balancer.observe(state, 0.0, DECAY_S)
    assert state.ewma_s == pytest.approx(0.3679, abs=0.001)


def test_time_that_goes_back_does_no_harm(fleet):
    (state,) = fleet.states(1)
    balancer = balancer_of([state])
    balancer.observe(state, 1.0, 10.0)
    balancer.observe(state, 0.5, 9.0)
    assert state.ewma_s == 1.0


def test_work_in_flight_multiplies_the_cost(fleet):
    states = fleet.states(2)
    balancer = balancer_of(states)
    balancer.observe(states[0], 0.01, 0.0)
    balancer.observe(states[1], 0.03, 0.0)
    assert balancer.pick(None, 0.0) is states[0]
    fleet.load(states[0], 3, worker=1)
    assert {balancer.pick(None, 0.0) for _ in range(10)} == {states[1]}


def test_newcomer_costs_the_mean_of_the_others(fleet):
    states = fleet.states(3)
    balancer = balancer_of(states[:2])
    balancer.observe(states[0], 0.1, 5.0)
    balancer.observe(states[1], 0.3, 6.0)
    balancer.update(states)
    assert states[2].ewma_s == pytest.approx(0.2)
    picks = Counter(balancer.pick(None, 6.0) for _ in range(300))
    assert 0 < picks[states[2]] < 200


def test_average_survives_a_change_of_the_list(fleet):
    states = fleet.states(3)
    balancer = balancer_of(states)
    balancer.observe(states[0], 0.7, 1.0)
    balancer.update(states[:2])
    balancer.update(states)
    assert states[0].ewma_s == 0.7
