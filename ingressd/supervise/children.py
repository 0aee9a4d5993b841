"""Controller and workers: started, linked to each other, told orders, killed when they hang, started again."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

from ingressd.ipc import orders
from ingressd.ipc.orders import Order
from ingressd.observe.shared_table import APPLYING, APPLYING_UNIT, HEARTBEAT_MS, SharedTable
from ingressd.supervise.backoff import GREATEST_S, SETTLED_S, WORKER_SETTLED_S, Backoff
from ingressd.supervise.child import Child
from ingressd.supervise.pulse import read_process_state

CONTROLLER: Final = -1
"""Its index; a worker's is its column in the shared table."""

Start = Callable[[int, Sequence[str], Sequence[int]], int]
"""Starts a child: worker index (or CONTROLLER), further arguments, descriptors it keeps; the process id."""

log = logging.getLogger("ingressd.supervise")


class Children:
    """The processes of one supervisor by index. `launched` hears of every worker that was started."""

    def __init__(
        self,
        start: Start,
        *,
        table: SharedTable,
        selector: selectors.BaseSelector,
        launched: Callable[[Child], None],
    ) -> None:
        self.arguments: tuple[str, ...] = ()
        """Phase, level and format of the log, for those that start from now on."""
        self.due: dict[int, float] = {}
        """When to start which one again."""
        self._start = start
        self._table = table
        self._selector = selector
        self._launched = launched
        self._children: dict[int, Child] = {}
        self._starts: dict[int, int] = {}
        self._backoffs: dict[int, Backoff] = {}

    @property
    def controller(self) -> Child | None:
        """The controller, while there is one."""
        return self._children.get(CONTROLLER)

    def workers(self) -> list[Child]:
        """All workers that there are."""
        return [child for index, child in self._children.items() if index != CONTROLLER]

    def tell(self, order: Order, *, passed: socket.socket | None = None) -> None:
        """Tell the controller, if there is one."""
        if self.controller is not None:
            self.controller.tell(order, passed)

    def tell_workers(self, order: Order) -> None:
        """Tell every worker."""
        for worker in self.workers():
            worker.tell(order)

    # ------------------------------------------------------------------ beginnings
    def launch(self, index: int) -> None:
        """Start one; when that fails, later."""
        ours, theirs = orders.pair()
        number = self._starts[index] = self._starts.get(index, 0) + 1
        arguments = [str(theirs.fileno()), str(self._table.fd), *self.arguments]
        try:
            pid = self._start(index, arguments, (theirs.fileno(), self._table.fd))
        except OSError as error:
            log.error("cannot start %s: %s", "the controller" if index == CONTROLLER else f"worker {index}", error)
            ours.close()
            self.due[index] = time.monotonic() + GREATEST_S
            return
        finally:
            theirs.close()
        child = Child(index, number, pid=pid, channel=ours, now_s=time.monotonic())
        self._children[index] = child
        self._selector.register(ours, selectors.EVENT_READ, child)
        log.debug("%s started", child)
        if index == CONTROLLER:
            for worker in self.workers():
                self._link(worker)
        else:
            self._link(child)
            self._launched(child)

    def _link(self, worker: Child) -> None:
        """Give a worker and the controller a private pair of sockets."""
        controller = self.controller
        if controller is None:
            return
        one, two = socket.socketpair()
        worker.tell(Order(orders.ATTACH, number=controller.number), one, owned=True)
        controller.tell(
            Order(orders.WORKER, worker=worker.worker, pid=worker.pid, number=worker.number), two, owned=True
        )

    def launch_due(self, now_s: float) -> None:
        """Start what is due."""
        for index, moment in list(self.due.items()):
            if moment <= now_s:
                del self.due[index]
                self.launch(index)

    def launch_again(self, child: Child) -> None:
        """One that ended is started again, after a pause if it was quick to die."""
        now_s = time.monotonic()
        settled_s = SETTLED_S if child.worker == CONTROLLER else WORKER_SETTLED_S
        backoff = self._backoffs.setdefault(child.worker, Backoff(settled_s))
        self.due[child.worker] = now_s + backoff.pause_s(now_s - child.started_at_s)

    # ------------------------------------------------------------------ looking after them
    def look(self, now_s: float) -> list[tuple[Child, str]]:
        """Send what waits; those that hang, and why."""
        hung = []
        for child in self._children.values():
            child.flush()
            column = self._table.controller_column() if child.worker == CONTROLLER else self._table.column(child.worker)
            if child.killed_because or not child.pulse.is_silent(now_s, column[HEARTBEAT_MS]):
                continue
            state = read_process_state(child.pid)
            reason = None if state is None else child.pulse.verdict(state)
            if reason is not None:
                hung.append((child, reason))
        return hung

    # ------------------------------------------------------------------ ends
    def find(self, pid: int) -> Child | None:
        """The one with this process id."""
        return next((child for child in self._children.values() if child.pid == pid), None)

    def forget(self, child: Child) -> None:
        """Listen to it no more."""
        if not child.deaf:
            child.deaf = True
            self._selector.unregister(child.channel)

    def remove(self, child: Child) -> None:
        """It has ended."""
        self.forget(child)
        del self._children[child.worker]
        child.close()

    def gone(self, worker: Child, how: str) -> None:
        """A worker has ended: clear its column, and tell the controller what it was doing."""
        column = self._table.column(worker.worker)
        order = Order(
            orders.GONE,
            worker=worker.worker,
            pid=worker.pid,
            number=worker.number,
            version=column[APPLYING],
            unit=column[APPLYING_UNIT],
            detail=how,
        )
        self._table.reap(worker.worker)
        self.tell(order)

    def kill_all(self) -> None:
        """Nothing is left behind."""
        for child in self._children.values():
            os.kill(child.pid, signal.SIGKILL)
        for child in list(self._children.values()):
            os.waitpid(child.pid, 0)
            self.remove(child)
