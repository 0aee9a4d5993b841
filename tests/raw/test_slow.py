"""The recipes of class slow: clients that read as little as TCP lets them."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest
from raw.conftest import PLAIN
from stage.canary import Canary
from stage.load import pid_of
from stage.ports import spelled
from stage.running import running
from stage.scripted import Played, scripted
from stage.wire import ask

pytestmark = pytest.mark.process

CLIENTS = 300
BIG = 1 << 20
WAITS_S = 12
"""How long the proxy waits for somebody who reads nothing."""


@pytest.mark.slow
def test_slow_zero_window_many(tmp_path: Path) -> None:
    """Hundreds of clients ask for much three times over and read five bytes a second, or nothing: nobody else waits for
    them, what they hold is bounded, those that read nothing are let go, and nothing is left of them.
    """

    def big(connection: Played) -> None:
        while head := connection.head():
            size = BIG if b" /big" in head else 2
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)

    request = b"GET /big HTTP/1.1\r\nHost: a.test\r\n\r\n" * 3
    with (
        scripted(big) as upstream,
        running(
            tmp_path,
            routes=[{"host": "a.test", "path": "/", "upstream": "up"}],
            upstreams={"up": {"endpoints": [spelled(upstream.address)]}},
            settings={**PLAIN, "client-send-timeout": str(WAITS_S)},
        ) as ingressd,
    ):
        worker = pid_of(ingressd, "worker 0")
        assert ask(ingressd.http, host="a.test").status == 200
        files, memory = len(os.listdir(f"/proc/{worker}/fd")), ingressd.memory_kib()
        abusers: list[socket.socket] = []
        ended = threading.Event()

        def read_slowly() -> None:
            while not ended.wait(1.0):
                for abuser in abusers[: CLIENTS // 2]:
                    try:
                        abuser.recv(5, socket.MSG_DONTWAIT)
                    except OSError:
                        continue

        reading = threading.Thread(target=read_slowly)
        try:
            for _ in range(CLIENTS):
                abuser = socket.socket()
                abuser.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
                abuser.connect(ingressd.http)
                abuser.sendall(request)
                abusers.append(abuser)
            reading.start()
            # A host without a route: the proxy is asked, and not our upstream. How many milliseconds that takes is for
            # loadtest/abuse: here, who waited for one of them would do so for longer than the canary may.
            with Canary(ingressd.http, "nobody.test") as canary:
                time.sleep(3)
            grown = ingressd.memory_kib() - memory
            assert grown < CLIENTS * 256, f"{grown / CLIENTS:.0f} KiB for each"
            assert set(canary.statuses) == {404}
            assert max(canary.took_s) < WAITS_S, max(canary.took_s)
            assert ask(ingressd.http, host="a.test").status == 200
            # All of those that read nothing.
            ingressd.wait_until(lambda: all(_is_closed(abuser) for abuser in abusers[CLIENTS // 2 :]))
        finally:
            ended.set()
            reading.join()
            for abuser in abusers:
                abuser.close()
        ingressd.wait_until(lambda: len(os.listdir(f"/proc/{worker}/fd")) <= files + 5)


def _is_closed(sock: socket.socket) -> bool:
    """Whether the peer has ended or reset it, seen without reading what is there."""
    state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state != 1  # TCP_ESTABLISHED
