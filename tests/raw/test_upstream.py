"""The recipes of class upstream that need no network of their own (those are in test_networks.py)."""

from __future__ import annotations

import gzip
import os
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from raw.conftest import PLAIN
from stage.load import pid_of
from stage.ports import spelled
from stage.running import Ingressd, running
from stage.scripted import OK, Played, scripted
from stage.wire import Client, Reply, ask, request_bytes

pytestmark = pytest.mark.process

EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"


def hosts(count: int) -> list[str]:
    return [f"h{number}.test" for number in range(count)]


def open_files(ingressd: Ingressd) -> int:
    return len(os.listdir(f"/proc/{pid_of(ingressd, 'worker 0')}/fd"))


@pytest.mark.slow
def test_up_unsolicited_on_idle(tmp_path: Path) -> None:
    """An upstream pushes an answer on an idle connection 50 ms after the last; a request at any moment gets its own.

    Every time through an upstream of its own: one that has pushed once is not trusted with a kept connection for a
    while, and so could not be caught pushing again. Where the request was with the upstream already when it had pushed,
    nothing on earth tells the two answers apart; those moments are counted.
    """
    names = hosts(500)

    def pushing(connection: Played) -> None:
        if not connection.head():
            return
        connection.send(OK)
        asked = connection.head_within(0.05)
        if not asked:
            connection.send(EVIL)
            too_late.append(connection.is_asked())
            asked = connection.head()
        while asked:
            connection.send(OK)
            asked = connection.head()

    def ask_twice(ingressd: Ingressd, mine: list[str], seed: int) -> None:
        random = Random(seed)
        for host in mine:
            with Client(ingressd.http, timeout_s=300) as client:
                for pause in (0.0, random.choice((random.uniform(0, 0.1), random.uniform(0.049, 0.052)))):
                    time.sleep(pause)
                    client.send(request_bytes("/", host=host, keep_alive=True))
                    reply = client.reply()
                    outcomes[reply.status, reply.body] += 1

    too_late: list[bool] = []
    outcomes: Counter[tuple[int, bytes]] = Counter()
    with (
        scripted(pushing) as upstream,
        running(
            tmp_path,
            routes=[{"host": host, "path": "/", "upstream": host} for host in names],
            upstreams={host: {"endpoints": [spelled(upstream.address)]} for host in names},
            settings={**PLAIN, "upstream-keepalive-timeout": "5"},
        ) as ingressd,
    ):
        threads = [
            threading.Thread(target=ask_twice, args=(ingressd, names[number::20], number)) for number in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    # A few more for the two microseconds between the look into the receive queue and the write, in which a busy machine
    # may let others run.
    assert outcomes[200, b"EVIL"] <= sum(too_late) + 3, (outcomes, sum(too_late))
    assert outcomes[200, b"ok"] + outcomes[200, b"EVIL"] == 1000, outcomes
    assert sum(too_late) < 150, "hardly ever"
    assert len(upstream.connections) > 525, "some requests came after the push"
    assert len(upstream.connections) < 975, "some came before"


def test_up_gzip_bomb(tmp_path: Path) -> None:
    """Ten megabytes that would be ten gigabytes pass as they are, however eager we are to compress."""
    member = gzip.compress(bytes(10_000_000))
    bomb = member * 1000
    assert 9_000_000 < len(bomb) < 12_000_000

    def exploding(connection: Played) -> None:
        while connection.head():
            head = (
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
            )
            connection.send(head % len(bomb) + bomb)

    with (
        scripted(exploding) as upstream,
        running(
            tmp_path,
            routes=[{"host": "a.test", "path": "/", "upstream": "up"}],
            upstreams={"up": {"endpoints": [spelled(upstream.address)]}},
            settings={**PLAIN, "use-gzip": "true"},
        ) as ingressd,
    ):
        assert download(ingressd).body == bomb
        before = ingressd.memory_kib()
        for _ in range(3):
            reply = download(ingressd)
            assert reply.status == 200
            assert reply.all("content-encoding") == ["gzip"]
            assert len(reply.body) == len(bomb)
        assert ingressd.memory_kib() - before < 8192


def download(ingressd: Ingressd) -> Reply:
    return ask(ingressd.http, host="a.test", timeout_s=300, headers={"Accept-Encoding": "gzip"})


NO_ENDPOINTS = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: ingressd}
spec: {controller: ingressd.dev/ingress-controller}
---
apiVersion: v1
kind: Service
metadata: {name: up, namespace: default}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: up-1, namespace: default, labels: {kubernetes.io/service-name: up}}
addressType: IPv4
ports: [{port: 80}]
endpoints: []
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: default}
spec:
  ingressClassName: ingressd
  rules:
  - host: a.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: up, port: {number: 80}}}}]}
