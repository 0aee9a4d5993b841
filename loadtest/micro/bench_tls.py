"""The TLS pump against uvloop's own TLS: CPU per small request and handshake, memory per idle connection.

`python loadtest/micro/bench_tls.py` prints a table. An echo server runs pinned to one CPU in a process of its own, the
clients on another; rounds alternate between the two servers, so that whatever else the machine does hits both.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import socket
import ssl
import statistics
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop

from ingressd.model.units import Certificate, TlsHost
from ingressd.proxy.tls.libssl import LibSsl
from ingressd.proxy.tls.self_signed import make_self_signed
from ingressd.proxy.tls.server import TlsServer
from ingressd.proxy.tls.store import TlsStore
from ingressd.proxy.tls.tickets import TicketSecret
from ingressd.proxy.tls.transport import TlsShare

REQUEST = b"GET /plain HTTP/1.1\r\nHost: a.test\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 101\r\n\r\n" + b"x" * 101
KINDS = ("pump", "uvloop", "plain")


class Answering(asyncio.Protocol):
    """Answers each request with the same response: the least an application can do."""

    __slots__ = ("_transport",)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(RESPONSE)


class Counters:
    """What `TlsServer` counts."""

    tls_handshakes = tls_resumed = tls_failures = 0


async def serve(kind: str, certificate: Certificate, pipe: Connection) -> None:
    """Listen, then answer the questions of the parent: "cpu" and "memory"."""
    loop = asyncio.get_running_loop()
    store = TlsStore(clock=loop.time, secret=TicketSecret.fresh(time.time()), libssl=LibSsl.open())
    await store.apply(
        certificates={f"certificate/{certificate.name}": certificate},
        hosts={"tls/": TlsHost("", certificate.name)},
    )
    share = TlsShare(loop, memoryview(bytearray(65536)), counters=Counters(), date_line=lambda: b"")
    if kind == "pump":
        server = await loop.create_server(
            lambda: TlsServer(store, lambda _: Answering(), share), "127.0.0.1", 0, backlog=4096
        )
    else:
        selection = store.context_for("a.test")
        tls = selection.certificate if kind == "uvloop" and selection is not None else None
        server = await loop.create_server(Answering, "127.0.0.1", 0, ssl=tls, backlog=4096)
    pipe.send(server.sockets[0].getsockname()[1])
    stopped = asyncio.Event()

    def asked() -> None:
        question = pipe.recv()
        if question == "cpu":
            usage = resource.getrusage(resource.RUSAGE_SELF)
            pipe.send(usage.ru_utime + usage.ru_stime)
        elif question == "memory":
            pipe.send(resident_bytes())
        else:
            stopped.set()

    loop.add_reader(pipe.fileno(), asked)
    await stopped.wait()


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run_server(kind: str, certificate: Certificate, pipe: Connection, cpu: int) -> None:
    """The server process."""
    os.sched_setaffinity(0, {cpu})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(kind, certificate, pipe))


class Server:
    """A server process and what can be asked of it."""

    def __init__(self, kind: str, certificate: Certificate, cpu: int) -> None:
        self.kind = kind
        self._pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=run_server, args=(kind, certificate, theirs, cpu), daemon=True)
        self._process.start()
        self.port = self._pipe.recv()

    def ask(self, question: str) -> float:
        """CPU seconds so far ("cpu"), or resident bytes ("memory")."""
        self._pipe.send(question)
        return float(self._pipe.recv())

    def stop(self) -> None:
        """End the process."""
        self._pipe.send("stop")
        self._process.join(5)


def client_tls() -> ssl.SSLContext:
    """Accepts any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connect(server: Server, tls: ssl.SSLContext, session: ssl.SSLSession | None = None) -> socket.socket:
    """One connection, ready for requests."""
    sock = socket.create_connection(("127.0.0.1", server.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if server.kind == "plain":
        return sock
    return tls.wrap_socket(sock, server_hostname="a.test", session=session)


def requests_cost_us(server: Server, sockets: list[socket.socket], rounds: int) -> float:
    """CPU of the server for each request, with all connections asking before any answer is read."""
    before = server.ask("cpu")
    for _ in range(rounds):
        for sock in sockets:
            sock.sendall(REQUEST)
        for sock in sockets:
            got = 0
            while got < len(RESPONSE):
                got += len(sock.recv(4096))
    return (server.ask("cpu") - before) / (rounds * len(sockets)) * 1e6


def handshakes_cost_us(server: Server, tls: ssl.SSLContext, count: int, *, resume: bool) -> float:
    """CPU of the server for each connection with one request."""
    session = None
    before = server.ask("cpu")
    for _ in range(count):
        sock = connect(server, tls, session if resume else None)
        sock.sendall(REQUEST)
        sock.recv(4096)
        session = sock.session
        sock.close()
    return (server.ask("cpu") - before) / count * 1e6


def idle_cost_kib(server: Server, tls: ssl.SSLContext, count: int) -> float:
    """Memory of the server for each connection that made a request and now idles."""
    warm = [connect(server, tls) for _ in range(50)]
    before = server.ask("memory")
    sockets = []
    for _ in range(count):
        sock = connect(server, tls)
        sock.sendall(REQUEST)
        sock.recv(4096)
        sockets.append(sock)
    cost = (server.ask("memory") - before) / count / 1024
    for sock in sockets + warm:
        sock.close()
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--requests", type=int, default=150, help="requests a connection in a round")
    parser.add_argument("--handshakes", type=int, default=300, help="handshakes in a round")
    parser.add_argument("--idle", type=int, default=2000, help="idle connections")
    options = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[0]})
    certificate = make_self_signed(time.time())
    tls = client_tls()
    servers = {kind: Server(kind, certificate, cpus[-1]) for kind in KINDS}
    print(f"Python {sys.version.split()[0]}, {ssl.OPENSSL_VERSION}, uvloop {uvloop.__version__}")
    requests: dict[str, list[float]] = {kind: [] for kind in KINDS}
    sockets = {kind: [connect(s, tls) for _ in range(options.connections)] for kind, s in servers.items()}
    for round_ in range(options.rounds + 1):
        for kind, server in servers.items():
            cost = requests_cost_us(server, sockets[kind], options.requests)
            if round_:
                requests[kind].append(cost)
    report("small request, CPU us", requests)
    for held in sockets.values():
        for sock in held:
            sock.close()
    for resume in (False, True):
        costs: dict[str, list[float]] = {"pump": [], "uvloop": []}
        for _ in range(3):
            for kind in costs:
                costs[kind].append(handshakes_cost_us(servers[kind], tls, options.handshakes, resume=resume))
        report("resumed connection, CPU us" if resume else "full handshake, CPU us", costs)
    for server in servers.values():
        server.stop()
    fresh = {kind: Server(kind, certificate, cpus[-1]) for kind in KINDS}
    report("idle connection, KiB", {kind: [idle_cost_kib(s, tls, options.idle)] for kind, s in fresh.items()})
    for server in fresh.values():
        server.stop()


def report(what: str, costs: dict[str, list[float]]) -> None:
    """One line: the median of each, and the pump against uvloop."""
    medians = {kind: statistics.median(values) for kind, values in costs.items()}
    cells = "  ".join(f"{kind} {value:8.1f}" for kind, value in medians.items())
    print(f"{what:28s} {cells}   pump/uvloop {medians['pump'] / medians['uvloop']:.2f}")


if __name__ == "__main__":
    main()
