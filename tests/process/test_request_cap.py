"""`maxRequests`: no endpoint ever has more requests than it may, counted there; others wait, bounded and in order."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from stage.load import pid_of
from stage.ports import spelled
from stage.running import Ingressd, running
from stage.scripted import OK, Played, Scripted
from stage.wire import Client, ask, request_bytes

pytestmark = pytest.mark.process

BUSY_PATIENCE_S = 60.0


class Counting:
    """An upstream that counts the requests it has, and holds those for /hold… until they are let go."""

    def __init__(self) -> None:
        self.arrived: list[str] = []
        self.most = 0
        self.slow_s = 0.0
        self._has = 0
        self._held: dict[str, threading.Event] = {}
        self._changed = threading.Condition()
        self.scripted = Scripted(self._play)

    def _play(self, connection: Played) -> None:
        while head := connection.head():
            path = head.split()[1].decode()
            if head.startswith(b"POST "):
                connection.body(1)
            with self._changed:
                self.arrived.append(path)
                self._has += 1
                self.most = max(self.most, self._has)
                let_go = self._held.setdefault(path, threading.Event())
                self._changed.notify_all()
            upgrade = b"Upgrade:" in head
            if upgrade:
                connection.send(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
                )
            if path.startswith("/hold"):
                let_go.wait(BUSY_PATIENCE_S)
            elif self.slow_s:
                time.sleep(self.slow_s)
            with self._changed:
                self._has -= 1
            if upgrade:
                return
            connection.send(OK)

    def await_arrival(self, *paths: str) -> None:
        """Wait until these have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: set(paths) <= set(self.arrived), BUSY_PATIENCE_S), self.arrived

    def let_go(self, *paths: str) -> None:
        """Answer these."""
        for path in paths:
            self._held.setdefault(path, threading.Event()).set()

    def close(self) -> None:
        for event in list(self._held.values()):
            event.set()
        self.scripted.close()


@pytest.fixture
def counting() -> Iterator[list[Counting]]:
    upstreams = [Counting(), Counting()]
    yield upstreams
    for upstream in upstreams:
        upstream.close()


def capped(*upstreams: Counting, **cap: object) -> dict[str, object]:
    return {"endpoints": [spelled(upstream.scripted.address) for upstream in upstreams], **cap}


@contextlib.contextmanager
def behind(folder: Path, *upstreams: Counting, workers: int = 1, **cap: object) -> Iterator[Ingressd]:
    routes = [{"host": "api.test", "path": "/", "upstream": "api"}]
    with running(folder, workers=workers, routes=routes, upstreams={"api": capped(*upstreams, **cap)}) as ingressd:
        yield ingressd


@contextlib.contextmanager
def sent(ingressd: Ingressd, path: str, *lines: str) -> Iterator[Client]:
    """A request on its way."""
    with Client(ingressd.http, timeout_s=BUSY_PATIENCE_S) as client:
        client.send(request_bytes(path, host="api.test", lines=lines))
        yield client


def number_of(ingressd: Ingressd, metric: str) -> int:
    for line in ask(ingressd.admin, "/metrics", timeout_s=BUSY_PATIENCE_S).text.splitlines():
        if line.startswith(metric + " "):
            return int(float(line.split()[1]))
    raise AssertionError(f"no {metric}")


def await_waiting(ingressd: Ingressd, count: int) -> None:
    """Workers report once a second."""
    ingressd.wait_until(lambda: number_of(ingressd, "ingressd_upstream_requests_waiting") == count, within_s=30)


