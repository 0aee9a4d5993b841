"""Takes connections off one listening socket that all workers share.

One connection a wake-up when there are several workers: whoever is awake takes the next, so that a busy worker takes
less than an idle one. The socket itself belongs to the supervisor and outlives every worker.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import socket
from functools import partial
from typing import Any, Final

from ingressd.model.units import Listener
from ingressd.observe.shared_table import ACCEPTED
from ingressd.protocol.proxy_protocol import Address
from ingressd.proxy.http.client import ClientConnection
from ingressd.proxy.listener.preface import ProxyPreface
from ingressd.proxy.runtime.worker import Worker
from ingressd.proxy.tls.server import TlsServer
from ingressd.proxy.tls.store import TlsStore
from ingressd.proxy.tls.transport import TlsShare

RETRY_S: Final = 0.1
"""How long a worker that is out of file descriptors, or full, leaves the socket to the others."""

BURST: Final = 16

RESERVE: Final = 4
"""One in so many file descriptors is not for clients: whoever is let in needs endpoints to be asked for him."""

COMPLAIN_S: Final = 10.0
_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = logging.getLogger("ingressd.listener")


class Acceptor:
    """Accepts for one listener in one worker."""

    __slots__ = (
        "_burst",
        "_complained_s",
        "_most_files",
        "_port",
        "_resume",
        "_share",
        "_sock",
        "_store",
        "_tasks",
        "listener",
        "worker",
    )

    def __init__(
        self,
        worker: Worker,
        listener: Listener,
        sock: socket.socket,
        *,
        store: TlsStore,
        share: TlsShare,
        alone: bool,
    ) -> None:
        self.worker = worker
        self.listener = listener
        self._sock = sock
        self._store = store
        self._share = share
        self._burst = BURST if alone else 1
        self._port = str(listener.declared_port).encode("ascii")
        self._resume: asyncio.TimerHandle | None = None
        self._complained_s = -COMPLAIN_S
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most_files = limit - limit // RESERVE
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self) -> None:
        """Begin to accept."""
        self._sock.setblocking(False)
        self.worker.loop.add_reader(self._sock.fileno(), self._accept)

    def stop(self) -> None:
        """Accept no more; connections that were accepted go on. The socket stays open in the supervisor."""
        self.worker.loop.remove_reader(self._sock.fileno())
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None

    def close(self) -> None:
        """Stop, and let go of this worker's copy of the socket."""
        self.stop()
        self._sock.close()

    def accept_waiting(self) -> None:
        """Take every connection that waits in the queue now: once nobody listens any more, the kernel resets them."""
        while self._accept_one():
            pass

    def _accept(self) -> None:
        worker = self.worker
        for _ in range(self._burst):
            if worker.counters.connections >= worker.current.process.max_connections:
                self._rest()
                return
            if not self._accept_one():
                return

    def _accept_one(self) -> bool:
        worker = self.worker
        counters = worker.counters
        try:
            sock, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                counters.rejected += 1
                self._crowded(error.strerror or str(error))
            return False
        counters.accepted += 1
        worker.column[ACCEPTED] += 1
        sock.setblocking(False)
        protocol = self._protocol()
        task = worker.loop.create_task(self._connect(protocol, sock), name="accept")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if sock.fileno() >= self._most_files:  # The kernel gives out the lowest: all below are taken.
            self._crowded("file descriptors for clients are used up")
            return False
        return True

    async def _connect(self, protocol: Any, sock: socket.socket) -> None:
        try:
            await self.worker.loop.connect_accepted_socket(lambda: protocol, sock)
        except OSError:
            sock.close()  # The client was gone before we looked.

    def _protocol(self) -> Any:
        if self.listener.proxy_protocol:
            return ProxyPreface(self.worker, self._of_client)
        return self._of_client(None, None)

    def _of_client(self, peer: Address | None, port: bytes | None) -> Any:
        """The protocol of a connection that speaks TLS or HTTP from here on, with what a PROXY header said of it."""
        worker = self.worker
        if port is None:
            port = self._port
        if self.listener.protocol == "HTTP":
            return ClientConnection(worker, listener=self.listener.name, port=port, tls=False, peer=peer)
        make_client = partial(self._make_tls_client, peer, port)
        server = TlsServer(self._store, make_client, self._share, on_lost=self._arrived)
        # nginx bounds the handshake by `client_header_timeout`, too.
        server.deadline_s = worker.clock() + worker.current.process.client_header_timeout_s
        worker.wheel.schedule(server)
        worker.arrivals.add(server)
        return server

    def _make_tls_client(self, peer: Address | None, port: bytes, transport: TlsServer) -> ClientConnection:
        self._arrived(transport)
        return ClientConnection(self.worker, listener=self.listener.name, port=port, tls=True, peer=peer)

    def _arrived(self, transport: TlsServer) -> None:
        """The handshake is done, or never will be."""
        self.worker.wheel.remove(transport)
        self.worker.arrivals.discard(transport)

    def _rest(self) -> None:
        self.worker.loop.remove_reader(self._sock.fileno())
        if self._resume is None:
            self._resume = self.worker.loop.call_later(RETRY_S, self._wake)

    def _crowded(self, reason: str) -> None:
        now = self.worker.clock()
        if now - self._complained_s >= COMPLAIN_S:
            self._complained_s = now
            log.warning("listener %s accepts nobody until others leave: %s", self.listener.name, reason)
        self._rest()

    def _wake(self) -> None:
        self._resume = None
        if self._has_room():
            self.worker.loop.add_reader(self._sock.fileno(), self._accept)
        else:
            self._rest()

    def _has_room(self) -> bool:
        try:
            lowest = os.dup(self._sock.fileno())
        except OSError:
            return False
        os.close(lowest)
        return lowest < self._most_files
