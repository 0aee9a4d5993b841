"""Counters of one worker: cumulative, bounded, and only what changed is sent."""

import gc

import pytest

from ingressd.observe import counters
from ingressd.observe.counters import (
    CELL_LENGTH,
    COUNT,
    DURATION,
    OVERFLOW,
    RECEIVED,
    SENT,
    UPSTREAM,
    UPSTREAM_COUNT,
    WorkerCounters,
    decode_cell,
    decode_report,
)

NAMES = {"namespace": "shop", "ingress": "front", "service": "cart", "host": "shop.example.com"}


def rows(report):
    return {
        (labels, method, status): decode_cell(cell) for labels, cells in report.series for method, status, cell in cells
    }


def test_an_exchange_lands_in_its_buckets():
    worker = WorkerCounters()
    series = worker.series(**NAMES)
    series.add(b"GET", 200, duration_s=0.005, upstream_s=0.3, received_bytes=10, sent_bytes=99999999)
    ((_, method, status),) = rows(decode_report(worker.take()))
    cell = rows(decode_report(worker.take(everything=True)))[(series.labels, "GET", 200)]
    assert (method, status) == ("GET", 200)
    assert len(cell) == CELL_LENGTH
    assert cell[COUNT] == cell[UPSTREAM_COUNT] == 1
    # A bound belongs to its bucket; what is above all bounds is in the last bucket.
    assert [cell[DURATION], cell[UPSTREAM + 6], cell[RECEIVED], cell[SENT + 7]] == [1, 1, 1, 1]
    assert sum(cell[DURATION:]) == 4


def test_no_upstream_try_leaves_its_histogram_alone():
    worker = WorkerCounters()
    series = worker.series(**NAMES)
    series.add(b"GET", 404, duration_s=0.1, upstream_s=-1.0, received_bytes=1, sent_bytes=1)
    (cell,) = rows(decode_report(worker.take())).values()
    assert cell[UPSTREAM_COUNT] == 0
    assert sum(cell[UPSTREAM:RECEIVED]) == 0


def test_only_changed_series_are_sent_again():
    worker = WorkerCounters()
    one, two = worker.series(**NAMES), worker.series(**{**NAMES, "host": "b"})
    for series in (one, two):
        series.add(b"GET", 200, 0.1, 0.1, 1, 1)
    assert len(rows(decode_report(worker.take()))) == 2
    two.add(b"GET", 200, 0.1, 0.1, 1, 1)
    assert {(key[0][3], cell[COUNT]) for key, cell in rows(decode_report(worker.take())).items()} == {("b", 2)}
    assert len(rows(decode_report(worker.take(everything=True)))) == 2


def test_the_same_labels_are_the_same_series_while_somebody_holds_it():
    worker = WorkerCounters()
    one = worker.series(**NAMES)
    assert worker.series(**NAMES) is one
    one.add(b"GET", 200, 0.1, 0.1, 1, 1)
    worker.take()
    labels = one.labels
    del one
    gc.collect()
    assert decode_report(worker.take()).removed == [labels]


def test_methods_nobody_defined_are_one_label():
    worker = WorkerCounters()
    series = worker.series(**NAMES)
    for method in (b"BREW", b"GETGET", b"x" * 1000):
        series.add(method, 200, 0.1, 0.1, 1, 1)
    assert {(key[1], cell[COUNT]) for key, cell in rows(decode_report(worker.take())).items()} == {("OTHER", 3)}
    assert len(series.cells) == 1


def test_series_beyond_the_cap_are_counted_together(monkeypatch):
    monkeypatch.setattr(counters, "MAX_SERIES", 3)
    worker = WorkerCounters()
    series = worker.series(**NAMES)
    for status in range(200, 210):
        series.add(b"GET", status, 0.1, 0.1, 1, 1)
    report = rows(decode_report(worker.take()))
    assert len(report) == 4
    assert report[(OVERFLOW, "OTHER", 0)][COUNT] == 7


def test_process_numbers_travel_by_name():
    worker = WorkerCounters()
    worker.pool_opened += 4
    worker.loop_lag_max_s = 0.25
    assert decode_report(worker.take()).process["pool_opened"] == 4
    # The greatest lag is that since the last report.
    assert decode_report(worker.take()).process["loop_lag_max_s"] == 0.0


@pytest.mark.parametrize("junk", [b"", b"\xc1", b"\x93\x01"])
def test_a_broken_report_is_an_error_of_msgspec(junk):
    with pytest.raises(counters.msgspec.MsgspecError):
        decode_report(junk)
