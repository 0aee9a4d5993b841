"""Scenes that play in a network of their own. Each is a function of a folder; its asserts are the test's."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from stage.network import FAR, NEAR, Resolver, Wire, narrow_ports
from stage.ports import Address
from stage.running import PATIENCE_S, Ingressd, running
from stage.scripted import OK, Played, Script, Scripted, answering
from stage.wire import Client, Reply, ask, request_bytes

SETTINGS = {
    "ssl-redirect": "false",
    "proxy-connect-timeout": "2",
    "proxy-read-timeout": "60",
    "proxy-next-upstream-tries": "3",
}


def far_upstream(script: Script) -> tuple[Scripted, str]:
    """An upstream at the other end of the wire, and how the configuration names it."""
    upstream = Scripted(script, host=NEAR)
    return upstream, f"{FAR}:{upstream.address[1]}"


def serving(folder: Path, *endpoints: str, **settings: str) -> Any:
    return running(
        folder,
        routes=[{"host": "a.test", "path": "/", "upstream": "up"}],
        upstreams={"up": {"endpoints": list(endpoints)}},
        settings={**SETTINGS, **settings},
    )


def get(ingressd: Ingressd, *, method: str = "GET", timeout_s: float = PATIENCE_S) -> Reply:
    return ask(ingressd.http, host="a.test", method=method, timeout_s=timeout_s)


def loopback_loss(folder: Path) -> None:
    """5 % of all packets are lost and each takes 50 ms: a thousand requests, none fails."""
    wire = Wire(loss=0.05, delay_s=0.025)
    upstream, address = far_upstream(answering())
    outcomes: Counter[int] = Counter()

    def ask_many(ingressd: Ingressd) -> None:
        with Client(ingressd.http, timeout_s=600) as client:
            for _ in range(25):
                client.send(request_bytes("/", host="a.test", keep_alive=True))
                outcomes[client.reply().status] += 1

    with wire, serving(folder, address, **{"proxy-connect-timeout": "5"}) as ingressd:
        threads = [threading.Thread(target=ask_many, args=(ingressd,)) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wire.lost > 50, wire.lost
    upstream.close()
    assert outcomes == {200: 1000}, outcomes


def no_ports_left(folder: Path) -> None:
    """Every port towards one endpoint is taken: EADDRNOTAVAIL is a failed connect, tried elsewhere, never a crash."""
    held = threading.Event()

    def holding(connection: Played) -> None:
        while connection.head():
            held.wait(120)
            connection.send(OK)

    busy, other = Scripted(holding), Scripted(answering())
    spelled = [f"127.0.0.1:{upstream.address[1]}" for upstream in (busy, other)]
    narrow_ports(40000, 40015)
    with serving(folder, spelled[0]) as ingressd:
        # Clients come from an address of their own, whose ports are not those that run out.
        waiting = [_connected_from("127.0.0.9", 41000 + number, ingressd.http) for number in range(16)]
        for client in waiting:
            client.sendall(request_bytes("/", host="a.test", keep_alive=True))
        ingressd.wait_until(lambda: len(busy.connections) == 16)
        with _connected_from("127.0.0.9", 41100, ingressd.http) as late:
            late.sendall(request_bytes("/", host="a.test"))
            answer = late.recv(4096)
        assert answer.startswith((b"HTTP/1.1 502 ", b"HTTP/1.1 503 ")), answer
        # The same with a second endpoint: nobody notices.
        ingressd.config["upstreams"]["up"]["endpoints"] = spelled
        ingressd.write_config()

        own_ports = itertools.count(41200)

        def both_known() -> bool:
            with _connected_from("127.0.0.9", next(own_ports), ingressd.http) as probe:
                probe.sendall(request_bytes("/", host="a.test"))
                return probe.recv(4096).startswith(b"HTTP/1.1 200 ")

        ingressd.wait_until(both_known)
        for _ in range(20):
            assert both_known()
        held.set()
        for client in waiting:
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            client.close()
        assert not ingressd.ended()
    busy.close()
    other.close()


def _connected_from(host: str, port: int, address: Address) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    client.settimeout(60)
    client.bind((host, port))
    client.connect(address)
    return client


def silent_flow(folder: Path) -> None:
    """Packets of a pooled connection vanish, both ways: each GET is answered within a connect time-out and a retry, and
    not after `proxy-read-timeout`. It is found once: three more such waits would take longer than 10 s.
    """
    wire = Wire()
    upstream, address = far_upstream(answering())
    with wire, serving(folder, address, **{"proxy-connect-timeout": "4"}) as ingressd:
        for _ in range(3):
            assert get(ingressd).status == 200
        dead = {connection.port for connection in upstream.connections}
        assert len(dead) == 1
        wire.swallow = lambda source, destination: bool({source, destination} & dead)
        took: list[float] = []
        for _ in range(5):
            began = time.monotonic()
            assert get(ingressd).status == 200
            took.append(time.monotonic() - began)
        assert wire.swallowed > 0
        assert max(took) < PATIENCE_S, took
        assert sum(took[1:]) < 3 * 4, "it is found once"
    upstream.close()


def silent_flow_and_post(folder: Path) -> None:
    """A POST whose bytes went into the void is not sent again: nobody can know whether it was read."""
    wire = Wire()
    upstream, address = far_upstream(answering())
    with wire, serving(folder, address, **{"proxy-read-timeout": "3"}) as ingressd:
        assert get(ingressd).status == 200
        dead = {connection.port for connection in upstream.connections}
        wire.swallow = lambda source, destination: bool({source, destination} & dead)
        assert get(ingressd, method="POST").status == 504
        assert b"POST" not in upstream.received
    upstream.close()


def black_hole(folder: Path) -> None:
    """An endpoint whose packets vanish: 504 after the connect time-out, and any method goes elsewhere when it can."""
    wire = Wire()
    upstream, address = far_upstream(answering())
    second = Scripted(answering())
    with wire, serving(folder, address) as ingressd:
        wire.swallow = lambda source, destination: upstream.address[1] in (source, destination)
        began = time.monotonic()
        reply = get(ingressd)
        took = time.monotonic() - began
        assert reply.status == 504, reply.status
        assert 1.8 < took < PATIENCE_S, took
        ingressd.config["upstreams"]["up"]["endpoints"] = [address, f"127.0.0.1:{second.address[1]}"]
        ingressd.write_config()
        ingressd.wait_until(lambda: get(ingressd).status == 200, within_s=2 * PATIENCE_S)
        for method in ("GET", "POST", "PATCH", "GET", "POST"):
            assert get(ingressd, method=method).status == 200, method
    upstream.close()
    second.close()


def crossing(folder: Path) -> None:
    """An upstream that answers unasked on an idle connection, over a slow wire: what it says crosses the next request,
    and the acknowledgement in it tells that it was said before the request came.
    """
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"

    def speaking(connection: Played) -> None:
        while connection.head():
            connection.send(OK)
            time.sleep(0.2)
            if not connection.is_asked():  # Nothing on earth tells what is said after a request came from its answer.
                connection.send(evil)

    wire = Wire(delay_s=0.1)
    upstream, address = far_upstream(speaking)
    with wire, serving(folder, address) as ingressd:
        crossed = number = 0
        while number < 8 or (not crossed and number < 40):
            # The answer travels for 0.1 s; what is unasked leaves 0.1 s after it has arrived, and travels as long.
            began = len(upstream.connections)
            assert get(ingressd).body == b"ok"
            time.sleep(0.12 + 0.01 * (number % 8))
            reply = get(ingressd)
            assert (reply.status, reply.body) == (200, b"ok")
            crossed += len(upstream.connections) - began > 1
            number += 1
            time.sleep(0.3)
        assert crossed
    upstream.close()


def resolver_down(folder: Path) -> None:
    """A resolver that fails and one that says nothing: the last addresses serve, other routes do not notice; then the
    name moves, and we follow.
    """
    first = Scripted(answering(_named("first")))
    second = Scripted(answering(_named("second")), host="127.0.0.2", port=first.address[1])
    config = {
        "routes": [{"host": host, "path": "/", "upstream": host} for host in ("named.test", "plain.test")],
        "upstreams": {
            "named.test": {"endpoints": [f"api.internal:{first.address[1]}"]},
            "plain.test": {"endpoints": [f"127.0.0.1:{first.address[1]}"]},
        },
        "settings": SETTINGS,
    }
    with Resolver(folder, "127.0.0.1") as resolver, running(folder, **config) as ingressd:

        def body(host: str) -> bytes:
            reply = ask(ingressd.http, host=host)
            assert reply.status == 200, (host, reply.status)
            return reply.body

        assert body("named.test") == b"first"
        for does in ("fail", "nothing", "fail"):
            resolver.does, asked, until = does, resolver.asked, time.monotonic() + 2.0
            while time.monotonic() < until or resolver.asked < asked + 2:  # It is asked again and again.
                assert body("named.test") == body("plain.test") == b"first"
                assert time.monotonic() < until + 2 * PATIENCE_S, "it is not asked again"
                time.sleep(0.05)
        assert ingressd.ask_admin("/readyz") == 200
        resolver.does, resolver.address = "answer", "127.0.0.2"
        ingressd.wait_until(lambda: body("named.test") == b"second", within_s=2 * PATIENCE_S)
        assert body("plain.test") == b"first"
    first.close()
    second.close()


def _named(name: str) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(name), name.encode())
