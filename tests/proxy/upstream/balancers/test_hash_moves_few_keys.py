import subprocess
import sys
from collections import Counter
from random import Random

from ingressd.proxy.upstream.balancers.consistent_hash import ConsistentHash

KEYS = [b"/item/%d" % number for number in range(4000)]


def balancer_of(states):
    balancer = ConsistentHash(Random(1))
    balancer.update(states)
    return balancer


def owners(states):
    balancer = balancer_of(states)
    return {key: balancer.pick(key, 0.0).name for key in KEYS}


def test_same_key_same_endpoint(fleet):
    balancer = balancer_of(fleet.states(6))
    assert len({balancer.pick(b"/", float(turn)) for turn in range(100)}) == 1


def test_order_of_the_list_does_not_matter(fleet):
    states = fleet.states(7)
    assert owners(states) == owners(list(reversed(states)))


def test_an_endpoint_that_leaves_moves_only_its_own_keys(fleet):
    states = fleet.states(10)
    before, after = owners(states), owners(states[:3] + states[4:])
    for key in KEYS:
        assert before[key] in (after[key], states[3].name)


def test_an_endpoint_that_comes_takes_only_its_share(fleet):
    states = fleet.states(10)
    before, after = owners(states[:9]), owners(states)
    moved = [key for key in KEYS if before[key] != after[key]]
    assert all(after[key] == states[9].name for key in moved)
    assert 0.05 * len(KEYS) < len(moved) < 0.16 * len(KEYS)


def test_shares_follow_weights(fleet):
    states = fleet.states(3, weights=(1, 1, 2))
    counts = Counter(owners(states).values())
    assert 0.38 * len(KEYS) < counts[states[2].name] < 0.62 * len(KEYS)
    assert min(counts.values()) > 0.15 * len(KEYS)


def test_keys_of_an_ejected_endpoint_go_to_its_heirs_and_come_back(fleet):
    states = fleet.states(5)
    balancer = balancer_of(states)
    before = {key: balancer.pick(key, 0.0) for key in KEYS}
    gone = states[2]
    balancer.failed(gone, 1.0, at_once=True)
    during = {key: balancer.pick(key, 1.0) for key in KEYS}
    for key in KEYS:
        if before[key] is gone:
            assert during[key] is not gone
        else:
            assert during[key] is before[key]
    assert len({during[key] for key in KEYS if before[key] is gone}) == 4
    assert balancer.pick(KEYS[0], 3.0) is gone, "one request tries it"
    balancer.succeeded(gone, 3.0)
    assert {key: balancer.pick(key, 3.2) for key in KEYS} == before


def test_candidates_are_the_heirs_in_order(fleet):
    states = fleet.states(5)
    balancer = balancer_of(states)
    for key in KEYS[:50]:
        first, second, *_ = balancer.candidates(key, 0.0)
        without = balancer_of([state for state in states if state is not first])
        assert without.pick(key, 0.0) is second


def test_processes_with_other_hash_seeds_agree(fleet):
    program = (
        "from random import Random\n"
        "from ingressd.proxy.upstream.balancers.consistent_hash import ConsistentHash\n"
        "from ingressd.proxy.upstream.endpoint import EndpointState\n"
        "balancer = ConsistentHash(Random())\n"
        "balancer.update([EndpointState(f'10.0.0.{n}', 80) for n in range(1, 6)])\n"
        "print([balancer.pick(b'/%d' % n, 0.0).name for n in range(200)])\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_many_endpoints_are_laid_out_in_milliseconds(fleet):
    """Not a clock: the ring may not be laid anew from nothing, so points are kept with their endpoint."""
    states = fleet.states(20)
    balancer = balancer_of(states)
    points = [state.ring_points for state in states]
    balancer.update(states[1:])
    balancer.update(states)
    assert all(state.ring_points is kept for state, kept in zip(states, points, strict=True))
