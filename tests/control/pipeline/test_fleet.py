"""Each worker gets one delta at a time, and every change of every key."""

from hypothesis import given
from hypothesis import strategies as st

from ingressd.control.pipeline.fleet import Fleet

ONE, TWO = (0, 1), (1, 1)


def test_nothing_goes_out_before_the_first_version():
    fleet = Fleet()
    fleet.add(ONE, 0)
    assert fleet.next(ONE) is None
    fleet.publish({}, ())
    sending = fleet.next(ONE)
    assert (sending.version, sending.base, sending.changed) == (1, 0, ())


def test_changes_meanwhile_are_gathered_into_the_next_delta():
    fleet = Fleet()
    fleet.add(ONE, 0)
    fleet.publish({"a": b"1", "b": b"1"}, ())
    first = fleet.next(ONE)
    assert (first.base, first.changed) == (0, ("a", "b"))
    fleet.publish({"a": b"2"}, ())
    fleet.publish({"c": b"1"}, ("b",))
    assert fleet.next(ONE) is None
    fleet.acknowledge(ONE, 1)
    # Everything that was published while the whole snapshot was on its way.
    second = fleet.next(ONE)
    assert (second.version, second.base, second.changed, second.removed) == (3, 1, ("a", "c"), ("b",))


def test_a_slow_worker_holds_no_other_up():
    fleet = Fleet()
    for worker in (ONE, TWO):
        fleet.add(worker, 0)
    fleet.publish({"a": b"1"}, ())
    for worker in (ONE, TWO):
        fleet.next(worker)
    fleet.acknowledge(TWO, 1)
    fleet.publish({"a": b"2"}, ())
    assert fleet.next(TWO).version == 2
    assert fleet.acknowledged_by_all() == 0
    fleet.acknowledge(ONE, 1)
    assert fleet.acknowledged_by_all() == 1


def test_a_new_worker_gets_everything():
    fleet = Fleet()
    fleet.publish({"a": b"1"}, ())
    fleet.publish({"b": b"1"}, ("a",))
    fleet.add(TWO, 0)
    sending = fleet.next(TWO)
    assert (sending.version, sending.base, sending.changed) == (2, 0, ("b",))


def test_an_unknown_or_old_acknowledgement_changes_nothing():
    fleet = Fleet()
    fleet.publish({"a": b"1"}, ())
    fleet.add(ONE, 0)
    fleet.next(ONE)
    assert fleet.acknowledge(ONE, 7) is None
    assert fleet.acknowledge(TWO, 1) is None
    assert fleet.acknowledged(ONE) == 0


def test_what_a_worker_could_not_build_is_still_lacking():
    fleet = Fleet()
    fleet.add(ONE, 0)
    fleet.publish({"a": b"1"}, ())
    fleet.next(ONE)
    fleet.acknowledge(ONE, 1)
    fleet.publish({"a": b"2", "b": b"1"}, ())
    fleet.next(ONE)
    assert fleet.reject(ONE, 2).changed == ("a", "b")
    fleet.publish({"a": b"1"}, ("b",))
    sending = fleet.next(ONE)
    assert (sending.base, sending.changed, sending.removed) == (1, ("a",), ("b",))


def test_versions_go_on_above_what_a_worker_serves_of_a_controller_before():
    fleet = Fleet()
    fleet.add(ONE, 41)
    assert fleet.publish({"a": b"1"}, ()) == 42


def test_no_change_is_no_version():
    fleet = Fleet()
    fleet.publish({"a": b"1"}, ())
    assert fleet.publish({}, ("unknown",)) == 1


keys = st.sampled_from("abcd")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.dictionaries(keys, st.binary(max_size=2)), st.sets(keys)),
        st.tuples(st.just("answer"), st.sampled_from([ONE, TWO])),
        st.tuples(st.just("reject"), st.sampled_from([ONE, TWO])),
        st.tuples(st.just("restart"), st.sampled_from([ONE, TWO])),
    ),
    max_size=30,
)


@given(steps)
def test_a_worker_that_acknowledged_all_has_exactly_the_units(history):
    fleet = Fleet()
    has = {ONE: {}, TWO: {}}
    on_the_way = {}
    for worker in (ONE, TWO):
        fleet.add(worker, 0)

    def send(worker):
        sending = fleet.next(worker)
        if sending is not None:
            on_the_way[worker] = (sending, {key: fleet.units[key] for key in sending.changed})

    def answer(worker):
        sending, units = on_the_way.pop(worker)
        if sending.base == 0:
            has[worker] = {}
        has[worker].update(units)
        for key in sending.removed:
            has[worker].pop(key, None)
        fleet.acknowledge(worker, sending.version)

    for step in history:
        if step[0] == "publish":
            fleet.publish(step[1], step[2] - set(step[1]))
        elif step[0] == "answer" and step[1] in on_the_way:
            answer(step[1])
        elif step[0] == "reject" and step[1] in on_the_way:
            fleet.reject(step[1], on_the_way.pop(step[1])[0].version)
        elif step[0] == "restart":
            fleet.lose(step[1])
            on_the_way.pop(step[1], None)
            has[step[1]] = {}
            fleet.add(step[1], 0)
        for worker in (ONE, TWO):
            send(worker)
    for worker in (ONE, TWO):
        while True:
            send(worker)
            if worker not in on_the_way:
                break
            answer(worker)
        assert has[worker] == fleet.units
