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
import sys
from functools import partial
from typing import Any, Final

from ingressd.ipc.orders import BACKLOG
from ingressd.model.units import Listener
from ingressd.observe.shared_table import ACCEPTED
from ingressd.protocol.proxy_protocol import Address
from ingressd.proxy.http.answers import PAGES, status_line
from ingressd.proxy.http.client import ClientConnection
from ingressd.proxy.listener.preface import ProxyPreface
from ingressd.proxy.runtime.overload import PATIENCE_S, Overload
from ingressd.proxy.runtime.worker import READ_BUFFER_BYTES, Worker
from ingressd.proxy.tls.server import TlsServer
from ingressd.proxy.tls.store import TlsStore
from ingressd.proxy.tls.transport import TlsShare

RETRY_S: Final = 0.1
"""How long a worker that is out of file descriptors, or full, leaves the socket to the others."""

BURST: Final = 16

SHORT_BACKLOG: Final = 16
"""About as many as a tenth of a CPU lets in or refuses in a quarter of a second: nobody waits there in vain."""

TLS_OPENINGS: Final = 8.0
"""A handshake costs as much as so many plain connections."""

RESERVE: Final = 4
"""One in so many file descriptors is not for clients: whoever is let in needs endpoints to be asked for him."""

COMPLAIN_S: Final = 10.0
_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_PEEKED: Final = 512
_ACCEPT_QUEUE: Final = slice(24, 28)
"""`tcpi_unacked` in TCP_INFO of a listening socket: the connections in its queue (tcp_get_info in the kernel)."""
_LAST_DATA_RECEIVED: Final = slice(52, 56)
"""`tcpi_last_data_recv`, milliseconds."""
_CLOSE_WAIT: Final = 8
"""`tcp_state` in the first byte of TCP_INFO: the client has ended (include/net/tcp_states.h)."""

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
        self.shorten(False)
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
        if worker.shedding is not None:
            if worker.shedding.tight:
                self._rest()
            else:
                self._accept_sparingly(worker.shedding)
            return
        for _ in range(self._burst):
            if self._is_full():
                self._rest()
                return
            if not self._accept_one():
                return

    def _is_full(self) -> bool:
        worker = self.worker
        return worker.counters.connections + len(worker.arrivals) >= worker.current.process.max_connections

    def backlog(self) -> int:
        """How many connections wait to be accepted by any worker; 0 while we leave them on purpose."""
        if self._resume is not None:
            return 0
        state = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACCEPT_QUEUE.stop)
        return int.from_bytes(state[_ACCEPT_QUEUE], sys.byteorder)

    def shorten(self, short: bool) -> None:
        """Let few wait to be accepted, so that nobody waits long: the kernel refuses the others, and they try again.

        The queue is that of all workers; who starts to accept, or has got over it, makes it long again.
        """
        self._sock.listen(SHORT_BACKLOG if short else BACKLOG)

    def _accept_sparingly(self, overload: Overload) -> None:
        """As many new connections as there is time for, and a 503 to those beyond while there is time for that.

        Who has ended his side has probably left, and costs no more than to find that out. Load balancers' probes are
        let in.
        """
        plain = self.listener.protocol == "HTTP" and not self.listener.proxy_protocol
        if self._is_full():
            self._rest()
            return
        for _ in range(BURST):
            room = overload.may_open()
            if not room and not (plain and overload.may_turn_away()):
                break
            began_s = overload.cpu()
            accepted = self._take()
            if accepted is None:
                return
            sock, address = accepted
            first = _first_bytes(sock) if plain else b""
            told = first is None or (first != b"" and not overload.is_probe(first))
            if first is None and overload.shut:
                sock.close()
            elif told and (not room or self._has_waited(sock, overload)):
                _turn_away(sock, self.worker.date_line)
                overload.refused(began_s)
            else:
                overload.opened(1.0 if self.listener.protocol == "HTTP" else TLS_OPENINGS)
                if not self._let_in(sock, address):
                    return
        overload.begin()  # Nor is it over: there are others behind them.

    @staticmethod
    def _has_waited(sock: socket.socket, overload: Overload) -> bool:
        """Whether somebody has waited too long to be served still, and there is time to tell him."""
        state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECEIVED.stop)
        waited_ms = int.from_bytes(state[_LAST_DATA_RECEIVED], sys.byteorder)
        return waited_ms >= PATIENCE_S * 1000 and overload.accounts_for() and overload.may_refuse()

    def _accept_one(self) -> bool:
        accepted = self._take()
        return accepted is not None and self._let_in(*accepted)

    def _take(self) -> tuple[socket.socket, tuple[str, int]] | None:
        counters = self.worker.counters
        try:
            accepted = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return None
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                counters.rejected += 1
                self._crowded(error.strerror or str(error))
            return None
        counters.accepted += 1
        self.worker.column[ACCEPTED] += 1
        return accepted

    def _let_in(self, sock: socket.socket, address: tuple[str, int]) -> bool:
        worker = self.worker
        protocol = self._protocol(address)
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
        except OSError as error:
            sock.close()  # The client was gone before we looked.
            if protocol in self.worker.arrivals:
                protocol.connection_lost(error)

    def _protocol(self, address: tuple[str, int]) -> Any:
        if self.listener.proxy_protocol:
            return ProxyPreface(self.worker, self._of_client)
        ip, port = address[:2]  # Known here, it costs no system call later.
        return self._of_client((ip.removeprefix("::ffff:"), port), None)

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
        shedding = self.worker.shedding
        if shedding is not None and shedding.tight:
            return False
        try:
            lowest = os.dup(self._sock.fileno())
        except OSError:
            return False
        os.close(lowest)
        return lowest < self._most_files


def _first_bytes(sock: socket.socket) -> bytes | None:
    """What a client has sent, left where it is; None for one that has left, or at least ended his side."""
    try:
        if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _CLOSE_WAIT:
            return None
        return sock.recv(_PEEKED, socket.MSG_PEEK | socket.MSG_DONTWAIT) or None
    except BlockingIOError:
        return b""
    except OSError:
        return None


def _turn_away(sock: socket.socket, date_line: bytes) -> None:
    """Answer a 503 to whatever was asked. What has come is read, lest closing over it resets the answer away."""
    page = PAGES[503]
    try:
        try:
            sock.recv(READ_BUFFER_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        sock.send(
            status_line(503) + date_line + b"Retry-After: 1\r\nContent-Type: text/html\r\nContent-Length: %d\r\n"
            b"Connection: close\r\n\r\n%b" % (len(page), page),
            socket.MSG_DONTWAIT,
        )
    except OSError:
        pass  # It has left.
    sock.close()
