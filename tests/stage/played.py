"""A data plane whose transports are played: bytes go in by hand, and what is written is there to look at."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
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
    Unit,
    Upstream,
    VirtualHost,
    key_of,
)
from ingressd.observe.counters import WorkerCounters
from ingressd.observe.shared_table import SharedTable
from ingressd.proxy.dataplane.dataplane import Dataplane
from ingressd.proxy.http.client import ClientConnection
from ingressd.proxy.upstream.connection import UpstreamConnection
from ingressd.proxy.upstream.endpoint import EndpointState


class PlayedTransport:
    """Keeps what is written and how it ended."""

    def __init__(self) -> None:
        self.written = b""
        self.ended = ""
        self.reading = True
        self.unsent_bytes = 0
        """What the peer has not taken yet of what was written."""

    def write(self, data: bytes) -> None:
        assert not self.ended, "written after the end"
        self.written += data

    def take(self) -> bytes:
        written, self.written = self.written, b""
        return written

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.7", 40000) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = "eof"

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class PlayedUpstream(UpstreamConnection):
    """What an endpoint says comes in a turn of its own, so what we had to say to it has gone out before."""

    turn_ends: Callable[[], None]

    def data_received(self, data: bytes) -> None:
        self.turn_ends()
        super().data_received(data)

    def said_in_this_turn(self, data: bytes) -> None:
        """Bytes that were there before anything of this turn was written."""
        super().data_received(data)


class Stage:
    """One route `/` to one upstream of one endpoint, with as many pooled connections as asked for."""

    def __init__(self, dataplane: Dataplane, now: list[float]) -> None:
        self.dataplane = dataplane
        self.now = now
        self.worker = dataplane._worker

    @property
    def endpoint(self) -> EndpointState:
        """The endpoint of the one upstream."""
        return self.endpoint_of("/u")

    def endpoint_of(self, upstream: str) -> EndpointState:
        """The only endpoint of an upstream."""
        (endpoint,) = self.dataplane._builder.group(upstream).endpoints.values()
        return endpoint

    def pooled(self, upstream: str = "/u") -> PlayedUpstream:
        """A connection that waits in the pool."""
        pool = self.endpoint_of(upstream).pool
        connection = PlayedUpstream(
            self.worker.buffer,
            self.worker.outbox,
            limits=self.worker.current.response_limits,
            server_name="",
            opened_s=self.now[0],
        )
        connection.turn_ends = self.worker.outbox.flush
        connection.connection_made(PlayedTransport())
        pool.opened(connection)
        pool.release(connection, self.now[0])
        return connection

    def client(self) -> ClientConnection:
        """A client that has just connected."""
        client = ClientConnection(self.worker, listener="http", port=b"80", tls=False)
        client.connection_made(PlayedTransport())
        return client

    def sent(self, connection: Any) -> bytes:
        """What was written to a client or an upstream since the last look."""
        self.worker.outbox.flush()
        written: bytes = connection.transport.take()
        return written


async def make_stage(
    *,
    process: ProcessPolicy | None = None,
    policy: RoutePolicy | None = None,
    route_policy: str = "",
    policies: Mapping[str, RoutePolicy] | None = None,
    more: Iterable[Unit] = (),
) -> Stage:
    """A stage whose clock stands still until `now[0]` is moved.

    `route_policy` is the name that the route gives; `policies` are others by name; `more` are units
    besides the one route, upstream and endpoint.
    """
    now = [1000.0]
    dataplane = Dataplane(
        loop=asyncio.get_running_loop(),
        shared=SharedTable.create(1),
        worker=0,
        counters=WorkerCounters(),
        log=logging.getLogger("played"),
        clock=lambda: now[0],
        wall=lambda: 1_700_000_000.0,
    )
    origin = Origin("Config", "", "routes")
    base = process if process is not None else ProcessPolicy()
    units = {
        "process": msgspec.structs.replace(base, access_log=AccessLog(path="")),
        "policy/": policy if policy is not None else RoutePolicy(ssl_redirect=False),
        **{f"policy/{name}": one for name, one in (policies or {}).items()},
    }
    for unit in (
        VirtualHost("", (Route(origin=origin, path_type="Prefix", path="/", upstream="/u", policy=route_policy),)),
        Upstream("/u", origin),
        Endpoints("/u", (Endpoint("127.0.0.1", 9),)),
        *more,
    ):
        units[key_of(unit)] = unit
    changed = {key: msgspec.Raw(encode_unit(unit)) for key, unit in units.items()}
    assert await dataplane.apply(Delta(version=1, base=0, changed=changed)) == {}
    return Stage(dataplane, now)


def play(scene: Callable[[Stage], None], **arguments: Any) -> None:
    """Run a scene on a fresh stage."""

    async def run() -> None:
        stage = await make_stage(**arguments)
        try:
            scene(stage)
        finally:
            for client in list(stage.worker.clients):
                client.connection_lost(None)
            stage.dataplane.close()

    uvloop.run(run())
