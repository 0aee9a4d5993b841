"""Processes that are killed, stopped or hung are replaced, and nobody else notices."""

from __future__ import annotations

import os
import signal
import time

import pytest
from stage.load import Load, alive, fetch, pid_of, role, standing_still, stop, upstream
from stage.running import PATIENCE_S, Ingressd, route_to, running

pytestmark = pytest.mark.process


@pytest.fixture
def ingressd(tmp_path):
    with upstream() as address, running(tmp_path, **route_to({"api": [address]}, workers=2, settings=PLAIN)) as started:
        yield started


PLAIN = {"ssl-redirect": "false"}


def replaced(ingressd: Ingressd, name: str, old: int) -> bool:
    return any(role(pid) == name and pid != old for pid in ingressd.children())


@pytest.mark.parametrize("victim", ["worker 0", "worker 1"])
def test_a_killed_worker_costs_no_new_connection(ingressd, victim):
    with Load(ingressd.http) as load:
        load.wait_for(50)
        old = pid_of(ingressd, victim)
        os.kill(old, signal.SIGKILL)
        killed_s = time.monotonic()
        ingressd.wait_until(lambda: replaced(ingressd, victim, old))
        load.wait_for(200)
    assert load.bad(since_s=killed_s) == []
    # Only what ran in the killed worker at that moment may be lost.
    assert len(load.bad()) <= load.threads
    ingressd.wait_until(lambda: ingressd.ask_admin("/readyz") == 200)


@pytest.mark.slow
def test_a_worker_killed_every_two_seconds_costs_no_new_connection(ingressd):
    killed_s = []
    with Load(ingressd.http) as load:
        for number in range(4):
            time.sleep(0.5)
            victim = f"worker {number % 2}"
            old = pid_of(ingressd, victim)
            began_s = time.monotonic()
            os.kill(old, signal.SIGKILL)
            killed_s.append((began_s, time.monotonic()))
            ingressd.wait_until(lambda victim=victim, old=old: replaced(ingressd, victim, old))
            time.sleep(max(0.0, began_s + 1.5 - time.monotonic()))
            load.wait_for(100)
    # Only what ran in the killed worker at that moment may be lost: it began before, and ended after.
    unexplained = [
        one
        for one in load.bad()
        if not any(one.began_s <= after and before <= one.began_s + one.took_s for before, after in killed_s)
    ]
    assert unexplained == []
    assert len(load.bad()) <= len(killed_s) * load.threads
    ingressd.wait_until(lambda: ingressd.ask_admin("/readyz") == 200)


def test_a_stopped_worker_is_replaced_and_costs_no_new_connection(ingressd):
    with Load(ingressd.http) as load:
        load.wait_for(50)
        old = pid_of(ingressd, "worker 0")
        # As long as the supervisor stands still, too, nobody replaces the worker: who waits for it, waits in vain.
        with standing_still(ingressd.process.pid):
            stop(old)
            stopped_s = time.monotonic()
            assert [fetch(ingressd.http).status for _ in range(100)] == [200] * 100
        ingressd.wait_until(lambda: replaced(ingressd, "worker 0", old))
        load.wait_for(50)
    assert load.bad(since_s=stopped_s) == []
    assert not alive(old)


def test_a_killed_controller_is_unnoticed_and_comes_back(ingressd):
    with Load(ingressd.http) as load:
        load.wait_for(50)
        old = pid_of(ingressd, "controller")
        workers = {pid_of(ingressd, "worker 0"), pid_of(ingressd, "worker 1")}
        os.kill(old, signal.SIGKILL)
        ingressd.wait_until(lambda: replaced(ingressd, "controller", old))
        ingressd.wait_until(lambda: ingressd.ask_admin("/readyz") == 200)
        # The new controller's changes reach the old workers.
        routes = [*ingressd.config["routes"], {"host": "more.test", "path": "/", "upstream": "api"}]
        ingressd.change(routes=routes, live=lambda: fetch(ingressd.http, host="more.test").status == 200)
    assert load.bad() == []
    assert {pid_of(ingressd, "worker 0"), pid_of(ingressd, "worker 1")} == workers


def test_a_stopped_controller_is_replaced(ingressd):
    old = pid_of(ingressd, "controller")
    os.kill(old, signal.SIGSTOP)
    ingressd.wait_until(lambda: replaced(ingressd, "controller", old))
    ingressd.wait_until(lambda: ingressd.ask_admin("/readyz") == 200)
    assert not alive(old)


def test_nothing_outlives_a_killed_supervisor(tmp_path):
    with upstream() as address:
        ingressd = Ingressd(tmp_path, **route_to({"api": [address]}, workers=2))
        ingressd.start()
        children = ingressd.children()
        assert len(children) == 3
        os.kill(children[0], signal.SIGSTOP)  # Not even one that cannot react.
        ingressd.process.kill()
        ingressd.process.wait()
        until_s = time.monotonic() + PATIENCE_S
        while any(map(alive, children)) and time.monotonic() < until_s:
            time.sleep(0.01)
        assert [role(pid) for pid in children if alive(pid)] == []
        ingressd.stop()


def test_a_worker_signalled_by_hand_finishes_what_it_does(ingressd):
    with Load(ingressd.http, path="/sleep/0.05") as load:
        load.wait_for(20)
        old = pid_of(ingressd, "worker 0")
        os.kill(old, signal.SIGTERM)
        ingressd.wait_until(lambda: replaced(ingressd, "worker 0", old))
        load.wait_for(50)
    assert load.bad() == []
