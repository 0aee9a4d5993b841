"""What one bad endpoint of two costs, and how soon it is back: 3 workers, 40 routes, retries off, open connections.

Run: python loadtest/micro/endpoint_health.py [ROUNDS [CLIENTS [INTERVAL]]]. Each round the endpoint breaks under load
(503, or its connections are reset, in turn), the failed requests are counted, it recovers, and the time is taken from
the first probe that it answers well to the first request that reaches it. Bars: 5 failed and one for each other client;
one second. INTERVAL "none" is without health checks: then the first request after it has recovered ends the round.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
ROUTES = 40
WORKERS = 3
BAR_S = 1.0


class Endpoint:
    """An upstream that is well, or `bad` in one of two ways."""

    def __init__(self) -> None:
        self.bad = ""
        self.asked = 0
        self.probed_well_s = 0.0
        self.asked_well_s = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET /healthz"):
                    writer.write(BUSY if self.bad else OK)
                    if not self.bad:
                        self.probed_well_s = self.probed_well_s or time.monotonic()
                    break
                self.asked += 1
                if self.bad == "reset":
                    writer.transport.abort()
                    return
                if not self.bad:
                    self.asked_well_s = self.asked_well_s or time.monotonic()
                writer.write(BUSY if self.bad else OK)
        writer.close()

    def recover(self) -> None:
        """From now on."""
        self.bad = ""
        self.probed_well_s = self.asked_well_s = 0.0


class Clients:
    """Each asks one route after the other over one connection, until `ended`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.ended = False
        self.done = 0
        self.failed = 0

    async def run(self, number: int) -> None:
        """One client."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while not self.ended:
            number += 1
            writer.write(b"GET / HTTP/1.1\r\nHost: r%d.test\r\n\r\n" % (number % ROUTES))
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            await reader.readexactly(length)
            self.done += 1
            self.failed += not head.startswith(b"HTTP/1.1 200")
            if b"\r\nConnection: close\r\n" in head:
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.close()


def free_port() -> int:
    """One that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def write_config(folder: Path, *, port: int, admin: int, endpoints: list[int], interval: str) -> Path:
    """Forty hosts to one upstream."""
    path = folder / "ingressd.yaml"
    routes = "\n".join(f"  - {{host: r{number}.test, path: /, upstream: api}}" for number in range(ROUTES))
    check = f"    healthCheck: {{path: /healthz, interval: {interval}, timeout: 1s}}" if interval != "none" else ""
    path.write_text(
        f"""workers: {WORKERS}
listeners: [{{name: http, address: "127.0.0.1:{port}", protocol: HTTP}}]
admin: {{address: "127.0.0.1:{admin}"}}
accessLog: {{path: ""}}
settings: {{ssl-redirect: "false", proxy-next-upstream: "off", keep-alive-requests: "100000"}}
routes:
{routes}
upstreams:
  api:
    endpoints: [{", ".join(f'"127.0.0.1:{one}"' for one in endpoints)}]
{check}
""",
        "utf-8",
    )
    return path


async def ready(admin: int) -> None:
    """Until /readyz says 200."""
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", admin)
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            line = await reader.readline()
            writer.close()
            if b" 200 " in line:
                return
        await asyncio.sleep(0.05)


async def measure(rounds: int, clients: int, interval: str) -> bool:
    """Print one line a round; whether all bars were held."""
    good, bad = Endpoint(), Endpoint()
    servers = [await asyncio.start_server(one.serve, "127.0.0.1", 0) for one in (good, bad)]
    port, admin = free_port(), free_port()
    held = True
    with tempfile.TemporaryDirectory() as folder:
        endpoints = [server.sockets[0].getsockname()[1] for server in servers]
        path = write_config(Path(folder), port=port, admin=admin, endpoints=endpoints, interval=interval)
        process = subprocess.Popen([sys.executable, "-m", "ingressd", "run", "--config", str(path)])
        try:
            await asyncio.wait_for(ready(admin), 60)
            for number in range(rounds):
                held = await one_round(port, bad, ("503", "reset")[number % 2], clients) and held
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 60)
    for server in servers:
        server.close()
    return held


async def one_round(port: int, bad: Endpoint, how: str, clients: int) -> bool:
    """Break, count, recover, take the time."""
    load = Clients(port)
    running = [asyncio.create_task(load.run(number)) for number in range(clients)]
    await asyncio.sleep(1.0)
    before = load.failed
    bad.bad = how
    await asyncio.sleep(5.0)
    failed = load.failed - before
    bad.recover()
    while not bad.asked_well_s:
        await asyncio.sleep(0.01)
    back_s = bad.asked_well_s - bad.probed_well_s if bad.probed_well_s else float("nan")
    load.ended = True
    await asyncio.gather(*running)
    limit = 5 + clients - 1
    print(
        f"{how:6} {load.done:6} requests, failed {failed} (at most {limit}), "
        f"back {back_s * 1000:.1f} ms after a good probe",
        flush=True,
    )
    return before == 0 and failed <= limit and not back_s > BAR_S


def main() -> None:
    """Ends with 1 when a bar is missed."""
    rounds, clients, interval = [*sys.argv[1:], *("4", "16", "1s")[len(sys.argv) - 1 :]]
    held = asyncio.run(measure(int(rounds), int(clients), interval))
    sys.exit(not held)


if __name__ == "__main__":
    main()
