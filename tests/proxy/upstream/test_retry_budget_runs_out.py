import pytest

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
