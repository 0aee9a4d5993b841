"""The supervisor's loop: signals, orders, ends of children, and a look at every pulse four times a second."""

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
from ingressd.ipc.orders import Order, OrderError, receive_order
from ingressd.observe import operational_log
from ingressd.observe.shared_table import APPLYING, APPLYING_UNIT, HEARTBEAT_MS, MAX_WORKERS, SharedTable
from ingressd.supervise.backoff import GREATEST_S, Backoff
from ingressd.supervise.child import Child
from ingressd.supervise.lent import LentSocket
from ingressd.supervise.pulse import read_process_state
from ingressd.supervise.sockets import Changes, Listeners, address, open_listener

LOOK_S: Final = 0.25
RETRY_BIND_S: Final = 2.0
STOP_S: Final = 2.0
"""How long the controller may take to end after the last worker."""
OVERTIME_S: Final = 5.0
"""What workers may take beyond the time-out of a drain before they are killed."""
STARTS_WITHOUT_CONFIGURATION: Final = 3
CONTROLLER: Final = -1

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_BAD_CONFIGURATION: Final = 2
"""Also the exit code with which a controller says so."""

Start = Callable[[int, Sequence[str], Sequence[int]], int]
"""Starts a child: worker index (or CONTROLLER), further arguments, descriptors it keeps; the process id."""

log = logging.getLogger("ingressd.supervise")


