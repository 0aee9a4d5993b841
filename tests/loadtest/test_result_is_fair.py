"""What turns runs into a result: the order of rounds, which runs count, the ratio, the builds, the pages."""

import argparse

import pytest

from loadtest import __main__ as bench
from loadtest import cell, field, idle, pages, table


def run(cost_us: float, *, disturbed: bool = False, load_own: float = 0.45) -> cell.Run:
    return cell.Run(
        cpu_us_per_request=cost_us,
        own_busy=0.5,
        cpu_busy=1.0 if disturbed else 0.55,
        load_busy=0.5,
        load_own=load_own,
        rps=1000.0,
        p50_us=100.0,
        p99_us=200.0,
        errors=1,
        requests=3000,
    )


def test_nobody_always_follows_the_same_neighbour():
    order = list(cell.interleaved(["a", "b", "c"], 3))
    assert order == [(0, "a"), (0, "b"), (0, "c"), (1, "b"), (1, "c"), (1, "a"), (2, "c"), (2, "a"), (2, "b")]


def test_disturbed_runs_do_not_count_while_there_are_others():
    result = cell.summary(
        [run(10), run(12), run(90, disturbed=True)], baseline=[run(10), run(99, disturbed=True)], memory_kib=(2, 3)
    )
    assert result["cpu_us_per_request"] == 11
    assert result["cpu_us_max"] == 12
    assert result["ratio_to_nginx"] == pytest.approx(1.1)
    assert result["disturbed"] == 1
    assert result["errors"] == 3


def test_a_run_is_disturbed_by_a_stranger_on_either_cpu():
    assert not run(10).disturbed
    assert run(10, disturbed=True).disturbed
    assert run(10, load_own=0.3).disturbed


def test_disturbed_runs_count_when_there_is_nothing_else():
    result = cell.summary([run(90, disturbed=True)], baseline=None, memory_kib=(2, 3))
    assert result["cpu_us_per_request"] == 90
    assert result["ratio_to_nginx"] is None


def test_builds_have_labels_and_relative_programs_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    builds = field.parse_builds(["pure=.venv/bin/ingressd --x", "ingressd"])
    assert builds == {"pure": f"{tmp_path}/.venv/bin/ingressd --x", "ingressd": "ingressd"}


def test_two_builds_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two builds"):
        field.parse_builds(["a=x", "a=y"])


@pytest.mark.parametrize(("full", "count"), [(False, 2 * (4 + 2)), (True, 2 * 4 * 3)])
def test_the_cross_through_the_matrix_and_all_of_it(full, count):
    options = argparse.Namespace(schemes="http,https", sizes=bench.SIZES, connections=bench.CONNECTIONS, full=full)
    cells = bench.cells_of(options)
    assert len(cells) == len(set(cells)) == count
    assert cell.Cell("https", 101, 64) in cells


def test_a_section_is_replaced_and_the_rest_of_the_page_stays():
    page = "before\n<!-- cells -->\nold | \\1\n<!-- /cells -->\nafter\n"
    assert (
        pages.replace_section(page, "cells", "new \\g<1>")
        == "before\n<!-- cells -->\nnew \\g<1>\n<!-- /cells -->\nafter\n"
    )


def test_a_page_without_the_section_is_an_error():
    with pytest.raises(ValueError, match="no section"):
        pages.replace_section("text", "cells", "new")


def test_a_table_is_aligned():
    assert table.render(("peer", "x"), [["nginx", "1.0"], ["a", "20.55"]]) == (
        "| peer  |     x |\n|-------|-------|\n| nginx |   1.0 |\n| a     | 20.55 |"
    )


def test_memory_of_a_connection_is_the_difference_shared_out():
    assert idle.per_connection_kib(1000, 17000, 8000) == 2.0
    with pytest.raises(ValueError, match="no connection"):
        idle.per_connection_kib(1, 2, 0)


@pytest.mark.parametrize("section", ["machine", "goals", "cells", "syscalls", "idle"])
def test_the_documentation_has_a_place_for_every_section(section):
    page = (pages.DOCS / "performance.md").read_text()
    assert pages.replace_section(page, section, "here").count("here\n<!-- /") == 1


def test_goals_compare_builds_of_ours_only_in_the_cell_they_are_about():
    peers = {"nginx": {"cpu_us_per_request": 10.0}, "ours": {"cpu_us_per_request": 12.0}}
    cells = [
        {"scheme": "http", "size_bytes": 101, "connections": 64, "peers": peers},
        {"scheme": "http", "size_bytes": 1024, "connections": 64, "peers": peers},
        {"scheme": "http", "size_bytes": 101, "connections": 1, "peers": peers},
    ]
    rows = pages.goals_text({"cells": cells}).splitlines()[2:]
    assert [row.split()[1:8] for row in rows] == [["ours,", "HTTP", "|", "nginx", "|", "1.20", "|"]]
