"""Which connection is taken, and which are closed."""

from __future__ import annotations

import asyncio

import pytest
from stage.played import PlayedTransport

from ingressd.observe.counters import WorkerCounters
from ingressd.protocol.h1 import HeadLimits
from ingressd.proxy.upstream.connection import UpstreamConnection
from ingressd.proxy.upstream.outbox import Outbox
from ingressd.proxy.upstream.pool import IdlePool, IdleRoom, PoolLimits


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
    pool = IdlePool(limits(), WorkerCounters(), IdleRoom())
    first, second = connection(outbox), connection(outbox)
    pool.release(first, 1.0)
    pool.release(second, 2.0)
    assert pool.take("") is second
    assert pool.take("") is first
    assert pool.take("") is None


def test_connections_under_another_server_name_are_not_interchangeable(outbox: Outbox) -> None:
    pool = IdlePool(limits(), WorkerCounters(), IdleRoom())
    shop, blog = connection(outbox, "shop.example"), connection(outbox, "blog.example")
    pool.release(shop, 1.0)
    pool.release(blog, 2.0)
    assert pool.take("shop.example") is shop
    assert pool.take("shop.example") is None
    assert pool.take("blog.example") is blog


@pytest.mark.parametrize(("changed", "now"), [({"connections": 0}, 1.0), ({"requests": 0}, 1.0), ({"age_s": 5.0}, 5.0)])
def test_limits_close_what_comes_back(outbox: Outbox, changed: dict[str, float], now: float) -> None:
    pool = IdlePool(limits(**changed), counters := WorkerCounters(), IdleRoom())
    one = connection(outbox)
    pool.release(one, now)
    assert one.transport.ended == "aborted"
    assert counters.pool_closed == 1
    assert pool.take("") is None


def test_the_oldest_makes_room(outbox: Outbox) -> None:
    pool = IdlePool(limits(connections=1), WorkerCounters(), IdleRoom())
    old, new = connection(outbox), connection(outbox)
    pool.release(old, 1.0)
    pool.release(new, 2.0)
    assert old.transport.ended == "aborted"
    assert pool.take("") is new


@pytest.mark.parametrize(("now", "left"), [(61.0, 1), (62.0, 0)])
def test_idle_time_is_counted_from_the_last_use(outbox: Outbox, now: float, left: int) -> None:
    pool = IdlePool(limits(), WorkerCounters(), IdleRoom())
    pool.release(connection(outbox), 1.0)
    pool.release(connection(outbox), 2.0)
    pool.sweep(now)
    assert len(pool.idle) == left


def test_a_leaving_endpoint_closes_idle_connections_now_and_busy_ones_after_their_answer(outbox: Outbox) -> None:
    pool = IdlePool(limits(), WorkerCounters(), IdleRoom())
    busy, idle = connection(outbox), connection(outbox)
    pool.opened(busy)
    pool.release(idle, 1.0)
    pool.close()
    assert (idle.transport.ended, busy.transport.ended) == ("aborted", "")
    pool.release(busy, 2.0)
    assert busy.transport.ended == "aborted"


def test_a_connection_that_the_peer_closed_is_gone_at_once(outbox: Outbox) -> None:
    pool = IdlePool(limits(), WorkerCounters(), IdleRoom())
    one = connection(outbox)
    pool.opened(one)
    pool.release(one, 1.0)
    one.connection_lost(None)
    assert repr(pool) == "<IdlePool 0 idle>"


def test_room_counts_what_is_idle_however_it_comes_and_goes(outbox: Outbox) -> None:
    room = IdleRoom()
    pool = IdlePool(limits(), WorkerCounters(), room)
    ones = [connection(outbox, name) for name in ("a", "a", "b")]
    for at, one in enumerate(ones):
        pool.opened(one)
        pool.release(one, float(at))
    assert room.count == 3
    assert pool.take("a") is ones[1]  # From under one of another name.
    assert room.count == 2
    pool.release(ones[1], 3.0)
    ones[2].connection_lost(None)
    assert room.count == 2
    pool.sweep(60.0)
    assert room.count == 1
    pool.release(connection(outbox), 61.0)
    pool.drop_idle()
    assert room.count == 0
    pool.release(connection(outbox), 62.0)
    pool.close()
    assert room.count == 0


def test_a_worker_that_keeps_too_many_hears_of_it(outbox: Outbox) -> None:
    heard = []
    room = IdleRoom(lambda: heard.append(room.count))
    pools = [IdlePool(limits(connections=2), WorkerCounters(), room) for _ in range(3)]
    for at, pool in enumerate(pools):
        pool.release(connection(outbox), float(at))
    assert heard == [3]


def test_the_oldest_are_retired_first(outbox: Outbox) -> None:
    pool = IdlePool(limits(), WorkerCounters(), room := IdleRoom())
    ones = [connection(outbox) for _ in range(3)]
    for at, one in enumerate(ones):
        pool.release(one, float(at))
    pool.retire_oldest(2)
    assert [one.transport.ended for one in ones] == ["aborted", "aborted", ""]
    assert room.count == 1
