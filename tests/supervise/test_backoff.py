"""What dies once starts at once; what dies again and again waits ever longer."""

from ingressd.supervise.backoff import FIRST_S, GREATEST_S, SETTLED_S, WORKER_SETTLED_S, Backoff


def test_the_first_quick_death_costs_no_wait_and_the_next_double():
    backoff = Backoff()
    assert [backoff.pause_s(0.1) for _ in range(4)] == [0.0, FIRST_S, 2 * FIRST_S, 4 * FIRST_S]


def test_the_pause_is_bounded():
    backoff = Backoff()
    assert max(backoff.pause_s(0.1) for _ in range(10_000)) == GREATEST_S


def test_a_long_life_forgives():
    backoff = Backoff()
    for _ in range(5):
        backoff.pause_s(SETTLED_S - 0.1)
    assert backoff.pause_s(SETTLED_S) == 0.0
    assert backoff.pause_s(0.1) == 0.0


def test_a_worker_that_is_killed_every_other_second_never_waits():
    backoff = Backoff(WORKER_SETTLED_S)
    assert [backoff.pause_s(1.5) for _ in range(30)] == [0.0] * 30
