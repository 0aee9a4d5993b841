"""Which connection is taken, and which are closed."""

from __future__ import annotations

import asyncio

import pytest
from stage.played import PlayedTransport

from ingressd.observe.counters import WorkerCounters
from ingressd.protocol.h1 import HeadLimits
from ingressd.proxy.upstream.connection import UpstreamConnection
from ingressd.proxy.upstream.outbox import Outbox
from ingressd.proxy.upstream.pool import IdlePool, PoolLimits


@pytest.fixture
def outbox():
    loop = asyncio.new_event_loop()
    yield Outbox(loop)
    loop.close()


def limits(**changed) -> PoolLimits:
    return PoolLimits(**{"connections": 3, "idle_s": 60.0, "requests": 100, "age_s": 3600.0, **changed})


def connection(outbox: Outbox, server_name: str = "", opened_s: float = 0.0) -> UpstreamConnection:
    made = UpstreamConnection(
        memoryview(bytearray(64)), outbox, limits=HeadLimits(), server_name=server_name, opened_s=opened_s
    )
    made.connection_made(PlayedTransport())
    return made


def test_last_in_first_out(outbox: Outbox) -> None:
    pool = IdlePool(limits(), WorkerCounters())
    first, second = connection(outbox), connection(outbox)
    pool.release(first, 1.0)
    pool.release(second, 2.0)
    assert pool.take("") is second
    assert pool.take("") is first
    assert pool.take("") is None


def test_connections_under_another_server_name_are_not_interchangeable(outbox: Outbox) -> None:
    pool = IdlePool(limits(), WorkerCounters())
    shop, blog = connection(outbox, "shop.example"), connection(outbox, "blog.example")
    pool.release(shop, 1.0)
    pool.release(blog, 2.0)
    assert pool.take("shop.example") is shop
    assert pool.take("shop.example") is None
    assert pool.take("blog.example") is blog


@pytest.mark.parametrize(("changed", "now"), [({"connections": 0}, 1.0), ({"requests": 0}, 1.0), ({"age_s": 5.0}, 5.0)])
def test_limits_close_what_comes_back(outbox: Outbox, changed: dict[str, float], now: float) -> None:
    pool = IdlePool(limits(**changed), counters := WorkerCounters())
    one = connection(outbox)
    pool.release(one, now)
    assert one.transport.ended == "aborted"
    assert counters.pool_closed == 1
    assert pool.take("") is None


def test_the_oldest_makes_room(outbox: Outbox) -> None:
    pool = IdlePool(limits(connections=1), WorkerCounters())
    old, new = connection(outbox), connection(outbox)
    pool.release(old, 1.0)
    pool.release(new, 2.0)
    assert old.transport.ended == "aborted"
    assert pool.take("") is new


@pytest.mark.parametrize(("now", "left"), [(61.0, 1), (62.0, 0)])
def test_idle_time_is_counted_from_the_last_use(outbox: Outbox, now: float, left: int) -> None:
    pool = IdlePool(limits(), WorkerCounters())
    pool.release(connection(outbox), 1.0)
    pool.release(connection(outbox), 2.0)
    pool.sweep(now)
    assert len(pool.idle) == left


def test_a_leaving_endpoint_closes_idle_connections_now_and_busy_ones_after_their_answer(outbox: Outbox) -> None:
    pool = IdlePool(limits(), WorkerCounters())
    busy, idle = connection(outbox), connection(outbox)
    pool.opened(busy)
    pool.release(idle, 1.0)
    pool.close()
    assert (idle.transport.ended, busy.transport.ended) == ("aborted", "")
    pool.release(busy, 2.0)
    assert busy.transport.ended == "aborted"


def test_a_connection_that_the_peer_closed_is_gone_at_once(outbox: Outbox) -> None:
    pool = IdlePool(limits(), WorkerCounters())
    one = connection(outbox)
    pool.opened(one)
    pool.release(one, 1.0)
    one.connection_lost(None)
    assert repr(pool) == "<IdlePool 0 idle>"
