"""The retry budget: a share of the requests of a window, at least so many, and the same for the whole pod."""

import pytest

from ingressd.observe.shared_table import RETRIES, SharedTable
from ingressd.proxy.upstream.budget import WINDOW_S, RetryBudget


def spend(budget, now):
    count = 0
    while budget.take(now):
        count += 1
    return count


def test_a_fifth_of_the_requests_of_the_window():
    budget = RetryBudget()
    for turn in range(1000):
        budget.count_request(100.0 + turn / 1000 * 9)
    assert spend(budget, 109.0) == 200


def test_at_least_three_a_second():
    assert spend(RetryBudget(), 100.0) == 30


def test_minimum_is_not_added_to_the_share():
    budget = RetryBudget()
    for _ in range(160):
        budget.count_request(50.0)
    assert spend(budget, 50.0) == 32


def test_what_was_spent_comes_back_when_the_window_has_passed():
    budget = RetryBudget()
    assert spend(budget, 100.0) == 30
    assert spend(budget, 109.9) == 0
    assert spend(budget, 110.0) == 30


def test_requests_leave_the_window_bucket_by_bucket():
    budget = RetryBudget(percent=100.0, min_per_s=0.0)
    for second in range(WINDOW_S):
        for _ in range(10):
            budget.count_request(100.0 + second)
    assert spend(budget, 109.5) == 100
    budget = RetryBudget(percent=100.0, min_per_s=0.0)
    for second in range(WINDOW_S):
        for _ in range(10):
            budget.count_request(100.0 + second)
    assert spend(budget, 112.5) == 70


@pytest.mark.parametrize("gap", [10.0, 11.0, 500.0, 1e7])
def test_a_long_rest_empties_it(gap):
    budget = RetryBudget(percent=100.0, min_per_s=0.0)
    for _ in range(50):
        budget.count_request(100.0)
    assert spend(budget, 100.0 + gap) == 0


def test_nothing_is_allowed_when_nothing_is_configured():
    budget = RetryBudget(percent=0.0, min_per_s=0.0)
    budget.count_request(1.0)
    assert not budget.take(1.0)


@pytest.fixture(params=[1, 2, 8])
def pod(request):
    """One budget a worker, in a table they share."""
    table = SharedTable.create(workers=request.param)
    budgets = [RetryBudget() for _ in range(request.param)]
    for worker, budget in enumerate(budgets):
        budget.share(table.group_base(table.base(1)) + RETRIES, table.columns(), table.column(worker))
    yield budgets
    table.close()


def test_at_least_three_a_second_is_said_of_the_pod(pod):
    assert spend(pod[-1], 100.0) == 30, "one busy worker may spend what the idle ones do not"
    assert [spend(budget, 100.5) for budget in pod] == [0] * len(pod)
    assert spend(pod[0], 110.0) == 30


def test_the_floor_is_shared_by_all_who_want_a_retry(pod):
    taken = [budget.take(100.0) for _ in range(40) for budget in pod]
    assert sum(taken) == 30


def test_the_share_is_that_of_the_requests_of_all_workers(pod):
    for budget in pod:
        for _ in range(1000):
            budget.count_request(100.0)
        budget.publish(100.0)
    assert spend(pod[0], 101.0) == 200 * len(pod)
    assert [spend(budget, 101.0) for budget in pod] == [0] * len(pod)


def test_what_a_worker_spent_is_forgotten_when_it_leaves_the_window_or_falls_silent(pod):
    last = pod[-1]
    assert spend(last, 100.0) == 30
    for second in range(101, 110):
        last.count_request(float(second))
        last.publish(float(second))
        assert spend(pod[0], second + 0.5) == 0
    last.publish(110.0)
    assert spend(pod[0], 110.5) == 30


def test_a_long_life_of_the_machine_fits_the_cell(pod):
    day_s = 86400.0
    for days in (40, 48.5, 49, 200, 2000):
        assert sum(spend(budget, days * day_s) for budget in pod) == 30


def test_the_cell_moves_with_the_endpoints_and_is_left_empty():
    table = SharedTable.create(workers=1)
    column = table.column(0)
    budget = RetryBudget()
    first, second = (table.group_base(table.base(slot)) + RETRIES for slot in (1, 2))
    budget.share(first, table.columns(), column)
    assert budget.take(100.0)
    assert column[first]
    budget.share(second, table.columns(), column)
    budget.publish(100.0)
    assert (column[first], bool(column[second])) == (0, True)
    budget.share(0, (), None)
    assert column[second] == 0
    assert budget.take(100.0)
    table.close()