@pytest.mark.parametrize("workers", [1, 2])
def test_no_endpoint_ever_has_more_than_it_may(tmp_path: Path, counting: list[Counting], workers: int) -> None:
    statuses = []
    for upstream in counting:
        upstream.slow_s = 0.002
    with behind(tmp_path, *counting, workers=workers, maxRequests=3, pendingTimeout="60s") as ingressd:

        def visit() -> None:
            for _ in range(20):
                statuses.append(ask(ingressd.http, host="api.test", timeout_s=BUSY_PATIENCE_S).status)

        threads = [threading.Thread(target=visit) for _ in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert number_of(ingressd, "ingressd_upstream_requests_queued_total") > 0
    assert statuses == [200] * 480
    assert [upstream.most for upstream in counting] == [3, 3]


def test_who_finds_one_endpoint_dead_waits_for_the_other(tmp_path: Path, counting: list[Counting]) -> None:
    upstream, dead = counting
    upstream.slow_s = 0.002
    dead.scripted.close()
    statuses = []
    with behind(tmp_path, upstream, dead, workers=2, maxRequests=2, pendingTimeout="60s") as ingressd:

        def visit() -> None:
            for _ in range(20):
                reply = ask(ingressd.http, host="api.test", method="POST", body=b"x", timeout_s=BUSY_PATIENCE_S)
                statuses.append(reply.status)

        threads = [threading.Thread(target=visit) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert statuses == [200] * 240
    assert (upstream.most, len(upstream.arrived)) == (2, 240)


def test_who_waits_goes_in_order_and_who_is_too_many_comes_back_later(tmp_path, counting) -> None:
    upstream, _ = counting
    with behind(tmp_path, upstream, maxRequests=1, maxPending=2, pendingTimeout="60s") as ingressd:
        with sent(ingressd, "/hold/1") as first:
            upstream.await_arrival("/hold/1")
            with sent(ingressd, "/hold/2") as second:
                await_waiting(ingressd, 1)
                with sent(ingressd, "/hold/3") as third:
                    await_waiting(ingressd, 2)
                    reply = ask(ingressd.http, "/full", host="api.test")
                    assert (reply.status, reply.one("Retry-After")) == (503, "1")
                    upstream.let_go("/hold/1")
                    upstream.await_arrival("/hold/2")
                    assert first.reply().status == 200
                    upstream.let_go("/hold/2", "/hold/3")
                    assert [second.reply().status, third.reply().status] == [200, 200]
        assert upstream.arrived == ["/hold/1", "/hold/2", "/hold/3"]
        assert upstream.most == 1
        (line,) = ingressd.access_lines(path="/full")
        assert "as many wait as may" in line["error"]
        ingressd.wait_until(lambda: number_of(ingressd, "ingressd_upstream_queue_full_total") == 1)


def test_who_waits_too_long_comes_back_later_and_who_leaves_waits_no_more(tmp_path, counting) -> None:
    upstream, other = counting
    with (
        behind(tmp_path, upstream, maxRequests=1, maxPending=2, pendingTimeout="2s") as ingressd,
        sent(ingressd, "/hold/1") as first,
    ):
        upstream.await_arrival("/hold/1")
        reply = ask(ingressd.http, "/slow", host="api.test", method="POST", body=b"x" * 200_000, timeout_s=30)
        assert (reply.status, reply.one("Retry-After")) == (503, "1")
        ingressd.change(
            routes=[*ingressd.config["routes"], {"host": "now.test", "path": "/", "upstream": "other"}],
            upstreams={"api": capped(upstream, maxRequests=1, pendingTimeout="60s"), "other": capped(other)},
            live=lambda: ask(ingressd.http, host="now.test").status == 200,
        )
        with sent(ingressd, "/gone"):
            await_waiting(ingressd, 1)
        await_waiting(ingressd, 0)
        upstream.let_go("/hold/1")
        assert first.reply().status == 200
        assert ask(ingressd.http, "/after", host="api.test").status == 200
        assert upstream.arrived == ["/hold/1", "/after"]


def test_a_tunnel_counts_while_it_is_open(tmp_path, counting) -> None:
    upstream, _ = counting
    with (
        behind(tmp_path, upstream, maxRequests=1, pendingTimeout="60s") as ingressd,
        sent(ingressd, "/hold/tunnel", "Connection: upgrade", "Upgrade: websocket") as tunnel,
    ):
        assert b"101" in tunnel.receive()
        with sent(ingressd, "/next") as waits:
            await_waiting(ingressd, 1)
            assert upstream.arrived == ["/hold/tunnel"]
            upstream.let_go("/hold/tunnel")
            tunnel.close()
            assert waits.reply().status == 200


def test_who_waits_goes_when_an_endpoint_comes_and_when_the_cap_is_lifted(tmp_path, counting) -> None:
    upstream, new = counting
    with behind(tmp_path, upstream, maxRequests=1, pendingTimeout="60s") as ingressd, contextlib.ExitStack() as clients:
        clients.enter_context(sent(ingressd, "/hold/1"))
        upstream.await_arrival("/hold/1")
        for number in (2, 3, 4):
            clients.enter_context(sent(ingressd, f"/hold/{number}"))
        await_waiting(ingressd, 3)
        both = capped(upstream, new, maxRequests=1, pendingTimeout="60s")
        ingressd.change(upstreams={"api": both}, live=lambda: len(new.arrived) == 1)
        await_waiting(ingressd, 2)
        lifted = capped(upstream, new)
        ingressd.change(upstreams={"api": lifted}, live=lambda: len(upstream.arrived + new.arrived) == 4)
        upstream.let_go("/hold/1", "/hold/2", "/hold/3", "/hold/4")
        new.let_go("/hold/1", "/hold/2", "/hold/3", "/hold/4")


def test_who_waits_is_told_when_its_endpoints_leave(tmp_path: Path, counting: list[Counting]) -> None:
    upstream, new = counting
    cap = {"maxRequests": 1, "pendingTimeout": "60s"}
    with behind(tmp_path, upstream, **cap) as ingressd, sent(ingressd, "/hold/1") as first:
        upstream.await_arrival("/hold/1")
        with sent(ingressd, "/moves") as moves:
            await_waiting(ingressd, 1)
            ingressd.change(upstreams={"api": capped(new, **cap)}, live=lambda: new.arrived == ["/moves"])
            assert moves.reply().status == 200
        with sent(ingressd, "/hold/2"):
            new.await_arrival("/hold/2")
            with sent(ingressd, "/stranded") as stranded:
                await_waiting(ingressd, 1)
                ingressd.change(upstreams={"api": capped(**cap)}, live=lambda: True)
                assert stranded.reply().status == 503
        upstream.let_go("/hold/1")
        assert first.reply().status == 200
    assert upstream.arrived == ["/hold/1"]


def test_a_drain_answers_who_waits(tmp_path, counting) -> None:
    upstream, _ = counting
    with (
        behind(tmp_path, upstream, maxRequests=1, pendingTimeout="60s") as ingressd,
        sent(ingressd, "/hold/1") as first,
    ):
        upstream.await_arrival("/hold/1")
        with sent(ingressd, "/hold/2") as second:
            await_waiting(ingressd, 1)
            os.kill(ingressd.process.pid, signal.SIGTERM)
            ingressd.wait_until(lambda: ingressd.ask_admin("/readyz") != 200)
            upstream.let_go("/hold/1", "/hold/2")
            assert [first.reply().status, second.reply().status] == [200, 200]


def test_the_places_of_a_worker_that_was_killed_are_free_again(tmp_path, counting) -> None:
    upstream, _ = counting
    with (
        behind(tmp_path, upstream, workers=1, maxRequests=1, pendingTimeout="60s") as ingressd,
        sent(ingressd, "/hold/1"),
    ):
        upstream.await_arrival("/hold/1")
        os.kill(pid_of(ingressd, "worker 0"), signal.SIGKILL)
        assert ask(ingressd.http, "/after", host="api.test", timeout_s=BUSY_PATIENCE_S).status == 200
