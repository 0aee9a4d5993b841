from random import Random

import pytest

from ingressd.observe.shared_table import EJECTED_UNTIL_MS, SharedTable
from ingressd.proxy.upstream.balancers.table import BALANCERS
from ingressd.proxy.upstream.endpoint import EndpointState
from ingressd.proxy.upstream.outlier import BACKOFF_MAX_S, REFUSALS


class TwoWorkers:
    """The same three endpoints as two workers hold them: their own states, one table."""

    def __init__(self, name: str) -> None:
        self.columns = [[0] * SharedTable.base(8) for _ in range(2)]
        self.states = []
        self.balancers = []
        for worker in range(2):
            states = [
                EndpointState(f"10.0.0.{index}", 80, base=SharedTable.base(index), columns=self.columns)
                for index in range(1, 4)
            ]
            balancer = BALANCERS[name](Random(worker), own_column=self.columns[worker])
            balancer.update(states)
            self.states.append(states)
            self.balancers.append(balancer)

    def picked(self, worker: int, now: float) -> set[str]:
        return {self.balancers[worker].pick(b"%d" % turn, now).name for turn in range(120)}


@pytest.fixture(params=sorted(BALANCERS))
def two(request) -> TwoWorkers:
    return TwoWorkers(request.param)


def fail(two, now, *, times=1, endpoint=0, timed_out=False, worker=0):
    for _ in range(times):
        two.balancers[worker].connect_failed(two.states[worker][endpoint], now, timed_out=timed_out)


def test_one_connect_timeout_ejects_for_a_second(two):
    fail(two, 100.0, timed_out=True)
    assert two.picked(0, 100.5) == {"10.0.0.2:80", "10.0.0.3:80"}
    assert all(two.states[0][0] not in list(two.balancers[0].candidates(b"k", 100.5)) for _ in range(10))
    assert "10.0.0.1:80" in two.picked(0, 101.2)


def test_a_few_refused_connections_do_not_eject(two):
    fail(two, 100.0, times=REFUSALS - 1)
    assert "10.0.0.1:80" in two.picked(0, 100.0)
    fail(two, 100.0)
    assert "10.0.0.1:80" not in two.picked(0, 100.0)


def test_a_success_between_refusals_forgets_them(two):
    fail(two, 100.0, times=REFUSALS - 1)
    two.balancers[0].connect_succeeded(two.states[0][0])
    fail(two, 100.0, times=REFUSALS - 1)
    assert "10.0.0.1:80" in two.picked(0, 100.0)


def test_the_other_worker_learns_of_it(two):
    two.picked(1, 99.99)
    fail(two, 100.0, timed_out=True)
    assert two.picked(1, 100.2) == {"10.0.0.2:80", "10.0.0.3:80"}
    assert "10.0.0.1:80" in two.picked(1, 101.3)


def test_a_worker_writes_only_its_own_column(two):
    fail(two, 100.0, timed_out=True, worker=1)
    assert two.columns[1][SharedTable.base(1) + EJECTED_UNTIL_MS] == 101_000
    assert not any(two.columns[0])


def test_back_off_doubles_up_to_its_limit(two):
    now = 0.0
    lengths = []
    for _ in range(8):
        now += 100.0
        fail(two, now, timed_out=True)
        lengths.append(two.states[0][0].ejected_until - now)
    assert lengths == [1.0, 2.0, 4.0, 8.0, 16.0, BACKOFF_MAX_S, BACKOFF_MAX_S, BACKOFF_MAX_S]


def test_failures_that_were_under_way_do_not_double_it(two):
    fail(two, 100.0, timed_out=True, times=5)
    assert two.states[0][0].ejected_until == 101.0


def test_when_all_are_ejected_all_are_tried(two):
    for endpoint in range(3):
        fail(two, 100.0, timed_out=True, endpoint=endpoint)
    assert len(two.picked(0, 100.3)) == 3
    assert len(list(two.balancers[0].candidates(b"k", 100.3))) == 3


def test_the_only_endpoint_is_never_ejected(two):
    two.balancers[0].update(two.states[0][:1])
    fail(two, 100.0, timed_out=True)
    assert two.balancers[0].pick(b"k", 100.0) is two.states[0][0]
    assert two.states[0][0].ejected_until == 0.0


def test_ejection_survives_a_change_of_the_list(two):
    fail(two, 100.0, timed_out=True)
    two.balancers[0].update(two.states[0])
    assert "10.0.0.1:80" not in two.picked(0, 100.1)


def test_endpoints_without_a_slot_do_not_eject_each_other(two):
    for states in two.states:
        for state in states:
            state.base = SharedTable.base(0)
    fail(two, 100.0, timed_out=True)
    two.picked(1, 100.2)
    assert two.picked(0, 100.2) == {"10.0.0.2:80", "10.0.0.3:80"}
    assert len(two.picked(1, 100.4)) == 3