class Supervisor:
    """Runs everything. `start` makes processes; `run` returns the exit code."""

    def __init__(self, start: Start, *, level: str, form: str) -> None:
        self._start = start
        self._log_configured = (level, form)
        """What the configuration file says; `error-log-level` in the settings goes before its level."""
        self._log_options = (level, form)
        self._table = SharedTable.create(1)
        self._listeners = Listeners()
        self._admin: socket.socket | None = None
        self._admission = LentSocket()
        self._configured = False
        self._served = False  # From the first list of listeners on; only then may all of them fail.
        self._controller_failures = 0
        self._children: dict[int, Child] = {}  # By worker index, CONTROLLER for the controller.
        self._starts: dict[int, int] = {}
        self._backoffs: dict[int, Backoff] = {}
        self._due: dict[int, float] = {}  # When to start which child again.
        self._bind_again_at_s = 0.0
        self._looked_at_s = 0.0
        self._grace_s = 0.0
        self._timeout_s = 0.0
        self._drain_from_s: float | None = None
        self._stop_from_s: float | None = None
        self._exit_code: int | None = None
        self._kills_in_drain = 0
        self._selector = selectors.DefaultSelector()

    # ------------------------------------------------------------------ the loop
    def run(self) -> int:
        """Start the children, serve until told to stop; the exit code."""
        wake, told = socket.socketpair()
        for end in (wake, told):
            end.setblocking(False)
        self._selector.register(wake, selectors.EVENT_READ)
        handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)
        # The numbers arrive through the wake-up socket; the handlers only have to exist.
        for number in handled:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        try:
            self._launch(CONTROLLER)
            self._launch(0)
            while self._exit_code is None:
                self._turn(wake)
            return self._exit_code
        finally:
            signal.set_wakeup_fd(-1)
            self._kill_all()
            self._selector.close()
            wake.close()
            told.close()

    def _turn(self, wake: socket.socket) -> None:
        for key, _ in self._selector.select(self._pause_s()):
            if key.fileobj is wake:
                self._signals(wake.recv(4096))
            else:
                self._orders(key.data)
        self._reap()
        now_s = time.monotonic()
        self._launch_due(now_s)
        if now_s - self._looked_at_s >= LOOK_S:
            self._looked_at_s = now_s
            self._look(now_s)
        self._drain_on(now_s)

    def _pause_s(self) -> float:
        now_s = time.monotonic()
        moments = (self._looked_at_s + LOOK_S, *self._due.values())
        return max(0.0, min(moment - now_s for moment in moments))

    def _signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop_signal(number)
            elif number == signal.SIGHUP:
                log.info("SIGHUP: the configuration is read again")
                self._tell(CONTROLLER, Order(orders.RELOAD))
            elif number == signal.SIGUSR1:
                log.info("SIGUSR1: log files are reopened")
                for index in self._workers():
                    self._tell(index, Order(orders.REOPEN))
            elif number == signal.SIGUSR2:
                log.error("SIGUSR2: handing over to a new binary is not built yet; nothing was done")

    # ------------------------------------------------------------------ children
    def _workers(self) -> list[int]:
        return [index for index in self._children if index != CONTROLLER]

    def _tell(self, index: int, order: Order) -> None:
        child = self._children.get(index)
        if child is not None:
            child.tell(order)

    def _launch(self, index: int) -> None:
        ours, theirs = orders.pair()
        number = self._starts[index] = self._starts.get(index, 0) + 1
        phase = "again" if self._configured else "first"
        arguments = [str(theirs.fileno()), str(self._table.fd), phase, *self._log_options]
        try:
            pid = self._start(index, arguments, (theirs.fileno(), self._table.fd))
        except OSError as error:
            log.error("cannot start %s: %s", "the controller" if index == CONTROLLER else f"worker {index}", error)
            ours.close()
            self._due[index] = time.monotonic() + GREATEST_S
            return
        finally:
            theirs.close()
        child = Child(index, number, pid=pid, channel=ours, now_s=time.monotonic())
        self._children[index] = child
        self._selector.register(ours, selectors.EVENT_READ, child)
        log.debug("%s started", child)
        if index == CONTROLLER:
            for other in self._workers():
                self._link(self._children[other])
        else:
            self._link(child)
            for name, bound in self._listeners.bound.items():
                child.tell(Order(orders.LISTEN, name=name), bound.socket)

    def _link(self, worker: Child) -> None:
        """Give a worker and the controller a private pair of sockets."""
        controller = self._children.get(CONTROLLER)
        if controller is None:
            return
        one, two = socket.socketpair()
        worker.tell(Order(orders.ATTACH, number=controller.number), one, owned=True)
        controller.tell(
            Order(orders.WORKER, worker=worker.worker, pid=worker.pid, number=worker.number), two, owned=True
        )

    def _launch_due(self, now_s: float) -> None:
        for index, moment in list(self._due.items()):
            if moment <= now_s:
                del self._due[index]
                self._launch(index)

    def _reap(self) -> None:
        """Collect every child that ended; as PID 1 also orphans of others, which are nobody of ours."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for child in list(self._children.values()):
                if child.pid == pid:
                    self._ended(child, status)

    def _ended(self, child: Child, status: int) -> None:
        # What it still said counts, above all that the configuration is bad.
        self._orders(child)
        self._forget(child)
        del self._children[child.worker]
        child.close()
        code = os.waitstatus_to_exitcode(status)
        how = f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.Signals(-code).name})"
        if child.killed_because:
            how = child.killed_because
        if child.worker == CONTROLLER:
            self._controller_ended(child, code, how)
        else:
            self._worker_ended(child, code, how)

    def _controller_ended(self, child: Child, code: int, how: str) -> None:
        if self._drain_from_s is not None:
            return
        self._table.controller_column()[HEARTBEAT_MS] = 0
        if not self._configured:
            self._controller_failures += 1
            if code == EXIT_BAD_CONFIGURATION:
                self._exit_code = EXIT_BAD_CONFIGURATION
                return
            if self._controller_failures >= STARTS_WITHOUT_CONFIGURATION:
                log.error("the controller does not start (%s)", how)
                self._exit_code = EXIT_FAILED
                return
        log.error("%s ended: %s; workers serve on, it is started again", child, how)
        self._again(child)

    def _worker_ended(self, child: Child, code: int, how: str) -> None:
        column = self._table.column(child.worker)
        gone = Order(
            orders.GONE,
            worker=child.worker,
            pid=child.pid,
            number=child.number,
            version=column[APPLYING],
            unit=column[APPLYING_UNIT],
            detail=how,
        )
        self._table.reap(child.worker)
        self._tell(CONTROLLER, gone)
        if self._drain_from_s is not None:
            if code != 0:
                log.warning("%s ended while draining: %s", child, how)
            return
        log.log(logging.ERROR if code else logging.INFO, "%s ended: %s; it is started again", child, how)
        self._again(child)

    def _again(self, child: Child) -> None:
        now_s = time.monotonic()
        backoff = self._backoffs.setdefault(child.worker, Backoff())
        self._due[child.worker] = now_s + backoff.pause_s(now_s - child.started_at_s)

    # ------------------------------------------------------------------ orders of the controller
    def _orders(self, child: Child) -> None:
        while True:
            try:
                received = receive_order(child.channel)
            except BlockingIOError:
                return
            except OSError:
                # It ended with orders of ours unread.
                received = None
            except OrderError as error:
                self._kill(child, f"sent what is no order: {error}")
                received = None
            if received is None:
                # Its end comes through waitpid; until then there is nothing to read.
                self._forget(child)
                return
            order, descriptors = received
            for descriptor in descriptors:
                os.close(descriptor)
            self._obey(order)

    def _forget(self, child: Child) -> None:
        """Listen to a child no more."""
        if not child.deaf:
            child.deaf = True
            self._selector.unregister(child.channel)

    def _obey(self, order: Order) -> None:
        if order.op == orders.CONFIGURED:
            self._configure(order)
        elif order.op == orders.LISTENERS:
            if self._drain_from_s is None:
                self._announce(self._listeners.want(order.listeners))
        elif order.op == orders.WEBHOOK:
            self._lend(self._admission.want(order))
        elif order.op == orders.POLICY and self._drain_from_s is None:
            self._grace_s, self._timeout_s = order.grace_s, order.timeout_s
            level, form = self._log_configured
            self._set_log(order.detail or level, form)

    def _set_log(self, level: str, form: str) -> None:
        """Make every process log at this level and in this format; children that start later get them as arguments."""
        if self._log_options == (level, form):
            return
        self._log_options = (level, form)
        operational_log.configure(level, form, process="supervisor")
        for index in self._children:
            self._tell(index, Order(orders.LOG, name=form, detail=level))

    def _configure(self, order: Order) -> None:
        controller = self._children[CONTROLLER]
        self._log_configured = (order.detail, order.name)
        self._set_log(order.detail, order.name)
        if not self._configured:
            self._table.workers = min(order.number, MAX_WORKERS)
            try:
                self._admin = open_listener(order.host, order.port)
            except OSError as error:
                log.error("cannot listen on %s (admin): %s", address(order.host, order.port), error.strerror)
                self._exit_code = EXIT_FAILED
                return
            self._configured = True
            for index in range(1, self._table.workers):
                self._launch(index)
        controller.tell(Order(orders.ADMIN, number=self._table.workers), self._admin)
        for name in self._listeners.bound:
            controller.tell(Order(orders.BOUND, name=name))
        for name, reason in self._listeners.failed.items():
            controller.tell(Order(orders.BOUND, name=name, detail=reason))

    def _lend(self, answer: tuple[Order, socket.socket | None] | None) -> None:
        controller = self._children.get(CONTROLLER)
        if answer is not None and controller is not None:
            controller.tell(*answer)

    def _announce(self, changes: Changes) -> None:
        """Tell everybody what became of the listeners."""
        for index in self._workers():
            child = self._children[index]
            for name in changes.closed:
                child.tell(Order(orders.UNLISTEN, name=name))
            for name in changes.opened:
                child.tell(Order(orders.LISTEN, name=name), self._listeners.bound[name].socket)
        for name in changes.opened:
            bound = self._listeners.bound[name]
            log.info("listener %s: listening on %s", name, address(bound.host, bound.port))
            self._tell(CONTROLLER, Order(orders.BOUND, name=name))
        for name in changes.closed:
            log.info("listener %s: its socket is closed", name)
        for name, reason in changes.failed.items():
            log.error("listener %s: %s", name, reason)
            self._tell(CONTROLLER, Order(orders.BOUND, name=name, detail=reason))
        if changes.failed and not self._listeners.bound and not self._served:
            log.error("no listener could be bound")
            self._exit_code = EXIT_FAILED
        self._served = True

    # ------------------------------------------------------------------ looking after them
    def _look(self, now_s: float) -> None:
        for child in list(self._children.values()):
            child.flush()
            column = self._table.controller_column() if child.worker == CONTROLLER else self._table.column(child.worker)
            if child.killed_because or not child.pulse.is_silent(now_s, column[HEARTBEAT_MS]):
                continue
            state = read_process_state(child.pid)
            reason = None if state is None else child.pulse.verdict(state)
            if reason is not None:
                log.error("%s hangs: %s; it is killed", child, reason)
                self._kill(child, reason)
        if now_s >= self._bind_again_at_s and self._drain_from_s is None:
            self._bind_again_at_s = now_s + RETRY_BIND_S
            if self._listeners.failed:
                self._announce(self._listeners.retry())
            if self._admission.failed:
                self._lend(self._admission.retry())

    def _kill(self, child: Child, reason: str) -> None:
        child.killed_because = reason
        # Not reaped yet, so the number is still its own.
        os.kill(child.pid, signal.SIGKILL)
        if self._drain_from_s is not None:
            self._kills_in_drain += 1

    # ------------------------------------------------------------------ the end
    def _stop_signal(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._drain_from_s is not None:
            log.warning("%s again: everything ends now", name)
            self._exit_code = 128 + number
            return
        log.info("%s: draining, %g s of grace, at most %g s for what runs", name, self._grace_s, self._timeout_s)
        self._drain_from_s = time.monotonic()
        self._due.clear()
        # Workers accept as long as the grace period lasts; the last of them takes what waits, then closes for good.
        self._listeners.close()
        for child in self._children.values():
            child.tell(Order(orders.DRAIN, grace_s=self._grace_s, timeout_s=self._timeout_s))

    def _drain_on(self, now_s: float) -> None:
        if self._drain_from_s is None:
            return
        if now_s >= self._drain_from_s + self._grace_s + self._timeout_s + OVERTIME_S:
            for index in self._workers():
                child = self._children[index]
                if not child.killed_because:
                    log.error("%s did not end within the time-out of the drain; it is killed", child)
                    self._kill(child, "did not end in time")
        if self._workers():
            return
        controller = self._children.get(CONTROLLER)
        if self._stop_from_s is None:
            self._stop_from_s = now_s
            if controller is not None:
                controller.tell(Order(orders.STOP))
        if controller is None or now_s >= self._stop_from_s + STOP_S:
            self._exit_code = EXIT_FAILED if self._kills_in_drain else EXIT_OK
            log.info("drained")

    def _kill_all(self) -> None:
        """Nothing is left behind, whatever ended the loop."""
        for child in self._children.values():
            os.kill(child.pid, signal.SIGKILL)
        for child in self._children.values():
            os.waitpid(child.pid, 0)
            child.close()
        self._children.clear()
        self._listeners.close()
        if self._admin is not None:
            self._admin.close()
        self._admission.close()
        self._table.close()
