"""SIGTERM and /readyz: no at once when standalone, after the drain delay in a cluster (KEP-1669)."""

from __future__ import annotations

import pytest

from ingressd.app.readiness import Readiness


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.mark.parametrize("in_cluster", [False, True])
def test_nothing_stands_in_the_way_before_the_drain(clock, in_cluster):
    readiness = Readiness(in_cluster=in_cluster, clock=clock)
    clock.now_s += 1e6
    assert readiness.allowed()


def test_standalone_it_ends_at_once_whatever_the_delay(clock):
    readiness = Readiness(in_cluster=False, clock=clock)
    readiness.drain(30.0)
    assert not readiness.allowed()


def test_in_a_cluster_it_ends_with_the_drain_delay(clock):
    readiness = Readiness(in_cluster=True, clock=clock)
    readiness.drain(30.0)
    clock.now_s += 29.9
    assert readiness.allowed()
    clock.now_s += 0.1
    assert not readiness.allowed()


def test_in_a_cluster_without_a_delay_it_ends_at_once(clock):
    readiness = Readiness(in_cluster=True, clock=clock)
    readiness.drain(0.0)
    assert not readiness.allowed()


def test_a_second_order_does_not_prolong_it(clock):
    readiness = Readiness(in_cluster=True, clock=clock)
    readiness.drain(30.0)
    clock.now_s += 20.0
    readiness.drain(30.0)
    clock.now_s += 10.0
    assert not readiness.allowed()
