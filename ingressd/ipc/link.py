"""One end of the connection between the controller and a worker, on whatever event loop runs."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
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
        self._waiting: deque[Iterator[bytes]] = deque()
        self._rest = memoryview(b"")
        self._blocked = False
        self.closed = False
        connected.setblocking(False)
        loop.add_reader(connected.fileno(), self._readable)

    def send(self, message: ToWorker | ToController) -> None:
        """Send a message, or nothing when the link is closed. Raises FrameError when it is too long."""
        self.send_frame(encode(message))

    def send_frame(self, encoded: bytes) -> None:
        """Send a frame that `ipc.messages` made."""
        self.send_frames((encoded,))

    def send_frames(self, frames: Iterable[bytes]) -> None:
        """Send frames one after the other, each made when the one before is written: a big delta is never in memory
        as a whole."""
        if self.closed:
            return
        self._waiting.append(iter(frames))
        if not self._blocked and not self._write_waiting():
            # The peer is gone. Its end is read too, and said once there.
            self._forget()

    def close(self) -> None:
        """Close it; nothing is called afterwards."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._forget()
        self._socket.close()

    def _forget(self) -> None:
        self._waiting.clear()
        self._rest = memoryview(b"")

    def _write_waiting(self) -> bool:
        """Write until nothing waits or the socket is full; False when the peer is gone."""
        while self._rest or self._next_frame():
            try:
                self._rest = self._rest[self._socket.send(self._rest) :]
            except BlockingIOError:
                if not self._blocked:
                    self._blocked = True
                    self._loop.add_writer(self._socket.fileno(), self._writable)
                return True
            except OSError:
                return False
        if self._blocked:
            self._blocked = False
            self._loop.remove_writer(self._socket.fileno())
        return True

    def _next_frame(self) -> bool:
        while self._waiting:
            frame = next(self._waiting[0], None)
            if frame is not None:
                self._rest = memoryview(frame)
                return True
            self._waiting.popleft()
        return False

    def _writable(self) -> None:
        if not self._write_waiting():
            self._fail()

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
