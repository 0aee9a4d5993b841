"""A bad unit is held, its last good version serves, and the rest goes on."""

import pytest

from ingressd.control.pipeline.quarantine import CRASHES, FIRST_PAUSE_S, LONGEST_PAUSE_S, Quarantine
from ingressd.model.codec import decode_unit, encode_unit
from ingressd.model.problem import Origin
from ingressd.model.units import ClientCertificates


def changes(result):
    return result.changed, result.removed


def test_a_refused_unit_is_replaced_by_its_last_good_version():
    quarantine = Quarantine()
    quarantine.served({"a": b"good"})
    assert changes(quarantine.refused({"a": b"bad"}, {"a": "no"}, 0.0)) == ({"a": b"good"}, ())
    assert quarantine.held["a"].reason == "no"


def test_a_refused_unit_that_never_was_good_is_left_out():
    assert changes(Quarantine().refused({"a": b"bad"}, {"a": "no"}, 0.0)) == ({}, ("a",))


def test_what_a_host_asks_of_its_clients_is_closed_rather_than_left_out():
    """Among many suspects its host may be tried without it."""
    wish = ClientCertificates(host="a.test", origin=Origin("Config", "", "tls"), authority="ca")
    quarantine = Quarantine()
    changed, removed = changes(quarantine.refused({"clients/a.test": encode_unit(wish)}, {"clients/a.test": "no"}, 0.0))
    closed = decode_unit(changed["clients/a.test"])
    assert isinstance(closed, ClientCertificates)
    assert (closed.host, closed.closed, removed) == ("a.test", 503, ())
    quarantine.served(changed)
    assert quarantine.due(FIRST_PAUSE_S, quiet=True) == {"clients/a.test": encode_unit(wish)}


def test_a_held_unit_is_not_published_again_until_it_changes():
    quarantine = Quarantine()
    quarantine.refused({"a": b"bad"}, {"a": "no"}, 0.0)
    assert changes(quarantine.admit({"a": b"bad", "b": b"1"}, ())) == ({"b": b"1"}, ())
    assert changes(quarantine.admit({"a": b"better"}, ())) == ({"a": b"better"}, ())
    assert quarantine.held == {}


def test_a_removed_unit_is_forgotten():
    quarantine = Quarantine()
    quarantine.served({"a": b"good"})
    quarantine.refused({"a": b"bad"}, {"a": "no"}, 0.0)
    assert changes(quarantine.admit({}, ("a",))) == ({}, ("a",))
    assert (quarantine.held, quarantine.good) == ({}, {})


def test_it_is_tried_again_ever_more_rarely():
    quarantine = Quarantine()
    quarantine.refused({"a": b"bad"}, {"a": "no"}, 0.0)
    assert quarantine.due(FIRST_PAUSE_S - 0.1, quiet=True) == {}
    assert quarantine.due(FIRST_PAUSE_S, quiet=False) == {}
    assert quarantine.due(FIRST_PAUSE_S, quiet=True) == {"a": b"bad"}
    assert quarantine.due(FIRST_PAUSE_S, quiet=True) == {}, "one trial at a time"
    quarantine.refused({"a": b"bad"}, {"a": "no"}, FIRST_PAUSE_S)
    assert quarantine.due(FIRST_PAUSE_S + 2 * FIRST_PAUSE_S - 0.1, quiet=True) == {}
    now_s = 0.0
    for _ in range(40):
        now_s = quarantine.held["a"].again_at_s
        assert quarantine.due(now_s, quiet=True)
        quarantine.refused({"a": b"bad"}, {"a": "no"}, now_s)
    assert quarantine.held["a"].again_at_s - now_s == LONGEST_PAUSE_S


def test_a_trial_that_serves_ends_the_quarantine():
    quarantine = Quarantine()
    quarantine.refused({"a": b"1"}, {"a": "no"}, 0.0)
    quarantine.served(quarantine.due(FIRST_PAUSE_S, quiet=True))
    assert quarantine.held == {}
    assert quarantine.good == {"a": b"1"}


def test_the_first_crash_accuses_nobody():
    quarantine = Quarantine()
    assert changes(quarantine.crashed({"a": b"1"}, "died", now_s=0.0)) == ({}, ())
    assert quarantine.held == {}


def test_units_that_served_before_are_never_suspects():
    quarantine = Quarantine()
    quarantine.served({"good": b"1", "changed": b"1"})
    units = {"good": b"1", "changed": b"2"}
    for _ in range(CRASHES):
        result = quarantine.crashed(units, "died", now_s=0.0)
    assert changes(result) == ({"changed": b"1"}, ())


def test_a_build_that_failed_is_proof_at_once():
    result = Quarantine().crashed({"a": b"1"}, "ValueError", now_s=0.0, sure=True)
    assert changes(result) == ({}, ("a",))


@pytest.mark.parametrize("guilty", [0, 1, 6, 12])
def test_among_many_suspects_the_guilty_one_is_found_in_halves(guilty):
    units = {f"unit{number:02}": b"1" for number in range(13)}
    bad = f"unit{guilty:02}"
    quarantine = Quarantine()
    for _ in range(CRASHES):
        quarantine.crashed(units, "died", now_s=0.0)
    assert set(quarantine.held) == set(units)
    crashes = 0
    while trial := quarantine.due(1.0, quiet=True):
        if bad in trial:
            crashes += 1
            quarantine.crashed(trial, "died", now_s=1.0)
        else:
            quarantine.served(trial)
    assert set(quarantine.held) == {bad}
    assert crashes <= 4
    assert set(quarantine.good) == set(units) - {bad}
