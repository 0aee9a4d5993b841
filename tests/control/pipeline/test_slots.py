"""A slot belongs to one endpoint until every worker has let go of it."""

import os

import pytest

from ingressd.control.pipeline.slots import REST_S, Slots
from ingressd.observe import shared_table
from ingressd.observe.shared_table import EJECTED_AT_US, EJECTED_UNTIL_MS, IN_FLIGHT, REQUESTS, SharedTable


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def table():
    table = SharedTable.create(2)
    yield table
    table.close()


def test_an_endpoint_keeps_its_slot_while_others_come_and_go(table, clock):
    slots = Slots(table, clock)
    slots.assign("a", ["1:1", "2:1"], version=1)
    before = dict(slots.of("a"))
    slots.assign("a", ["2:1", "3:1"], version=2)
    assert slots.of("a")["2:1"] == before["2:1"]
    assert len({before["1:1"], *slots.of("a").values()}) == 3
    assert 0 not in slots.of("a").values()


def test_the_same_address_in_two_upstreams_has_two_slots(table, clock):
    slots = Slots(table, clock)
    slots.assign("a", ["1:1"], version=1)
    slots.assign("b", ["1:1"], version=1)
    assert slots.of("a")["1:1"] != slots.of("b")["1:1"]


def test_a_slot_is_used_again_only_after_acknowledgement_last_exchange_and_rest(table, clock):
    slots = Slots(table, clock)
    slots.assign("a", ["1:1"], version=1)
    (slot,) = slots.of("a").values()
    column = table.column(1)
    column[table.base(slot) + IN_FLIGHT] = 1
    column[table.base(slot) + REQUESTS] = 9
    slots.assign("a", [], version=2)

    def next_slot() -> int:
        slots.assign("probe", ["9:9"], version=3)
        (found,) = slots.of("probe").values()
        slots.assign("probe", [], version=3)
        return found

    slots.release(acknowledged=1)
    clock.now_s += 10 * REST_S
    slots.release(acknowledged=1)
    assert table.sum(slot, REQUESTS) == 9, "not acknowledged"
    slots.release(acknowledged=2)
    clock.now_s += 10 * REST_S
    slots.release(acknowledged=2)
    assert table.sum(slot, REQUESTS) == 9, "an exchange still runs"
    column[table.base(slot) + IN_FLIGHT] = 0
    slots.release(acknowledged=2)
    clock.now_s += REST_S - 1
    slots.release(acknowledged=2)
    assert table.sum(slot, REQUESTS) == 9, "it rests"
    clock.now_s += 1
    slots.release(acknowledged=2)
    assert table.sum(slot, REQUESTS) == 0
    assert next_slot() == slot


def test_an_endpoint_that_comes_back_soon_finds_its_slot(table, clock):
    slots = Slots(table, clock)
    slots.assign("a", ["1:1"], version=1)
    before = dict(slots.of("a"))
    slots.assign("a", [], version=2)
    slots.release(acknowledged=2)
    slots.assign("a", ["1:1"], version=3)
    assert slots.of("a") == before


def test_a_controller_that_starts_again_gives_the_same_slots(table, clock):
    first = Slots(table, clock)
    first.assign("a", ["1:1", "2:1"], version=1)
    second = Slots(table, clock)
    second.assign("b", ["5:1"], version=2)
    second.assign("a", ["2:1"], version=2)
    assert second.of("a")["2:1"] == first.of("a")["2:1"]
    assert second.of("b")["5:1"] not in first.of("a").values()
    second.settle()
    second.release(acknowledged=2)
    clock.now_s += REST_S
    second.release(acknowledged=2)
    second.assign("b", ["5:1", "6:1"], version=3)
    assert second.of("b")["6:1"] == first.of("a")["1:1"], "what nobody asked for is free"


def test_endpoints_beyond_the_last_slot_get_none(table, clock, monkeypatch):
    monkeypatch.setattr("ingressd.control.pipeline.slots.MAX_SLOTS", 3)
    slots = Slots(table, clock)
    slots.assign("a", ["1:1", "2:1", "3:1"], version=1)
    assert len(slots.of("a")) == 2


def test_sums_over_endpoints(table, clock):
    slots = Slots(table, clock)
    slots.assign("a", ["1:1", "2:1"], version=1)
    one, two = (table.base(slot) for slot in slots.of("a").values())
    table.column(0)[one + IN_FLIGHT] = 2
    table.column(1)[two + IN_FLIGHT] = 3
    table.column(1)[two + EJECTED_UNTIL_MS] = int(clock.now_s * 1000) + 500
    table.column(1)[two + EJECTED_AT_US] = int(clock.now_s * 1e6)
    assert (slots.in_flight(), slots.ejected()) == (5, 1)
    clock.now_s += 1
    assert slots.ejected() == 0
    assert shared_table.MAX_SLOTS > 10_000


def test_a_controller_that_starts_again_looks_at_used_slots_only(table, clock):
    slots = Slots(table, clock)
    slots.assign("a", ["1:1", "2:1", "3:1"], version=1)
    before = dict(slots.of("a"))
    pages = os.fstat(table.fd).st_blocks
    again = Slots(table, clock)
    again.assign("b", ["4:1"], version=1)
    again.assign("a", ["3:1", "1:1"], version=1)
    assert dict(again.of("a")) == {address: before[address] for address in ("3:1", "1:1")}
    assert again.of("b")["4:1"] not in before.values()
    assert os.fstat(table.fd).st_blocks == pages
