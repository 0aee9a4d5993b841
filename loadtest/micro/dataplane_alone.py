"""One worker's data plane without supervisor and controller: says what of ingressd's cost is the exchange itself."""

import argparse
import asyncio
import logging
import socket
import sys
import time
from pathlib import Path

import msgspec
import uvloop

from ingressd.model.codec import Delta, encode_unit
from ingressd.model.problem import Origin
from ingressd.model.secret import PrivateBytes
from ingressd.model.units import (
    AccessLog,
    Certificate,
    Endpoint,
    Endpoints,
    Listener,
    ProcessPolicy,
    Route,
    RoutePolicy,
    TlsHost,
    Unit,
    Upstream,
    VirtualHost,
    key_of,
)
from ingressd.observe.counters import WorkerCounters
from ingressd.observe.shared_table import SharedTable
from ingressd.proxy.dataplane.dataplane import Dataplane


def units_of(options: argparse.Namespace) -> list[Unit]:
    """What the controller would publish for the bench's configuration."""
    origin = Origin("Config", "", "routes")
    cert, key = Path(options.cert).read_bytes(), PrivateBytes(Path(options.key).read_bytes())
    return [
        ProcessPolicy(access_log=AccessLog(path=options.log)),
        Listener("http", "127.0.0.1", options.http, "HTTP", options.http),
        Listener("https", "127.0.0.1", options.https, "HTTPS", 443),
        RoutePolicy(ssl_redirect=False),
        VirtualHost("localhost", (Route(origin, "Prefix", "/", upstream="/bench", has_tls=True),)),
        Upstream("/bench", origin),
        Endpoints("/bench", (Endpoint("127.0.0.1", options.upstream),)),
        Certificate("/bench", origin, cert, key, ("localhost",), time.time() + 1e6),
        TlsHost("localhost", "/bench"),
        TlsHost("", "/bench"),
    ]


async def serve(options: argparse.Namespace) -> None:
    """Serve until killed."""
    dataplane = Dataplane(
        loop=asyncio.get_running_loop(),
        shared=SharedTable.create(1),
        worker=0,
        counters=WorkerCounters(),
        log=logging.getLogger("bench"),
        clock=time.monotonic,
        wall=time.time,
    )
    changed = {key_of(unit): msgspec.Raw(encode_unit(unit)) for unit in units_of(options)}
    refused = await dataplane.apply(Delta(version=1, base=0, changed=changed))
    if refused:
        sys.exit(str(refused))
    for name, port in (("http", options.http), ("https", options.https)):
        dataplane.listen(name, socket.create_server(("127.0.0.1", port), backlog=4096))
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for option in ("http", "https", "admin", "upstream"):
        parser.add_argument(f"--{option}", type=int, required=True)
    for option in ("cert", "key", "log"):
        parser.add_argument(f"--{option}", required=True)
    logging.basicConfig(level=logging.INFO)
    uvloop.run(serve(parser.parse_args()))
