"""Memory goes back after a burst, once, and not in its midst."""

from __future__ import annotations

from ingressd.proxy.tls.heap import EVENTS, QUIET_S, HeapTrim, libc_trim


class Later:
    def __init__(self):
        self.calls = []

    def call_later(self, delay_s, callback):
        self.calls.append((delay_s, callback))


def test_one_trim_for_a_burst_and_another_for_the_next():
    loop, trimmed = Later(), []
    heap = HeapTrim(loop, lambda: trimmed.append(1))
    for _ in range(EVENTS - 1):
        heap.count()
    assert loop.calls == []
    for _ in range(3 * EVENTS):
        heap.count()
    ((delay_s, callback),) = loop.calls
    assert delay_s == QUIET_S and not trimmed
    callback()
    assert trimmed == [1]
    for _ in range(EVENTS):
        heap.count()
    assert len(loop.calls) == 2


def test_another_libc_is_never_asked():
    loop = Later()
    heap = HeapTrim(loop, None)
    for _ in range(EVENTS):
        heap.count()
    assert loop.calls == []


def test_what_libc_offers_can_be_called():
    trim = libc_trim()
    assert trim is None or trim() is not None
