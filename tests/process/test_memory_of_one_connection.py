"""One connection never costs above 256 KiB of a worker's memory, whatever it sends and however little it reads.

Measured as the growth of a worker's resident memory over many such connections, at every moment; each kind meets a new
worker, which has no freed memory to hide behind. What the kernel holds is bounded by its own settings and not counted.
A connection here is the client's and the upstream's that goes with it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from stage.certificates import selfsigned
from stage.crafted import attribute, certificate, pair
from stage.load import cpu_s, pid_of, role
from stage.running import Ingressd, route_to, running
from stage.scripted import Played, scripted
from stage.secure import connect_tls
from stage.wire import ask, client_tls

from ingressd.proxy.tls.certificate_cost import MOST_BYTES, certificates_cost

pytestmark = pytest.mark.process

CONNECTIONS = 64
"""Enough that what a worker takes once, whatever comes, is little of what is measured."""
MOST_KIB = 256
SENT_BYTES = 1024**2
"""What each client sends if it is taken: four times what may be held."""
QUIET_S = 0.3
HEAD = b"Host: api.test\r\n"
WEBSOCKET = (
    HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CHUNKS = b"1;" + b"e" * 200 + b"\r\nx\r\n"
BLOCK = b"x" * 65536


OVER = threading.Event()


def upstream(connection: Played) -> None:
    """What it does is in the path: `/deaf` reads no more, `/flood` sends more than anybody reads, and so on."""
    while head := connection.head():
        path = head.split(b" ", 2)[1].split(b"?")[0]
        if path == b"/flood":
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SENT_BYTES)
            connection.send(bytes(SENT_BYTES))
        elif path == b"/chunks":
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.send(b"400\r\n%b\r\n" % bytes(1024) * 1024)
        elif path == b"/head":
            connection.send(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 7000)
            OVER.wait(60)
        elif path == b"/tunnel":
            connection.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            connection.send(bytes(SENT_BYTES))
        elif path == b"/deaf":
            OVER.wait(60)
        elif path == b"/ok":
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 16384\r\n\r\n" + bytes(16384))
        else:
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


PATTERNS = {
    "a head that does not end": b"GET / HTTP/1.1\r\n" + HEAD + b"X-A: " + b"a" * 7000 + b"\r\nX-B: " + b"a" * 7000,
    "a head of very many fields": b"GET / HTTP/1.1\r\n" + HEAD + b"A:b\r\n" * (SENT_BYTES // 5),
    "a line that does not end": b"GET /" + BLOCK * (SENT_BYTES // len(BLOCK)),
    "fields up to the limit": b"GET /deaf HTTP/1.1\r\n" + HEAD + (b"A: " + b"b" * 300 + b"\r\n") * 90 + b"\r\n",
    "ten thousand requests": (b"GET /ok HTTP/1.1\r\n" + HEAD + b"\r\n") * 10_000,
    "ten thousand requests that are answered here": (b"GET /../ HTTP/1.1\r\n" + HEAD + b"\r\n") * 10_000,
    "requests behind one that waits": (b"GET /deaf HTTP/1.1\r\n" + HEAD + b"\r\n") * 20_000,
    "a body that nobody takes": b"PUT /deaf HTTP/1.1\r\n"
    + HEAD
    + b"Content-Length: 99999999\r\n\r\n"
    + bytes(SENT_BYTES),
    "chunks that nobody takes": b"PUT /deaf HTTP/1.1\r\n"
    + HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"1\r\nx\r\n" * 80_000,
    "chunks with extensions": b"PUT /deaf HTTP/1.1\r\n"
    + HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + CHUNKS * (SENT_BYTES // len(CHUNKS)),
    "an answer that is not read": b"GET /flood HTTP/1.1\r\n" + HEAD + b"\r\n",
    "an answer in chunks that is not read": b"GET /chunks HTTP/1.1\r\n" + HEAD + b"\r\n",
    "an answer to HTTP/1.0": b"GET /chunks HTTP/1.0\r\n" + HEAD + b"\r\n",
    "an answer whose head does not end": b"GET /head HTTP/1.1\r\n" + HEAD + b"\r\n",
    "a tunnel that nobody reads": b"GET /tunnel HTTP/1.1\r\n" + WEBSOCKET + bytes(SENT_BYTES),
}


OVER_TLS = (
    "ten thousand requests",
    "a body that nobody takes",
    "a tunnel that nobody reads",
)
CASES = [
    *((pattern, "") for pattern in PATTERNS),
    # The second asks for certificates and gets the most costly one that is taken.
    *((pattern, host) for pattern in OVER_TLS for host in ("api.test", "shown.test")),
]


def costly(entries: int) -> bytes:
    """A certificate whose subject has so many entries. Nothing holds more of what it is said to hold."""
    return certificate(subject=attribute(b"a") * entries)


LARGEST = next(costly(n) for n in range(400, 0, -1) if certificates_cost([costly(n)]) <= MOST_BYTES)


@pytest.fixture(scope="module")
def ingressd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingressd]:
    folder = tmp_path_factory.mktemp("memory")
    for name, one in (("api", selfsigned("api.test")), ("shown", selfsigned("shown.test")), ("client", pair(LARGEST))):
        (folder / f"{name}.crt").write_bytes(one.cert)
        (folder / f"{name}.key").write_bytes(one.key)
    asks = {"caFile": "shown.crt", "verify": "optional_no_ca"}
    with scripted(upstream) as behind:
        config = route_to(
            {"api": [behind.address], "shown": [behind.address]},
            settings={"ssl-redirect": "false", "proxy-body-size": "0", "worker-shutdown-timeout": "1"},
            tls=[
                {"hosts": ["api.test"], "certFile": "api.crt", "keyFile": "api.key"},
                {"hosts": ["shown.test"], "certFile": "shown.crt", "keyFile": "shown.key", "clientCertificate": asks},
            ],
        )
        with running(folder, **config) as started:
            yield started
            OVER.set()


@pytest.fixture
def worker(ingressd: Ingressd) -> int:
    """A new worker that has served a few requests."""
    old = pid_of(ingressd, "worker 0")
    os.kill(old, signal.SIGKILL)
    ingressd.wait_until(lambda: [pid for pid in ingressd.children() if role(pid) == "worker 0"] not in ([], [old]))
    for host in ("", "api.test", "shown.test"):
        for _ in range(4):
            connect(ingressd, host).close()
            assert ask(ingressd.http, host="api.test").status == 200
    assert ask(ingressd.https, host="shown.test", server_name="shown.test", tls=client(ingressd)).status == 200
    return pid_of(ingressd, "worker 0")


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def client(ingressd: Ingressd) -> ssl.SSLContext:
    context = client_tls()
    context.load_cert_chain(ingressd.folder / "client.crt", ingressd.folder / "client.key")
    return context


def connect(ingressd: Ingressd, host: str) -> socket.socket:
    """Over TLS to this host, which may ask for a certificate; without TLS for ""."""
    sock: socket.socket
    if host:
        sock = connect_tls(ingressd.https, client(ingressd), server_name=host)
    else:
        sock = socket.create_connection(ingressd.http, 30)
    sock.setblocking(False)
    return sock


def greatest_while(pid: int, clients: list[socket.socket], data: bytes) -> int:
    """Send as much as is taken, read nothing, until the worker does nothing more; the greatest resident size."""
    left = {client: memoryview(data) for client in clients}
    most, spent, quiet_since = 0, -1.0, time.monotonic()
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for client, rest in list(left.items()):
            try:
                left[client] = rest[client.send(rest[:65536]) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                continue
            except OSError:
                del left[client]  # Refused and closed.
                continue
            if not left[client]:
                del left[client]
        most = max(most, resident_kib(pid))
        if cpu_s(pid) > spent + 0.02:
            spent, quiet_since = cpu_s(pid), time.monotonic()
        elif time.monotonic() > quiet_since + QUIET_S:
            break
        select.select([], list(left), [], 0.02)
    return most


@pytest.mark.parametrize(("pattern", "host"), CASES, ids=[f"{name}{host and f', {host}'}" for name, host in CASES])
def test_a_connection_is_bounded(ingressd: Ingressd, worker: int, pattern: str, host: str) -> None:
    before = resident_kib(worker)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(ingressd, host)) for _ in range(CONNECTIONS)]
        data = PATTERNS[pattern].replace(b"api.test", host.encode() or b"api.test")
        after = greatest_while(worker, clients, data)
    each = (after - before) / CONNECTIONS
    print(f"{pattern}: {each:.0f} KiB")
    assert each < MOST_KIB
    assert pid_of(ingressd, "worker 0") == worker
