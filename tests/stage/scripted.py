"""Upstreams that misbehave on purpose: a function plays each connection on a plain blocking socket."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

from stage.ports import Address, listening

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Played:
    """One accepted connection in the hands of a script."""

    def __init__(self, sock: socket.socket, number: int, *, port: int = 0) -> None:
        self.port = port
        """From which the proxy connected."""
        self.number = number
        """How many connections came before it."""
        self.received = b""
        """Every byte that came so far, consumed or not."""
        self._sock = sock
        self._unread = b""

    def head(self) -> bytes:
        """The next request head with its blank line; b"" when the proxy closed instead."""
        while b"\r\n\r\n" not in self._unread:
            if not self._more():
                return b""
        head, end, self._unread = self._unread.partition(b"\r\n\r\n")
        return head + end

    def head_within(self, seconds: float) -> bytes:
        """The next request head if it comes in time; b"" when it does not, or the proxy closed."""
        patience, until = self._sock.gettimeout(), time.monotonic() + seconds
        try:
            while b"\r\n\r\n" not in self._unread:
                self._sock.settimeout(max(0.0001, until - time.monotonic()))
                if not self._more():
                    return b""
        except TimeoutError:
            return b""
        finally:
            self._sock.settimeout(patience)
        return self.head()

    def is_asked(self) -> bool:
        """Whether bytes of the proxy have arrived that were not read yet."""
        # A socket with a time-out would wait, whatever the flags say.
        return bool(select.select([self._sock], [], [], 0)[0] and self._sock.recv(1, socket.MSG_PEEK))

    def line(self) -> bytes:
        """The next line without its CRLF; what there is of it at the end."""
        while b"\r\n" not in self._unread:
            if not self._more():
                break
        line, _, self._unread = self._unread.partition(b"\r\n")
        return line

    def body(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end."""
        while len(self._unread) < size and self._more():
            pass
        body, self._unread = self._unread[:size], self._unread[size:]
        return body

    def gone(self) -> bool:
        """Wait for the proxy to close; True when it does within the socket's time-out."""
        try:
            while self._more():
                pass
        except TimeoutError:
            return False
        return True

    def _more(self) -> bool:
        try:
            data = self._sock.recv(65536)
        except ConnectionError:
            return False
        self.received += data
        self._unread += data
        return bool(data)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._sock.sendall(data)

    def half_close(self) -> None:
        """Send FIN and keep reading."""
        self._sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


Script = Callable[[Played], None]


class Scripted:
    """A listening upstream whose every connection is played by `script` in a thread; closed when the script returns."""

    def __init__(self, script: Script, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._script = script
        self._listener = socket.create_server((host, port), backlog=512) if port else listening([host])[0]
        self.address: Address = self._listener.getsockname()
        self.connections: list[Played] = []
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, peer = self._listener.accept()
                sock.settimeout(60)
                played = Played(sock, len(self.connections), port=peer[1])
                self.connections.append(played)
                self._sockets.append(sock)
                thread = threading.Thread(target=self._play, args=(sock, played), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _play(self, sock: socket.socket, played: Played) -> None:
        with contextlib.suppress(OSError):
            self._script(played)
        with contextlib.suppress(OSError):
            sock.close()

    @property
    def received(self) -> bytes:
        """Every byte of every connection."""
        return b"".join(connection.received for connection in self.connections)

    def close(self) -> None:
        """End the listener and every connection, and wait for the scripts."""
        for sock in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in [self._accepting, *self._threads]:
            thread.join(60)


@contextlib.contextmanager
def scripted(script: Script) -> Iterator[Scripted]:
    """A scripted upstream, ended at the end."""
    upstream = Scripted(script)
    try:
        yield upstream
    finally:
        upstream.close()


def answering(answer: bytes = OK) -> Script:
    """A script that answers every request (without a body) with these bytes and keeps the connection."""

    def script(connection: Played) -> None:
        while connection.head():
            connection.send(answer)

    return script
