"""Clients that mean harm: many connections of one kind, opened one after the other. A child process.

Plain sockets and no event loop: what is not to be read must stay in the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from loadtest.abuse.children import ABUSE_NICE, on_load_cpu
from loadtest.control.child import serve
from loadtest.launch import unverified_context

TICK_S = 0.5
PER_S = 400.0
"""How fast they come: a burst is another kind of abuse."""
ANSWER_S = 5.0
WINDOW_BYTES = 1024
BIG = 4 << 20
UPGRADE = (
    b"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
PING = b"\x89\x80\0\0\0\0"


def _head_begun(sock: socket.socket) -> None:
    sock.sendall(b"GET /101 HTTP/1.1\r\nHost: localhost\r\n")


def _head_piecemeal(sock: socket.socket) -> None:
    sock.sendall(b"GET /101 HT")


def _another_line(sock: socket.socket) -> None:
    sock.sendall(b"X-A: b\r\n")


def _byte(sock: socket.socket) -> None:
    sock.sendall(b"a")


def _body_begun(sock: socket.socket) -> None:
    sock.sendall(b"POST /2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")


def _chunks_begun(sock: socket.socket) -> None:
    sock.sendall(b"POST /2 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")


def _tiny_chunk(sock: socket.socket) -> None:
    sock.sendall(b"1\r\na\r\n")


def _much_asked(sock: socket.socket) -> None:
    sock.sendall(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % BIG * 3)


def _last_asked(sock: socket.socket) -> None:
    """An answer that the proxy has whole at once: what is slow is only the client's taking of it."""
    sock.sendall(b"GET /180000 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")


def _many_asked(sock: socket.socket) -> None:
    """Answers of which none is too large for the proxy to take whole."""
    sock.sendall(b"GET /50000 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)


def _a_little_read(sock: socket.socket) -> None:
    sock.recv(64)


def _some_read(sock: socket.socket) -> None:
    sock.recv(1024)


def _nothing(sock: socket.socket) -> None:
    """Neither says nor reads."""


def _answer_taken(sock: socket.socket) -> None:
    sock.sendall(b"GET /101 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    _until(sock, b"\r\n\r\n")


def _until(sock: socket.socket, mark: bytes) -> None:
    got = b""
    while mark not in got:
        data = sock.recv(4096)
        if not data:
            raise ConnectionError("closed at once")
        got += data


@functools.cache
def _context() -> ssl.SSLContext:
    return unverified_context()


@functools.cache
def hello() -> bytes:
    """A whole ClientHello."""
    outgoing = ssl.MemoryBIO()
    client = _context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def _hello_whole(sock: socket.socket) -> None:
    sock.sendall(hello())


def _hello_half(sock: socket.socket) -> None:
    sock.sendall(hello()[:100])


def _tunnel(sock: socket.socket, path: bytes) -> None:
    sock.sendall(b"GET " + path + b" HTTP/1.1\r\n" + UPGRADE)
    _until(sock, b" 101 ")


def _silent_tunnel(sock: socket.socket) -> None:
    _tunnel(sock, b"/silent")


def _half_closed_tunnel(sock: socket.socket) -> None:
    _tunnel(sock, b"/silent")
    sock.shutdown(socket.SHUT_WR)


def _flooded_tunnel(sock: socket.socket) -> None:
    _tunnel(sock, b"/flood")


def _ping(sock: socket.socket) -> None:
    sock.sendall(PING)


Act = Callable[[socket.socket], None]


class Kind(NamedTuple):
    """`begin` once, `go_on` every half second until an error; a small window for those that read slowly."""

    begin: Act
    go_on: Act = _nothing
    small: bool = False
    tls: bool = False


KINDS = {
    "heads that drip lines": Kind(_head_begun, _another_line),
    "heads that drip bytes": Kind(_head_piecemeal, _byte),
    "bodies that drip": Kind(_body_begun, _byte),
    "chunks that drip": Kind(_chunks_begun, _tiny_chunk),
    "much asked, nothing read": Kind(_much_asked, small=True),
    "much asked, 128 bytes a second read": Kind(_much_asked, _a_little_read, small=True),
    "fifty answers asked, nothing read": Kind(_many_asked, small=True),
    "a last answer read at 2 KiB a second": Kind(_last_asked, _some_read, small=True),
    "no ClientHello": Kind(_nothing),
    "half a ClientHello": Kind(_hello_half),
    "half a ClientHello that drips": Kind(_hello_half, _byte),
    "a ClientHello and no more": Kind(_hello_whole),
    "TLS and no request": Kind(_nothing, tls=True),
    "TLS and a head that drips lines": Kind(_head_begun, _another_line, tls=True),
    "TLS and a body that drips": Kind(_body_begun, _byte, tls=True),
    "TLS, much asked, nothing read": Kind(_much_asked, small=True, tls=True),
    "no request": Kind(_nothing),
    "a request and no other": Kind(_answer_taken),
    "silent WebSockets": Kind(_silent_tunnel),
    "half-closed WebSockets": Kind(_half_closed_tunnel),
    "flooded WebSockets, nothing read": Kind(_flooded_tunnel, small=True),
    "flooded WebSockets, nothing read, pings sent": Kind(_flooded_tunnel, _ping, small=True),
}


class Abusers:
    """The commands."""

    def __init__(self) -> None:
        self._open: list[tuple[Kind, socket.socket]] = []
        self._going_on: asyncio.Task[None] | None = None

    async def open(self, kind: str, host: str, port: int, count: int) -> dict[str, Any]:
        """Open `count` of a kind; when each began, by its port, and what went wrong meanwhile."""
        on_load_cpu(nice=ABUSE_NICE if self._going_on is None else 0)
        if self._going_on is None:
            self._going_on = asyncio.create_task(self._go_on(), name="abuse")
        began: dict[int, float] = {}
        failed: list[str] = []
        due = time.monotonic()
        for _ in range(count):
            sock = socket.socket()
            try:
                if KINDS[kind].small:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
                sock.settimeout(ANSWER_S)
                sock.connect((host, port))
                if KINDS[kind].tls:
                    sock = _context().wrap_socket(sock, server_hostname="localhost")
                KINDS[kind].begin(sock)
                began[sock.getsockname()[1]] = time.monotonic()
                sock.setblocking(False)
                self._open.append((KINDS[kind], sock))
            except OSError as error:
                failed.append(repr(error))
                sock.close()
            due += 1 / PER_S
            await asyncio.sleep(due - time.monotonic())
        return {"began": list(began.items()), "failed": failed}

    async def close(self, first: int = 1 << 30) -> None:
        """Close the first so many, or all."""
        for _, sock in self._open[:first]:
            sock.close()
        del self._open[:first]

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for number, (kind, sock) in enumerate(list(self._open)):
                with contextlib.suppress(OSError):
                    kind.go_on(sock)
                if number % 50 == 49:
                    await asyncio.sleep(0)


if __name__ == "__main__":
    _abusers = Abusers()
    serve({"open": _abusers.open, "close": _abusers.close})
