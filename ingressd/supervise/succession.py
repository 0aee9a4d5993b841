"""SIGUSR2: a new `ingressd run`, of what is installed now, takes over; this is the side of the one that came first.

The first supervisor starts every later one as its child and stays when its own workers have drained: it passes signals
on and ends as the one that serves ends. So the process id that a container, systemd or a PID file knows goes on being
the one to signal, and as PID 1 it must not end (decision record 0018).
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
from collections.abc import Callable
from typing import Final, NamedTuple

from ingressd.ipc import orders
from ingressd.ipc.orders import Order, OrderError, send_order, waiting_orders

READY_S: Final = 120.0
"""How long an heir may take until every worker of its own serves."""

StartHeir = Callable[[int], int]
"""Starts the same command again with the channel of this descriptor; the process id. Raises OSError."""

log = logging.getLogger("ingressd.supervise")


class Heir(NamedTuple):
    """A later supervisor: coming, serving or draining."""

    pid: int
    channel: socket.socket
    started_at_s: float

    def tell(self, order: Order, descriptors: tuple[int, ...] = ()) -> None:
        """Send an order; one that is gone, or does not read, is found out by its end or by its time."""
        try:
            send_order(self.channel, order, descriptors)
        except (OSError, OrderError) as error:
            log.error("the supervisor %d cannot be told to %s: %s", self.pid, order.op, error)


class Succession:
    """All later supervisors. `bequeath` sends what the first one holds; `succeeded` lets the first one drain."""

    def __init__(
        self,
        start: StartHeir,
        *,
        selector: selectors.BaseSelector,
        bequeath: Callable[[socket.socket], None],
        succeeded: Callable[[], None],
        ready_s: float = READY_S,
    ) -> None:
        self._start = start
        self._selector = selector
        self._bequeath = bequeath
        self._succeeded = succeeded
        self._ready_s = ready_s
        self._heirs: dict[int, Heir] = {}
        self._coming: Heir | None = None
        self._serving: Heir | None = None
        self._stopping = False
        self._ended_with: int | None = None

    # ------------------------------------------------------------------ views
    @property
    def happened(self) -> bool:
        """Whether the first supervisor serves no more."""
        return self._serving is not None or self._ended_with is not None

    def exit_code(self) -> int | None:
        """What to end with, None as long as somebody serves or drains."""
        if self._ended_with is None or (self._heirs and (self._ended_with == 0 or self._stopping)):
            return None
        return self._ended_with

    # ------------------------------------------------------------------ a hand-over
    def begin(self, now_s: float) -> None:
        """SIGUSR2: start the next one and have it get everything."""
        if self._coming is not None:
            log.warning("SIGUSR2: a hand-over to process %d is under way; nothing was done", self._coming.pid)
            return
        ours, theirs = orders.pair()
        try:
            pid = self._start(theirs.fileno())
        except OSError as error:
            ours.close()
            log.error("SIGUSR2: a new supervisor cannot be started: %s; the old one serves on", error)
            return
        finally:
            theirs.close()
        log.info("SIGUSR2: handing over to process %d", pid)
        self._coming = self._heirs[pid] = heir = Heir(pid, ours, now_s)
        self._selector.register(ours, selectors.EVENT_READ, heir)
        if self._serving is not None:
            self._serving.tell(Order(orders.BEQUEATH))
            return
        try:
            self._bequeath(ours)
        except ConnectionError:
            pass  # It has ended already: waitpid tells how.
        except (OSError, OrderError) as error:
            self._give_up(f"it cannot be given the sockets: {error}; the old one serves on")

    def hear(self, heir: Heir) -> None:
        """Something came from a later supervisor."""
        try:
            self._obey(heir)
        except OrderError as error:
            log.error("process %d: %s", heir.pid, error)
            self._selector.unregister(heir.channel)
            if heir is self._coming:
                self._give_up(f"{error}; the old one serves on")

    def _obey(self, heir: Heir) -> None:
        for received in waiting_orders(heir.channel):
            if received is None:
                # Its end comes through waitpid.
                self._selector.unregister(heir.channel)
                return
            order, descriptors = received
            if order.op == orders.READY and heir is self._coming:
                self._take_over(heir)
            elif order.op in (orders.INHERIT, orders.BEGIN) and heir is self._serving and self._coming is not None:
                self._coming.tell(order, tuple(descriptors))
            for descriptor in descriptors:
                os.close(descriptor)

    def _take_over(self, heir: Heir) -> None:
        before, self._serving, self._coming = self._serving, heir, None
        log.info("process %d serves; what ran before it drains", heir.pid)
        if before is None:
            self._succeeded()
        else:
            before.tell(Order(orders.SUCCEEDED))

    def look(self, now_s: float) -> None:
        """Now and then: whoever does not get ready in time is given up."""
        if self._coming is not None and now_s - self._coming.started_at_s >= self._ready_s:
            self._give_up(f"it was not ready within {self._ready_s:g} s; the old one serves on")

    def _give_up(self, reason: str) -> None:
        heir, self._coming = self._coming, None
        if heir is not None:
            log.error("hand-over to process %d failed: %s", heir.pid, reason)
            os.kill(heir.pid, signal.SIGKILL)  # Not reaped yet, so the number is still its own.

    # ------------------------------------------------------------------ ends and signals
    def ended(self, pid: int, status: int) -> None:
        """A child that is none of the first supervisor's own has ended."""
        heir = self._heirs.get(pid)
        if heir is None:
            return
        if heir.channel in self._selector.get_map():
            self.hear(heir)
        del self._heirs[pid]
        if heir.channel in self._selector.get_map():
            self._selector.unregister(heir.channel)
        heir.channel.close()
        code = os.waitstatus_to_exitcode(status)
        how = f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.Signals(-code).name})"
        if heir is self._coming:
            self._coming = None
            log.error("hand-over to process %d failed: it ended with %s; the old one serves on", pid, how)
        elif heir is self._serving:
            self._serving = None
            self._ended_with = code if code >= 0 else 128 - code
            log.log(logging.ERROR if code else logging.INFO, "process %d, which served, ended with %s", pid, how)

    def pass_on(self, number: int, *, to_all: bool) -> bool:
        """Send a signal to the one that serves, or to those that drain as well; whether anybody serves."""
        for heir in self._heirs.values():
            if heir is self._serving or (to_all and heir is not self._coming):
                os.kill(heir.pid, number)
        return self._serving is not None

    def stop(self) -> bool:
        """Everything is to end in order: no hand-over any more. Whether there is a later one that drains now."""
        self._stopping = True
        self._give_up("SIGTERM came first")
        return self.pass_on(signal.SIGTERM, to_all=False)

    def close(self) -> None:
        """Nothing is left behind: children of a supervisor that is killed die with it."""
        for heir in self._heirs.values():
            os.kill(heir.pid, signal.SIGKILL)
        for heir in self._heirs.values():
            os.waitpid(heir.pid, 0)
            heir.channel.close()
        self._heirs.clear()
