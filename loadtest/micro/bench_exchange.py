"""Microseconds of one exchange without its system calls: fake transports on both sides, everything else real.

Run: python loadtest/micro/bench_exchange.py [SECONDS]. What it prints is user time only; the load test says what a
request costs altogether.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import Any

import msgspec
import uvloop

from ingressd.model.codec import Delta, encode_unit
from ingressd.model.problem import Origin
from ingressd.model.units import (
    AccessLog,
    Endpoint,
    Endpoints,
    ProcessPolicy,
    Route,
    RoutePolicy,
    Upstream,
    VirtualHost,
    key_of,
)
from ingressd.observe.counters import WorkerCounters
from ingressd.observe.shared_table import SharedTable
from ingressd.proxy.dataplane.dataplane import Dataplane
from ingressd.proxy.http.client import ClientConnection
from ingressd.proxy.runtime.worker import Worker
from ingressd.proxy.upstream.connection import UpstreamConnection

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"
BROWSER = (
    b"GET /api/items?page=2 HTTP/1.1\r\nHost: shop.example.com\r\nConnection: keep-alive\r\n"
    b"Accept: text/html,application/xhtml+xml\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
    b"Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n"
    b"Referer: https://shop.example.com/\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.9\r\n"
    b"Cookie: session=abcdef0123456789abcdef; theme=dark\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Tue, 24 Nov 2026 22:32:16 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 101\r\nConnection: keep-alive\r\n\r\n" + b"x" * 101
)


class FakeTransport:
    """Takes writes and says nothing."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written = data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 40000) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        pass


async def run(seconds: float) -> None:
    """Measure each request for so many seconds, best of five."""
    loop = asyncio.get_running_loop()
    shared = SharedTable.create(1)
    dataplane = Dataplane(
        loop=loop,
        shared=shared,
        worker=0,
        counters=WorkerCounters(),
        log=logging.getLogger("bench"),
        clock=time.monotonic,
        wall=time.time,
    )
    origin = Origin("Config", "", "routes")
    units = [
        ProcessPolicy(access_log=AccessLog(path="/dev/null"), keep_alive_requests=1 << 60),
        RoutePolicy(ssl_redirect=False),
        VirtualHost("", (Route(origin=origin, path_type="Prefix", path="/", upstream="/u"),)),
        Upstream("/u", origin),
        Endpoints("/u", (Endpoint("127.0.0.1", 9),)),
    ]
    changed = {key_of(unit): msgspec.Raw(encode_unit(unit)) for unit in units}
    await dataplane.apply(Delta(version=1, base=0, changed=changed))
    worker: Worker = dataplane._worker
    endpoint = dataplane._builder.group("/u").endpoints["127.0.0.1:9"]
    upstream = UpstreamConnection(
        worker.buffer, worker.outbox, limits=worker.current.response_limits, server_name="", opened_s=0.0
    )
    upstream.connection_made(FakeTransport())
    endpoint.pool.limits.requests = endpoint.pool.limits.age_s = 1 << 60
    endpoint.pool.opened(upstream)
    endpoint.pool.release(upstream, time.monotonic())
    client = ClientConnection(worker, listener="http", port=b"80", tls=False)
    client.connection_made(FakeTransport())
    for name, request in (("small", REQUEST), ("browser", BROWSER)):
        worker.buffer[: len(request)] = request
        client.buffer_updated(len(request))
        worker.outbox.flush()
        best = float("inf")
        for _ in range(5):
            count = 0
            start = time.process_time()
            while time.process_time() - start < seconds / 5:
                for _ in range(500):
                    worker.buffer[: len(RESPONSE)] = RESPONSE
                    upstream.buffer_updated(len(RESPONSE))
                    worker.buffer[: len(request)] = request
                    client.buffer_updated(len(request))
                    worker.outbox.flush()  # An answer that comes before the request has left is none.
                count += 500
                worker.access_log.flush()
            best = min(best, (time.process_time() - start) / count)
        worker.buffer[: len(RESPONSE)] = RESPONSE
        upstream.buffer_updated(len(RESPONSE))
        worker.outbox.flush()
        assert client.transport.written.endswith(b"x" * 101)
        print(f"{name:10} {best * 1e6:6.2f} us an exchange")


if __name__ == "__main__":
    uvloop.run(run(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0))
