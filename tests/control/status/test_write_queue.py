"""The queue of writes: each object once at a time, a bounded rate, back-off, and rest while the server is away."""

from ingressd.control.objects.event import ObjectKey
from ingressd.control.status.pace import Bucket
from ingressd.control.status.queue import BURST, IN_FLIGHT, PER_S, WriteQueue


def key(number):
    return ObjectKey("Ingress", "default", f"i{number}")


def queue():
    return WriteQueue(chance=lambda: 0.0)


def taken(found, now_s):
    """Every key that may go now, each done at once."""
    keys = []
    while isinstance(one := found.take(now_s), ObjectKey):
        keys.append(one)
        found.done(one)
    return keys


def test_in_the_order_in_which_they_came_and_each_once():
    found = queue()
    for number in (2, 1, 2, 3, 1):
        found.add(key(number))
    assert taken(found, 0.0) == [key(2), key(1), key(3)]
    assert len(found) == 0


def test_ten_at_a_time():
    found = queue()
    for number in range(IN_FLIGHT + 1):
        found.add(key(number))
    keys = [found.take(0.0) for _ in range(IN_FLIGHT)]
    assert found.take(0.0) is None
    found.done(keys[0])
    assert found.take(0.0) == key(IN_FLIGHT)


def test_ten_thousand_go_at_the_rate_and_not_faster():
    found = queue()
    for number in range(10_000):
        found.add(key(number))
    written, now_s = 0, 0.0
    while len(found):
        written += len(taken(found, now_s))
        assert written <= BURST + now_s * PER_S + 1
        now_s += found.take(now_s) or 0.0
    assert 300 < now_s < 340


def test_one_that_is_added_while_it_is_written_is_written_again():
    found = queue()
    found.add(key(1))
    assert found.take(0.0) == key(1)
    found.add(key(1))
    assert found.take(0.0) is None, "not twice at once"
    found.done(key(1))
    assert found.take(0.0) == key(1)


def test_failures_wait_twice_as_long_each_time_and_a_success_forgets_them():
    found, now_s, pauses = queue(), 0.0, []
    found.add(key(1))
    for _ in range(9):
        assert found.take(now_s) == key(1)
        found.failed(key(1), now_s)
        found.add(key(1))  # News do not shorten the wait.
        pause_s = found.take(now_s)
        pauses.append(pause_s)
        now_s += pause_s
    assert pauses == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert taken(found, now_s) == [key(1)]
    found.add(key(1))
    found.take(now_s)
    found.failed(key(1), now_s)
    assert found.take(now_s) == 0.5


def test_one_that_fails_holds_no_other_up():
    found = queue()
    found.add(key(1))
    found.take(0.0)
    found.failed(key(1), 0.0)
    found.add(key(2))
    assert taken(found, 0.0) == [key(2)]


def test_while_the_server_is_away_all_rest_and_longer_every_time():
    found, now_s, rests = queue(), 0.0, []
    for number in range(100):
        found.add(key(number))
    for _ in range(7):
        one = found.take(now_s)
        found.failed(one, now_s)
        found.hold(now_s)
        found.hold(now_s)  # Another that was in flight fails too.
        rests.append(found.take(now_s))
        now_s += rests[-1]
    assert rests == [0.5, 1, 2, 4, 8, 15, 15]
    found.done(found.take(now_s))
    found.hold(now_s)
    assert found.take(now_s) == 0.5


def test_retry_after_is_honoured():
    found = queue()
    found.add(key(1))
    found.hold(0.0, at_least_s=30)
    assert found.take(0.0) == 30


def test_cleared_is_forgotten_but_what_is_on_its_way_stays_single():
    found = queue()
    for number in range(3):
        found.add(key(number))
    found.take(0.0)
    found.take(0.0)
    found.failed(key(1), 0.0)
    found.clear()
    assert found.take(100.0) is None
    found.add(key(0))
    assert found.take(100.0) is None
    found.done(key(0))
    assert found.take(100.0) == key(0)


def test_a_bucket_fills_again_and_never_beyond_its_size():
    bucket = Bucket(burst=2, per_s=0.5)
    assert [bucket.wait_s(1000.0), bucket.spend(1000.0), bucket.spend(1000.0)] == [0.0, None, None]
    assert bucket.wait_s(1000.0) == 2.0
    assert not bucket.is_full(1003.9)
    assert bucket.is_full(1004.0)
    bucket.spend(9999.0)
    bucket.spend(9999.0)
    assert bucket.wait_s(9999.0) == 2.0
