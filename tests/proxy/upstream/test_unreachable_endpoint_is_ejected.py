from random import Random

import pytest

from ingressd.observe.shared_table import CONSECUTIVE_FAILURES, EJECTED_UNTIL_MS, GOOD_AT_US, SharedTable, ring
from ingressd.proxy.upstream.balancers.table import BALANCERS
from ingressd.proxy.upstream.endpoint import EndpointState
from ingressd.proxy.upstream.outlier import BACKOFF_MAX_S, CONSECUTIVE, PodHealth


class TwoWorkers:
    """The same three endpoints as two workers hold them: their own states, one table. And what a controller writes."""

    def __init__(self, name: str) -> None:
        self.columns = [[0] * SharedTable.base(8) for _ in range(2)]
        self.controller = [0] * SharedTable.base(8)
        self.bell = [0]
        self.states = []
        self.balancers = []
        for worker in range(2):
            states = [
                EndpointState(f"10.0.0.{index}", 80, base=SharedTable.base(index), columns=self.columns)
                for index in range(1, 4)
            ]
            balancer = BALANCERS[name](
                Random(worker), health=PodHealth(self.columns, self.controller, self.bell, worker=worker)
            )
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
        two.balancers[worker].failed(two.states[worker][endpoint], now, at_once=timed_out)


def succeed(two, now, *, endpoint=0, worker=0):
    """As an exchange does: only what is in doubt is worth a word."""
    if two.states[worker][endpoint].failures:
        two.balancers[worker].succeeded(two.states[worker][endpoint], now)


def test_one_connect_timeout_ejects_for_a_second(two):
    fail(two, 100.0, timed_out=True)
    assert two.picked(0, 100.5) == {"10.0.0.2:80", "10.0.0.3:80"}
    assert all(two.states[0][0] not in list(two.balancers[0].candidates(b"k", 100.5)) for _ in range(10))
    assert "10.0.0.1:80" in two.picked(0, 101.2)


def test_a_few_refused_connections_do_not_eject(two):
    fail(two, 100.0, times=CONSECUTIVE - 1)
    assert "10.0.0.1:80" in two.picked(0, 100.0)
    fail(two, 100.0)
    assert "10.0.0.1:80" not in two.picked(0, 100.0)


def test_a_success_between_refusals_forgets_them(two):
    fail(two, 100.0, times=CONSECUTIVE - 1)
    succeed(two, 100.1)
    fail(two, 100.2, times=CONSECUTIVE - 1)
    assert "10.0.0.1:80" in two.picked(0, 100.0)


def test_the_other_worker_learns_of_it(two):
    two.picked(1, 99.99)
    fail(two, 100.0, timed_out=True)
    assert two.picked(1, 100.0) == {"10.0.0.2:80", "10.0.0.3:80"}
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


def test_failures_of_all_workers_make_one_row(two):
    for turn in range(CONSECUTIVE):
        assert "10.0.0.1:80" in two.picked(0, 100.0 + turn)
        fail(two, 100.0 + turn, worker=turn % 2)
    for worker in range(2):
        assert two.picked(worker, 104.0) == {"10.0.0.2:80", "10.0.0.3:80"}


def test_a_success_at_another_worker_breaks_the_row(two):
    fail(two, 100.0, times=CONSECUTIVE - 1)
    two.picked(1, 100.2)
    succeed(two, 100.2, worker=1)
    fail(two, 100.3, times=CONSECUTIVE - 1)
    assert "10.0.0.1:80" in two.picked(0, 100.3)
    fail(two, 100.3)
    assert "10.0.0.1:80" not in two.picked(1, 100.3)


def test_a_connect_timeout_after_failures_elsewhere_ejects_for_a_second_and_no_longer(two):
    fail(two, 100.0, times=CONSECUTIVE - 1)
    fail(two, 100.0, timed_out=True, worker=1)
    assert two.states[1][0].ejected_until == 101.0


def test_the_failures_of_a_worker_that_was_reaped_are_forgotten(two):
    fail(two, 100.0, times=CONSECUTIVE - 1)
    two.columns[0][SharedTable.base(1) + CONSECUTIVE_FAILURES] = 0
    fail(two, 100.1, worker=1)
    assert "10.0.0.1:80" in two.picked(1, 100.1)


