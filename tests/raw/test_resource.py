"""The recipes of class resource that need no network of their own (those are in test_networks.py)."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from raw.conftest import PLAIN
from stage.echo import Echo, EchoLoop, raise_echoes
from stage.load import Load, cpu_s, fetch, pid_of, role, standing_still, stop, upstream
from stage.ports import spelled
from stage.running import PATIENCE_S, Ingressd, route_to, running
from stage.wire import Client, ask, request_bytes

pytestmark = pytest.mark.process


def replaced(ingressd: Ingressd, name: str, old: int) -> bool:
    return any(role(pid) == name and pid != old for pid in ingressd.children())


# --- file descriptors -------------------------------------------------------------------------------------------------


def test_res_emfile_accept(tmp_path: Path, echo: Echo) -> None:
    """256 file descriptors, 400 idle clients: no spin, no flood of lines, those inside are served, room is noticed."""
    if shutil.which("prlimit") is None:
        pytest.skip("the program prlimit is not installed")
    ingressd = Ingressd(
        tmp_path,
        routes=[{"host": "a.test", "path": "/", "upstream": "up"}],
        upstreams={"up": {"endpoints": [spelled(echo.address)]}},
        # No connection to an endpoint is kept, so each request needs a file descriptor more.
        settings={
            **PLAIN,
            "keep-alive": "60",
            "client-header-timeout": "60",
            "upstream-keepalive-connections": "0",
        },
    )
    ingressd.wrapper = ["prlimit", "--nofile=256", "--"]
    ingressd.start()
    clients: list[socket.socket] = []
    try:
        inside = Client(ingressd.http, timeout_s=4 * PATIENCE_S)
        inside.send(request_bytes("/", host="a.test", keep_alive=True))
        assert inside.reply().status == 200
        worker = pid_of(ingressd, "worker 0")
        clients += [socket.create_connection(ingressd.http, PATIENCE_S) for _ in range(400)]

        def files() -> int:
            return len(os.listdir(f"/proc/{worker}/fd"))

        ingressd.wait_until(lambda: files() > 150)
        time.sleep(0.5)
        assert 150 < files() <= 256 - 40, "what is left is for endpoints"
        spent, began = cpu_s(worker), time.monotonic()
        for _ in range(20):
            inside.send(request_bytes("/", host="a.test", keep_alive=True))
            assert inside.reply().status == 200
            time.sleep(0.05)
        share = (cpu_s(worker) - spent) / (time.monotonic() - began)
        assert share < 0.5, f"{share:.0%} of a CPU for nothing"
        assert len(ingressd.output().splitlines()) < 100
        for client in clients[:250]:
            client.close()
        # Of those that stay none has to go for a minute (client-header-timeout), so room is noticed at once or never.
        assert ask(ingressd.http, host="a.test", timeout_s=PATIENCE_S).status == 200
        inside.close()
    finally:
        for client in clients:
            client.close()
        ingressd.stop()


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_res_worker_sigkill(tmp_path: Path) -> None:
    """A random worker killed every second: no new connection fails, and the replacement accepts (how soon it is started
    is for tests/supervise/test_backoff.py).
    """
    with (
        upstream() as address,
        running(tmp_path, **route_to({"api": [address]}, workers=2, settings=PLAIN)) as ingressd,
    ):
        with Load(ingressd.http) as load:
            for kill in range(6):
                time.sleep(1.0)
                load.wait_for(50)
                name = f"worker {kill % 2}"
                old = pid_of(ingressd, name)
                os.kill(old, signal.SIGKILL)
                ingressd.wait_until(lambda name=name, old=old: replaced(ingressd, name, old))
            load.wait_for(50)
            ingressd.wait_until(lambda: ingressd.ask_admin("/readyz") == 200)
        # Only what was inside the killed worker may have failed: no more than the threads of the load at each kill.
        assert len(load.bad()) <= 6 * load.threads
        refused = [one for one in load.bad() if "Refused" in one.error or "Timeout" in one.error]
        assert not refused, refused


@pytest.mark.slow
def test_res_worker_sigstop(tmp_path: Path) -> None:
    """A stopped worker strands no connection in a queue of its own, and is replaced."""
    with (
        upstream() as address,
        running(tmp_path, **route_to({"api": [address]}, workers=2, settings=PLAIN)) as ingressd,
    ):
        with Load(ingressd.http) as load:
            load.wait_for(50)
            old = pid_of(ingressd, "worker 1")
            # The supervisor stands still, too, so that nobody replaces the worker for whom connections might wait.
            with standing_still(ingressd.process.pid):
                stop(old)
                stopped = time.monotonic()
                assert [fetch(ingressd.http).status for _ in range(100)] == [200] * 100
            ingressd.wait_until(lambda: replaced(ingressd, "worker 1", old))
            load.wait_for(50)
        assert load.bad(since_s=stopped) == []


@pytest.mark.slow
def test_res_sigterm_drain(tmp_path: Path, echo_loop: EchoLoop) -> None:
    """SIGTERM under load, with downloads and WebSockets: the grace period serves all, what is under way finishes."""
    (slow,) = raise_echoes(echo_loop, "slow", does={"stream": {"chunks": 60, "interval_ms": 100}})
    (chat,) = raise_echoes(echo_loop, "chat")
    failures: Counter[str] = Counter()
    talking = threading.Semaphore(0)

    def download(ingressd: Ingressd) -> None:
        reply = ask(ingressd.http, host="slow.test", timeout_s=4 * PATIENCE_S)
        if reply.status != 200 or reply.text.count("chunk-") != 60 or not reply.complete:
            failures[f"download {reply.status} {reply.detail}"] += 1

    def talk(ingressd: Ingressd, ended: threading.Event) -> None:
        with Client(ingressd.http, timeout_s=4 * PATIENCE_S) as client:
            client.send(WEBSOCKET)
            upgraded = client.reply().status == 101
            talking.release()
            while upgraded and not ended.is_set():
                client.send(b"\x81\x82\0\0\0\0hi")
                upgraded = client.take(4) == b"\x81\x02hi"
                time.sleep(0.05)
            if not upgraded:
                failures["websocket"] += 1

    settings = {**PLAIN, "shutdown-grace-period": "4", "worker-shutdown-timeout": "120s"}
    with upstream() as address:
        addresses = {"api": [address], "slow": [slow.address], "chat": [chat.address]}
        ingressd = Ingressd(tmp_path, **route_to(addresses, workers=2, settings=settings))
        ingressd.start()
        ended = threading.Event()
        threads = [threading.Thread(target=download, args=(ingressd,)) for _ in range(20)]
        threads += [threading.Thread(target=talk, args=(ingressd, ended)) for _ in range(20)]
        try:
            with Load(ingressd.http) as load:
                for thread in threads:
                    thread.start()
                ingressd.wait_until(lambda: len(slow.seen) == 20)
                assert all(talking.acquire(timeout=PATIENCE_S) for _ in range(20))
                load.wait_for(20)
                ingressd.send_signal(signal.SIGTERM)
                ingressd.wait_until(lambda: ingressd.ask_admin("/readyz") == 503)
                load.wait_for(20)
            # The downloads take longer than the grace period, and the WebSockets end when we let them.
            ingressd.wait_until(lambda: "Refused" in fetch(ingressd.http).error)
            ended.set()
            for thread in threads:
                thread.join()
            assert ingressd.process.wait(PATIENCE_S) == 0, "nothing to wait for"
        finally:
            ended.set()
            ingressd.stop()
            slow.close()
            chat.close()
    assert load.bad() == []
    assert not failures


WEBSOCKET = (
    b"GET / HTTP/1.1\r\nHost: chat.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.mark.slow
def test_res_upgrade_handoff(tmp_path: Path) -> None:
    """SIGUSR2: a new supervisor takes the listening sockets over, the old one drains, and nobody notices."""
    with (
        upstream() as address,
        running(tmp_path, **route_to({"api": [address]}, workers=2, settings=PLAIN)) as ingressd,
    ):
        old = {pid_of(ingressd, "worker 0"), pid_of(ingressd, "worker 1")}
        with Load(ingressd.http) as load:
            load.wait_for(50)
            ingressd.send_signal(signal.SIGUSR2)
            ingressd.wait_until(
                lambda: "serves; what ran before it drains" in ingressd.output(), within_s=3 * PATIENCE_S
            )
            ingressd.wait_until(lambda: not old & set(ingressd.children()))
            load.wait_for(50)
        assert load.bad() == []
        if not ingressd.ended():
            ingressd.process.kill()  # It waits for idle clients, of which there are none.
