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
from stage.load import Load, pid_of, role, upstream
from stage.ports import spelled
from stage.running import Ingressd, route_to, running
from stage.wire import Client, ask, request_bytes

pytestmark = pytest.mark.process


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
        inside = Client(ingressd.http, timeout_s=60)
        inside.send(request_bytes("/", host="a.test", keep_alive=True))
        assert inside.reply().status == 200
        worker = pid_of(ingressd, "worker 0")
        clients += [socket.create_connection(ingressd.http, 10) for _ in range(400)]
        time.sleep(0.5)
        files = len(os.listdir(f"/proc/{worker}/fd"))
        assert 150 < files <= 256 - 40, "what is left is for endpoints"
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
        began = time.monotonic()
        assert ask(ingressd.http, host="a.test", timeout_s=5).status == 200
        assert time.monotonic() - began < 1.0
        inside.close()
    finally:
        for client in clients:
            client.close()
        ingressd.stop()


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_res_worker_sigkill(tmp_path: Path) -> None:
    """A random worker killed every second: no new connection fails, and the replacement accepts within 0.5 s."""
    with (
        upstream() as address,
        running(tmp_path, **route_to({"api": [address]}, workers=2, settings=PLAIN)) as ingressd,
    ):
        back_after: list[float] = []
        with Load(ingressd.http) as load:
            for kill in range(6):
                time.sleep(1.0)
                name = f"worker {kill % 2}"
                old = pid_of(ingressd, name)
                os.kill(old, signal.SIGKILL)
                killed = time.monotonic()
                ingressd.wait_until(lambda name=name, old=old: replaced(ingressd, name, old))
                back_after.append(time.monotonic() - killed)
            time.sleep(0.5)
        # Only what was inside the killed worker may have failed: no more than the threads of the load at each kill.
        assert len(load.outcomes) > 300
        assert len(load.bad()) <= 6 * load.threads
        refused = [one for one in load.bad() if "Refused" in one.error or "Timeout" in one.error]
        assert not refused, refused
        assert max(back_after) <= 0.5, back_after


@pytest.mark.slow
def test_res_worker_sigstop(tmp_path: Path) -> None:
    """A stopped worker strands no connection in a queue of its own, and is replaced."""
    with (
        upstream() as address,
        running(tmp_path, **route_to({"api": [address]}, workers=2, settings=PLAIN)) as ingressd,
    ):
        with Load(ingressd.http) as load:
            time.sleep(0.3)
            old = pid_of(ingressd, "worker 1")
            os.kill(old, signal.SIGSTOP)
            stopped = time.monotonic()
            ingressd.wait_until(lambda: replaced(ingressd, "worker 1", old), within_s=10)
            time.sleep(0.5)
        late = [one for one in load.outcomes if one.began_s > stopped and one.took_s > 1.0]
        assert load.bad(since_s=stopped) == []
        assert len(late) <= load.threads, "connections wait for a worker that does not run"


@pytest.mark.slow
def test_res_sigterm_drain(tmp_path: Path, echo_loop: EchoLoop) -> None:
    """SIGTERM under load, with downloads and WebSockets: the grace period serves all, what is under way finishes."""
    (slow,) = raise_echoes(echo_loop, "slow", does={"stream": {"chunks": 20, "interval_ms": 100}})
    (chat,) = raise_echoes(echo_loop, "chat")
    failures: Counter[str] = Counter()
    readiness: list[int] = []

    def download(ingressd: Ingressd) -> None:
        reply = ask(ingressd.http, host="slow.test", timeout_s=15)
        if reply.status != 200 or reply.text.count("chunk-") != 20 or not reply.complete:
            failures[f"download {reply.status} {reply.detail}"] += 1

    def talk(ingressd: Ingressd, ended: threading.Event) -> None:
        with Client(ingressd.http, timeout_s=15) as client:
            client.send(WEBSOCKET)
            upgraded = client.reply().status == 101
            while upgraded and not ended.is_set():
                client.send(b"\x81\x82\0\0\0\0hi")
                upgraded = client.take(4) == b"\x81\x02hi"
                time.sleep(0.05)
            if not upgraded:
                failures["websocket"] += 1

    settings = {**PLAIN, "shutdown-grace-period": "1", "worker-shutdown-timeout": "6s"}
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
                time.sleep(0.5)
                ingressd.send_signal(signal.SIGTERM)
                time.sleep(0.1)
                readiness.append(ingressd.ask_admin("/readyz"))
                time.sleep(0.6)
            began = time.monotonic()
            time.sleep(1.5)
            ended.set()
            for thread in threads:
                thread.join()
            assert ingressd.process.wait(6) == 0
            assert time.monotonic() - began < 6
        finally:
            ended.set()
            ingressd.stop()
            slow.close()
            chat.close()
    assert readiness == [503]
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
            time.sleep(0.3)
            ingressd.send_signal(signal.SIGUSR2)
            ingressd.wait_until(lambda: "serves; what ran before it drains" in ingressd.output(), within_s=20)
            ingressd.wait_until(lambda: not old & set(ingressd.children()), within_s=10)
            time.sleep(0.3)
        assert load.bad() == []
        assert len(load.outcomes) > 100
        if not ingressd.ended():
            ingressd.process.kill()  # It waits for idle clients, of which there are none.
