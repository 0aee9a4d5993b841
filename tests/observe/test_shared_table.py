"""One mapping for all processes: what one writes, the others read."""

import os

import pytest

from ingressd.observe.shared_table import (
    CONNECTIONS,
    DIRECTORY,
    GROUP_CELLS,
    IN_FLIGHT,
    MAX_SLOTS,
    MAX_WORKERS,
    REQUESTS,
    RETRIES,
    SLOT_CELLS,
    SLOTS_USED,
    WAITING,
    SharedTable,
)


@pytest.fixture
def table():
    table = SharedTable.create(workers=2)
    yield table
    table.close()


def test_what_one_mapping_writes_the_other_reads(table):
    other = SharedTable.attach(os.dup(table.fd))
    base = table.base(7)
    table.column(0)[base + IN_FLIGHT] += 3
    other.column(1)[base + IN_FLIGHT] += 4
    assert other.sum(7, IN_FLIGHT) == table.sum(7, IN_FLIGHT) == 7
    assert other.workers == 2
    other.close()


def test_sum_leaves_columns_beyond_the_workers_out(table):
    table.column(2)[table.base(1) + IN_FLIGHT] = 5
    assert table.sum(1, IN_FLIGHT) == 0
    table.workers = 3
    assert table.sum(1, IN_FLIGHT) == 5


def test_reap_zeroes_gauges_and_keeps_counters_of_that_worker_only(table):
    base = table.base(3)
    table.controller_column()[base + DIRECTORY] = 99
    table.controller_column()[SLOTS_USED] = 3
    for worker in (0, 1):
        column = table.column(worker)
        column[CONNECTIONS] = 8
        column[base + IN_FLIGHT] = 2
        column[base + REQUESTS] = 10
        column[table.group_base(base) + RETRIES] = 1
        column[table.group_base(base) + WAITING] = 1
    table.reap(0)
    assert [table.column(worker)[CONNECTIONS] for worker in (0, 1)] == [0, 8]
    assert table.sum(3, IN_FLIGHT) == 2
    assert table.sum(3, REQUESTS) == 20
    group = table.group_base(base)
    assert [list(table.column(worker)[group : group + GROUP_CELLS]) for worker in (0, 1)] == [[0, 0], [1, 1]]


def test_the_cells_of_groups_are_behind_those_of_all_slots_and_nobody_elses(table):
    last = table.base(MAX_SLOTS - 1)
    assert table.group_base(table.base(0)) == last + SLOT_CELLS
    assert table.group_base(table.base(1)) == table.group_base(table.base(0)) + GROUP_CELLS
    assert table.group_base(last) + GROUP_CELLS == len(table.column(0))


def test_clear_slot_leaves_the_neighbours(table):
    for slot in (4, 5, 6):
        table.column(1)[table.base(slot) + REQUESTS] = slot
        table.controller_column()[table.base(slot) + DIRECTORY] = slot
    table.clear_slot(5)
    assert [table.sum(slot, REQUESTS) for slot in (4, 5, 6)] == [4, 0, 6]
    assert table.controller_column()[table.base(5) + DIRECTORY] == 0


@pytest.mark.parametrize("count", [0, MAX_WORKERS + 1])
def test_a_number_of_workers_it_has_no_column_for_is_refused(table, count):
    with pytest.raises(ValueError, match="workers must be"):
        table.workers = count


def test_an_untouched_table_costs_no_memory(table):
    assert os.fstat(table.fd).st_blocks * 512 <= 64 * 1024


def test_endpoints_that_come_and_go_touch_no_pages_of_workers_that_there_are_not(table):
    for slot in range(1, 20_000, 64):
        table.clear_slot(slot)
    assert os.fstat(table.fd).st_blocks * 512 <= 3 * 20_000 * 64 + 64 * 1024
