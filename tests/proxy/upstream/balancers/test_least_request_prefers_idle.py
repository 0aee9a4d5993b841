from collections import Counter
from random import Random

from ingressd.proxy.upstream.balancers.least_request import LeastRequest


def test_the_busier_of_two_gets_nothing(fleet):
    states = fleet.states(2)
    fleet.load(states[0], 3)
    balancer = LeastRequest(Random(1))
    balancer.update(states)
    assert {balancer.pick(None, 0.0) for _ in range(100)} == {states[1]}


def test_work_of_other_workers_counts(fleet):
    states = fleet.states(2)
    fleet.load(states[0], 1, worker=0)
    fleet.load(states[1], 2, worker=1)
    balancer = LeastRequest(Random(1))
    balancer.update(states)
    assert {balancer.pick(None, 0.0) for _ in range(100)} == {states[0]}


def test_load_is_divided_by_weight(fleet):
    states = fleet.states(2, weights=(1, 4))
    fleet.load(states[0], 2)
    fleet.load(states[1], 4)
    balancer = LeastRequest(Random(1))
    balancer.update(states)
    assert {balancer.pick(None, 0.0) for _ in range(100)} == {states[1]}


def test_idle_endpoints_share_by_weight(fleet):
    states = fleet.states(3, weights=(1, 2, 5))
    balancer = LeastRequest(Random(5))
    balancer.update(states)
    picks = Counter(balancer.pick(None, 0.0) for _ in range(8000))
    for state, share in zip(states, (1000, 2000, 5000), strict=True):
        assert 0.85 * share < picks[state] < 1.15 * share


def test_the_most_loaded_of_many_is_never_taken(fleet):
    states = fleet.states(10)
    fleet.load(states[4], 50)
    balancer = LeastRequest(Random(2))
    balancer.update(states)
    picks = Counter(balancer.pick(None, 0.0) for _ in range(2000))
    assert picks[states[4]] == 0
    assert min(picks[state] for state in states if state is not states[4]) > 150


def test_slow_endpoint_ends_with_the_same_number_in_flight(fleet):
    """Two workers, one endpoint ten times slower: what runs there stays near what runs elsewhere."""
    balancers = [LeastRequest(Random(seed)) for seed in (1, 2)]
    states = fleet.states(3)
    for balancer in balancers:
        balancer.update(states)
    running = []
    served = Counter()
    for turn in range(6000):
        for end, state, worker in [item for item in running if item[0] <= turn]:
            fleet.load(state, -1, worker=worker)
            running.remove((end, state, worker))
        worker = turn % 2
        state = balancers[worker].pick(None, float(turn))
        fleet.load(state, 1, worker=worker)
        served[state] += 1
        running.append((turn + (100 if state is states[0] else 10), state, worker))
    assert served[states[0]] < 0.2 * served[states[1]]
