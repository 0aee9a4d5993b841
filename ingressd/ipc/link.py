"""One end of the connection between the controller and a worker, on whatever event loop runs."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec

from ingressd.ipc.frames import FrameError, FrameReader
from ingressd.ipc.messages import ToController, ToWorker, encode

Received = TypeVar("Received")

READ_BYTES: Final = 256 * 1024
"""Read in one turn of the loop at most; decoding so much takes about 1 ms."""

log = logging.getLogger("ingressd.ipc")


class Link(Generic[Received]):
    """Sends and receives messages over a connected socket, which it owns.

    `received` is called with every message, `lost` once when the peer is gone or sent what is no message (not after
    `close`). What cannot be sent yet waits; the protocol bounds it to one delta and a few small messages.
    """

    def __init__(
        self,
        connected: socket.socket,
        loop: asyncio.AbstractEventLoop,
        *,
        decode: Callable[[bytes], Received],
        received: Callable[[Received], None],
        lost: Callable[[], None] | None = None,
    ) -> None:
        self._socket = connected
        self._loop = loop
        self._decode = decode
        self._received = received
        self._lost = lost
        self._frames = FrameReader()
        self._waiting: deque[memoryview] = deque()
        self.closed = False
        connected.setblocking(False)
        loop.add_reader(connected.fileno(), self._readable)

    def send(self, message: ToWorker | ToController) -> None:
        """Send a message, or nothing when the link is closed. Raises FrameError when it is too long."""
        self.send_frame(encode(message))

    def send_frame(self, encoded: bytes) -> None:
        """Send a frame that `ipc.messages` made."""
        if self.closed:
            return
        if self._waiting:
            self._waiting.append(memoryview(encoded))
            return
        rest = self._write(memoryview(encoded))
        if rest is not None and rest.nbytes:
            self._waiting.append(rest)
            self._loop.add_writer(self._socket.fileno(), self._writable)

    def close(self) -> None:
        """Close it; nothing is called afterwards."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._waiting.clear()
        self._socket.close()

    def _write(self, content: memoryview) -> memoryview | None:
        """What could not be sent, None when the peer is gone."""
        try:
            return content[self._socket.send(content) :]
        except BlockingIOError:
            return content
        except OSError:
            # Its end is read too, and said once there.
            return None

    def _writable(self) -> None:
        while self._waiting:
            rest = self._write(self._waiting[0])
            if rest is None:
                self._fail()
                return
            if rest.nbytes:
                self._waiting[0] = rest
                return
            self._waiting.popleft()
        self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        try:
            content = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            content = b""
        if not content:
            self._fail()
            return
        try:
            messages = [self._decode(payload) for payload in self._frames.feed(content)]
        except (FrameError, msgspec.MsgspecError) as error:
            log.error("what came from the peer is no message: %s", error)
            self._fail()
            return
        for message in messages:
            if not self.closed:
                self._received(message)

    def _fail(self) -> None:
        if self.closed:
            return
        self.close()
        if self._lost is not None:
            self._lost()
