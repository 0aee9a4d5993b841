"""One child process as the supervisor sees it."""

from __future__ import annotations

import collections
import socket
from typing import NamedTuple

from ingressd.ipc.orders import Order, send_order
from ingressd.supervise.pulse import CONTROLLER_SPINNING_S, SPINNING_S, Pulse

MAX_WAITING = 1000
"""Orders kept for a child that does not read; it is hung long before."""


class Waiting(NamedTuple):
    """An order that could not be sent yet; `socket` goes with it, and is closed afterwards when it is `owned`."""

    order: Order
    socket: socket.socket | None
    owned: bool


class Child:
    """A process, the channel for its orders, and its pulse. `worker` is -1 for the controller."""

    def __init__(self, worker: int, number: int, *, pid: int, channel: socket.socket, now_s: float) -> None:
        self.worker = worker
        self.number = number
        self.pid = pid
        self.channel = channel
        self.started_at_s = now_s
        self.pulse = Pulse(now_s, CONTROLLER_SPINNING_S if worker < 0 else SPINNING_S)
        self.killed_because = ""
        self.ended = False  # And waited for: the process id is nobody's.
        self.deaf = False  # It closed its end of the channel: it is ending.
        self.waiting: collections.deque[Waiting] = collections.deque()

    def __repr__(self) -> str:
        return f"{self.name} (pid {self.pid})"

    @property
    def name(self) -> str:
        """What logs call it."""
        return "controller" if self.worker < 0 else f"worker {self.worker}"

    def tell(self, order: Order, passed: socket.socket | None = None, *, owned: bool = False) -> None:
        """Send an order, now or when the child reads again. An `owned` socket is closed once it is over there."""
        self.waiting.append(Waiting(order, passed, owned))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the child reads."""
        while self.waiting:
            order, passed, owned = self.waiting[0]
            if passed is not None and passed.fileno() < 0:
                # The listener went before this child heard of it.
                self.waiting.popleft()
                continue
            try:
                send_order(self.channel, order, () if passed is None else (passed.fileno(),))
            except BlockingIOError:
                if len(self.waiting) > MAX_WAITING:
                    self._drop()
                return
            except OSError:
                # It is gone, or about to be seen so.
                self._drop()
                return
            self.waiting.popleft()
            if owned and passed is not None:
                passed.close()

    def _drop(self) -> None:
        for _, passed, owned in self.waiting:
            if owned and passed is not None:
                passed.close()
        self.waiting.clear()

    def close(self) -> None:
        """Let go of the channel and of what waited."""
        self._drop()
        self.channel.close()