def test_the_verdict_of_health_checks_counts_for_every_worker_until_it_is_taken_back_or_runs_out(two):
    base = SharedTable.base(1)
    for worker in range(2):
        assert len(two.picked(worker, 100.0)) == 3
    two.controller[base + EJECTED_UNTIL_MS] = 130_000
    ring(two.bell, 100.0)
    for worker in range(2):
        assert two.picked(worker, 100.0) == {"10.0.0.2:80", "10.0.0.3:80"}
    two.controller[base + EJECTED_UNTIL_MS] = 0
    ring(two.bell, 100.01)
    assert len(two.picked(0, 100.01)) == 3
    two.controller[base + EJECTED_UNTIL_MS] = 130_000
    ring(two.bell, 100.02)
    assert len(two.picked(0, 100.03)) == 2
    assert len(two.picked(0, 130.1)) == 3


def test_when_all_are_said_to_be_unhealthy_all_are_asked(two):
    for index in range(1, 4):
        two.controller[SharedTable.base(index) + EJECTED_UNTIL_MS] = 130_000
    assert len(two.picked(0, 100.0)) == 3


def test_a_probe_that_succeeded_lifts_ejections_before_it_and_none_after_it(two):
    base = SharedTable.base(1)
    fail(two, 100.0, times=CONSECUTIVE + 10)
    two.controller[base + GOOD_AT_US] = 100_100_000
    ring(two.bell, 100.1)
    assert len(two.picked(0, 100.1)) == len(two.picked(1, 100.1)) == 3
    # Nothing has been answered well since: one failure is enough, and its back-off goes on doubling.
    fail(two, 100.2, worker=1)
    assert two.picked(0, 100.2) == {"10.0.0.2:80", "10.0.0.3:80"}
    assert two.states[1][0].ejected_until == 102.2


def test_two_rings_at_the_same_moment_are_two(two):
    ring(two.bell, 100.0, process=0)
    first = two.bell[0]
    ring(two.bell, 100.0, process=1)
    assert two.bell[0] != first


def counted(two, now, *, worker=0):
    """How many of 120 picks are the first endpoint."""
    return sum(two.balancers[worker].pick(b"%d" % turn, now) is two.states[worker][0] for turn in range(120))


def test_when_back_off_ends_one_request_of_the_pod_tries_the_endpoint(two):
    fail(two, 100.0, times=CONSECUTIVE)
    assert counted(two, 101.1) == 1
    assert counted(two, 101.1, worker=1) == 0
    assert counted(two, 101.5) == 0


def test_a_trial_that_fails_ejects_for_twice_as_long(two):
    fail(two, 100.0, times=CONSECUTIVE)
    assert counted(two, 101.1) == 1
    fail(two, 101.2)
    assert two.states[0][0].ejected_until == 103.2
    assert counted(two, 103.1) == counted(two, 103.1, worker=1) == 0
    assert counted(two, 103.3, worker=1) == 1
    assert counted(two, 103.3) == 0


def test_a_trial_that_succeeds_lets_everybody_back(two):
    fail(two, 100.0, times=CONSECUTIVE)
    assert counted(two, 101.1) == 1
    succeed(two, 101.2)
    for worker in range(2):
        assert len(two.picked(worker, 101.2)) == 3
    fail(two, 101.3, times=CONSECUTIVE - 1)
    assert len(two.picked(1, 101.3)) == 3


def test_a_trial_of_which_nothing_is_heard_is_made_again(two):
    fail(two, 100.0, times=CONSECUTIVE)
    assert counted(two, 101.1) == 1
    assert counted(two, 102.2, worker=1) == 1
    succeed(two, 102.3)
    for worker in range(2):
        assert counted(two, 103.4, worker=worker) > 1


def test_what_a_request_can_bring_about_ejects_half_of_the_endpoints_at_most(two):
    """A request that everybody answers with a 500, sent often, must not leave one endpoint to do all the work."""

    def poisoned(endpoint):
        for _ in range(2 * CONSECUTIVE):
            two.balancers[0].failed(two.states[0][endpoint], 100.0, asked=True)

    for endpoint in range(3):
        poisoned(endpoint)
    assert two.picked(0, 100.1) == two.picked(1, 100.1) == {"10.0.0.2:80", "10.0.0.3:80"}
    fail(two, 100.2, times=CONSECUTIVE, endpoint=1)
    assert two.picked(0, 100.3) == {"10.0.0.3:80"}, "nobody there is another matter"


def test_one_of_two_that_fails_what_it_is_asked_is_ejected(two):
    for worker in range(2):
        two.balancers[worker].update(two.states[worker][:2])
    for _ in range(CONSECUTIVE):
        two.balancers[0].failed(two.states[0][0], 100.0, asked=True)
    assert two.picked(0, 100.1) == two.picked(1, 100.1) == {"10.0.0.2:80"}
