"""What is said when: once while it lasts, again after a long while, within limits for each object and for all."""

from ingressd.control.objects.event import ObjectKey
from ingressd.control.status.event_rules import (
    ALL_BURST,
    ALL_PER_S,
    OBJECT_BURST,
    QUEUED,
    REPEAT_S,
    RETRY_S,
    SETTLE_S,
    TOGETHER_S,
    EventRules,
    Saying,
)


def saying(number=0, message="broken", kind="Warning"):
    return Saying(ObjectKey("Ingress", "default", f"i{number}"), kind, "InvalidIngress", "spec", message)


def told(rules, now_s):
    """Everything that is said at one moment."""
    found = []
    while isinstance(one := rules.take(now_s), Saying):
        found.append(one)
        rules.said(one, now_s)
    return found


def test_what_is_over_in_a_moment_is_not_said():
    rules = EventRules()
    rules.begin(saying(), 0.0)
    assert rules.take(0.0) == SETTLE_S
    rules.end(saying())
    assert told(rules, 100.0) == []


def test_what_lasts_is_said_once_and_again_after_a_long_while():
    rules = EventRules()
    rules.begin(saying(), -SETTLE_S)
    rules.begin(saying(), 1.0)
    assert told(rules, 1.0) == [saying()]
    assert rules.take(1.0) == REPEAT_S
    assert told(rules, 1.0 + REPEAT_S - 0.1) == []
    assert told(rules, 1.0 + REPEAT_S) == [saying()]


def test_what_ended_is_not_said_again_and_what_returns_is():
    rules = EventRules()
    rules.begin(saying(), -SETTLE_S)
    told(rules, 0.0)
    rules.end(saying())
    assert told(rules, 2 * REPEAT_S) == []
    rules.begin(saying(), 3 * REPEAT_S - SETTLE_S)
    assert told(rules, 3 * REPEAT_S) == [saying()]


def test_what_ended_before_its_turn_is_never_said():
    rules = EventRules()
    rules.begin(saying(), -SETTLE_S)
    rules.end(saying())
    assert rules.take(1.0) is None


def test_an_object_has_25_and_then_one_in_five_minutes():
    rules = EventRules()
    many = [saying(message=f"m{number:02}") for number in range(30)]
    for one in many:
        rules.begin(one, -SETTLE_S)
    rules.begin(saying(1), -SETTLE_S)
    assert len(told(rules, 0.0)) == OBJECT_BURST + 1, "and it holds no other up"
    assert told(rules, 299.0) == []
    assert len(told(rules, 300.5)) == 1
    assert len(told(rules, 601.0)) == 1
    assert rules.dropped == 0, "what lasts waits for its turn"


def test_what_happens_is_dropped_when_the_object_has_had_its_share():
    rules = EventRules()
    for number in range(30):
        rules.once(saying(message=f"m{number}", kind="Normal"), 0.0)
    assert len(told(rules, 0.0)) == OBJECT_BURST
    assert rules.dropped == 5


def test_all_objects_together_have_a_limit():
    rules = EventRules()
    for number in range(1000):
        rules.begin(saying(number), -SETTLE_S)
    assert len(told(rules, 0.0)) == ALL_BURST
    assert len(told(rules, 10.0)) == 10 * ALL_PER_S


def test_what_is_wrong_goes_before_what_merely_happened():
    rules = EventRules()
    rules.once(saying(1, kind="Normal"), 0.0)
    rules.begin(saying(2), -SETTLE_S)
    assert told(rules, 0.0) == [saying(2), saying(1, kind="Normal")]


def test_the_same_thing_in_quick_succession_happened_once():
    rules = EventRules()
    rules.once(saying(kind="Normal"), 0.0)
    rules.once(saying(kind="Normal"), 0.0)
    assert len(told(rules, 0.0)) == 1
    rules.once(saying(kind="Normal"), TOGETHER_S - 0.1)
    assert told(rules, TOGETHER_S - 0.1) == []
    rules.once(saying(kind="Normal"), TOGETHER_S)
    assert len(told(rules, TOGETHER_S)) == 1


def test_the_queue_of_what_happened_has_an_end():
    rules = EventRules()
    for number in range(QUEUED + 7):
        rules.once(saying(number, kind="Normal"), 0.0)
    assert rules.dropped == 7
    rules.drop_queued()
    assert rules.dropped == QUEUED + 7
    assert rules.take(0.0) is None


def test_a_failure_of_what_lasts_is_tried_again_and_of_what_happened_is_not():
    rules = EventRules()
    rules.begin(saying(1), -SETTLE_S)
    rules.once(saying(2, kind="Normal"), 0.0)
    for _ in range(2):
        rules.failed(rules.take(0.0), 0.0)
    assert rules.dropped == 1
    assert told(rules, RETRY_S - 0.1) == []
    assert told(rules, RETRY_S) == [saying(1)]


def test_what_comes_and_goes_all_the_time_leaves_nothing_behind():
    rules = EventRules()
    for number in range(30_000):
        rules.begin(saying(number % 3), number - SETTLE_S)
        told(rules, float(number))
        rules.end(saying(number % 3))
    assert len(rules._due) < 10_000
    for number in range(30_000):
        rules.once(saying(number, kind="Normal"), 1e6 + number)
        told(rules, 1e6 + number)
    assert len(rules._recent) < 10_000
    assert len(rules._buckets) < 10_000
