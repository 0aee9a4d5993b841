"""What every balancer owes its caller, whatever it balances by."""

from random import Random

import pytest

from ingressd.proxy.upstream.balancers.table import BALANCERS

NAMES = sorted(BALANCERS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weights", [(1,), (1, 5, 2)])
def test_pick_is_the_first_candidate(fleet, name, weights):
    states = [fleet.states(5, weights=weights) for _ in range(2)]
    one, other = (BALANCERS[name](Random(7)) for _ in range(2))
    one.update(states[0])
    other.update(states[1])
    for turn in range(50):
        key = b"/%d" % turn
        assert one.pick(key, float(turn)).name == next(other.candidates(key, float(turn))).name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weights", [(1,), (1, 5, 2)])
def test_candidates_are_all_endpoints_once(fleet, name, weights):
    states = fleet.states(6, weights=weights)
    balancer = BALANCERS[name](Random(1))
    balancer.update(states)
    for turn in range(20):
        found = list(balancer.candidates(b"%d" % turn, 1.0))
        assert len(found) == 6
        assert set(found) == set(states)


@pytest.mark.parametrize("name", NAMES)
def test_no_endpoint_is_none_and_one_is_itself(fleet, name):
    balancer = BALANCERS[name](Random(1))
    assert balancer.pick(b"k", 1.0) is None
    assert list(balancer.candidates(b"k", 1.0)) == []
    states = fleet.states(1)
    balancer.update(states)
    assert balancer.pick(b"k", 1.0) is states[0]
    assert list(balancer.candidates(None, 1.0)) == states
    balancer.update([])
    assert balancer.pick(b"k", 1.0) is None


@pytest.mark.parametrize("name", NAMES)
def test_draining_endpoints_are_used_only_when_all_drain(fleet, name):
    states = fleet.states(4)
    states[0].draining = states[1].draining = True
    balancer = BALANCERS[name](Random(1))
    balancer.update(states)
    assert {balancer.pick(b"%d" % turn, 1.0) for turn in range(100)} == {states[2], states[3]}
    states[2].draining = states[3].draining = True
    balancer.update(states)
    assert {balancer.pick(b"%d" % turn, 1.0) for turn in range(100)} == set(states)


@pytest.mark.parametrize("name", NAMES)
def test_weight_zero_gets_nothing(fleet, name):
    states = fleet.states(3, weights=(1, 0, 1))
    balancer = BALANCERS[name](Random(1))
    balancer.update(states)
    for turn in range(50):
        assert states[1] not in list(balancer.candidates(b"%d" % turn, 1.0))


@pytest.mark.parametrize("name", NAMES)
def test_without_a_key_every_endpoint_gets_its_share(fleet, name):
    states = fleet.states(4)
    balancer = BALANCERS[name](Random(3))
    balancer.update(states)
    picks = [balancer.pick(None, 1.0) for _ in range(2000)]
    for state in states:
        assert 300 < picks.count(state) < 700