"""


def test_up_no_endpoints(tmp_path: Path) -> None:
    """503 at once (all it might wait for takes a minute), with Retry-After, for any method; the connection lives on."""
    (tmp_path / "k8s").mkdir()
    (tmp_path / "k8s" / "web.yaml").write_text(NO_ENDPOINTS)
    settings = {**PLAIN, **dict.fromkeys(("proxy-connect-timeout", "proxy-read-timeout", "proxy-send-timeout"), "60")}
    with running(tmp_path, manifests=["k8s"], settings=settings) as ingressd, Client(ingressd.http) as client:
        for method in ("GET", "POST", "GET"):
            client.send(request_bytes("/u", host="a.test", method=method, keep_alive=True))
            reply = client.reply()
            assert reply.status == 503
            assert reply.one("Retry-After") is not None


def test_up_slow_close_fin_wait(tmp_path: Path) -> None:
    """Upstreams that never close their side after we have closed ours: nothing of them is left with us."""
    release = threading.Event()

    def never_closing(connection: Played) -> None:
        if connection.head():
            connection.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            release.wait(120)

    with (
        scripted(never_closing) as upstream,
        running(
            tmp_path,
            routes=[{"host": "a.test", "path": "/", "upstream": "up"}],
            upstreams={"up": {"endpoints": [spelled(upstream.address)]}},
            settings=PLAIN,
        ) as ingressd,
    ):
        assert ask(ingressd.http, host="a.test").status == 200
        before = open_files(ingressd)
        with Client(ingressd.http, timeout_s=600) as client:
            for _ in range(1000):
                client.send(request_bytes("/", host="a.test", keep_alive=True))
                assert client.reply().body == b"ok"
        assert len(upstream.connections) == 1001
        ingressd.wait_until(lambda: open_files(ingressd) <= before)
        release.set()


def test_up_late_surplus_reaches_nobody(tmp_path: Path) -> None:
    """What an upstream sends beyond its answer, a moment later, is nobody's answer, whoever comes next."""

    def surplus(connection: Played) -> None:
        while connection.head():
            connection.send(OK)
            time.sleep(0.002)
            connection.send(EVIL)

    outcomes: Counter[tuple[int, bytes]] = Counter()
    with (
        scripted(surplus) as upstream,
        running(
            tmp_path,
            routes=[{"host": "a.test", "path": "/", "upstream": "up"}],
            upstreams={"up": {"endpoints": [spelled(upstream.address)]}},
            settings=PLAIN,
        ) as ingressd,
        Client(ingressd.http, timeout_s=300) as client,
    ):
        for number in range(100):
            client.send(request_bytes("/", host="a.test", keep_alive=True))
            reply = client.reply()
            outcomes[reply.status, reply.body] += 1
            time.sleep(0.003 if number % 2 else 0.0)
    # The very first may have been followed within its two milliseconds; nothing tells those bytes from an answer.
    assert outcomes[200, b"EVIL"] <= 1, outcomes
    assert outcomes[200, b"ok"] >= 99, outcomes
