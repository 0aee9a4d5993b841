from collections import Counter
from random import Random

from ingressd.proxy.upstream.balancers.round_robin import RoundRobin


def test_equal_weights_take_turns_in_order(fleet):
    states = fleet.states(3)
    balancer = RoundRobin(Random(1))
    balancer.update(states)
    picks = [balancer.pick(None, 0.0) for _ in range(9)]
    start = states.index(picks[0])
    assert picks == [states[(start + turn) % 3] for turn in range(9)]


def test_weights_are_kept_exactly_and_spread_out(fleet):
    states = fleet.states(3, weights=(5, 1, 1))
    balancer = RoundRobin(Random(1))
    balancer.update(states)
    picks = [balancer.pick(None, 0.0).name for _ in range(70)]
    assert Counter(picks) == {states[0].name: 50, states[1].name: 10, states[2].name: 10}
    # nginx's point in being smooth: a a b a c a a, never a a a a a b c.
    assert "".join("a" if name == states[0].name else "-" for name in picks + picks).count("aaaaa") == 0


def test_workers_start_at_different_endpoints(fleet):
    firsts = set()
    for seed in range(40):
        balancer = RoundRobin(Random(seed))
        balancer.update(fleet.states(4))
        firsts.add(balancer.pick(None, 0.0).name)
    assert len(firsts) == 4


def test_workers_start_at_different_endpoints_with_weights_too(fleet):
    firsts = set()
    for seed in range(60):
        balancer = RoundRobin(Random(seed))
        balancer.update(fleet.states(3, weights=(3, 2, 1)))
        firsts.add(balancer.pick(None, 0.0).name)
    assert len(firsts) == 3


def test_turns_go_on_when_the_list_changes(fleet):
    states = fleet.states(4)
    balancer = RoundRobin(Random(1))
    picks = []
    for turn in range(400):
        if turn % 2 == 0:
            balancer.update(states if turn % 4 else states[:3])
        picks.append(balancer.pick(None, 0.0))
    counts = Counter(picks)
    # Begun anew at each change, the first endpoint would get half of everything.
    assert max(counts.values()) < 160


def test_what_is_owed_survives_a_change_of_the_list(fleet):
    states = fleet.states(3, weights=(1, 1, 8))
    balancer = RoundRobin(Random(1))
    picks = Counter()
    for _ in range(100):
        balancer.update(states)
        picks[balancer.pick(None, 0.0)] += 1
    assert picks[states[2]] == 80
    assert picks[states[0]] == picks[states[1]] == 10
