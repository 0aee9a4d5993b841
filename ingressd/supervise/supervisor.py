"""The supervisor's loop: signals, orders, ends of children, and a look at every pulse four times a second."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from ingressd.ipc import orders
from ingressd.ipc.orders import Order, OrderError, receive_order, send_order, waiting_orders
from ingressd.observe import operational_log
from ingressd.observe.shared_table import HEARTBEAT_MS, MAX_WORKERS, SharedTable
from ingressd.supervise import estate as estates
from ingressd.supervise.admin_socket import AdminSocket
from ingressd.supervise.child import Child
from ingressd.supervise.children import CONTROLLER, Children, Start
from ingressd.supervise.drain import Drain
from ingressd.supervise.estate import Estate
from ingressd.supervise.lent import LentSocket
from ingressd.supervise.sockets import Changes, Listeners, address
from ingressd.supervise.succession import Heir, StartHeir, Succession

LOOK_S: Final = 0.25
RETRY_BIND_S: Final = 2.0
MOVE_S: Final = 5.0
"""After a hand-over: how long clients that keep their connection have to hear of its end with an answer. One that is
closed while nothing happens on it may meet a request on its way."""
STARTS_WITHOUT_CONFIGURATION: Final = 3

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_BAD_CONFIGURATION: Final = 2
"""Also the exit code with which a controller says so."""


class Kin(NamedTuple):
    """What it takes to hand over: `start` begins the next one, `tickets` is a new descriptor of the ticket secret, and
    `estate` is what we got ourselves, None for the supervisor that was started first."""

    start: StartHeir
    tickets: Callable[[], int]
    estate: Estate | None = None


log = logging.getLogger("ingressd.supervise")


class Supervisor:
    """Runs everything. `start` makes processes; `run` returns the exit code."""

    def __init__(self, start: Start, *, level: str, form: str, kin: Kin) -> None:
        self._kin = kin
        estate = kin.estate
        self._parent = None if estate is None else estate.parent
        self._name = "supervisor" if estate is None else f"supervisor {os.getpid()}"
        operational_log.configure(level, form, process=self._name)
        self._log_configured = (level, form)
        """What the configuration file says; `error-log-level` in the settings goes before its level."""
        self._log_options = (level, form)
        self._table = SharedTable.create(1)
        take = estates.nothing if estate is None else estate.take
        self._listeners = Listeners(take(estates.LISTENERS))
        self._admin = AdminSocket(take(estates.ADMIN))
        self._admission = LentSocket(take(estates.ADMISSION))
        self._configured = False
        self._ready = False  # Every worker serves. As an heir we accept from then on, not before.
        self._served = False  # From the first list of listeners on; only then may all of them fail.
        self._controller_failures = 0
        self._bind_again_at_s = 0.0
        self._looked_at_s = 0.0
        self._drain = Drain()
        self._stopping = False  # By a signal; a drain may also follow a hand-over.
        self._drained = False
        self._exit_code: int | None = None
        self._selector = selectors.DefaultSelector()
        self._children = Children(start, table=self._table, selector=self._selector, launched=self._launched)
        self._children.arguments = ("first", level, form)
        self._succession = Succession(
            kin.start,
            selector=self._selector,
            bequeath=self._bequeath,
            succeeded=lambda: self._begin_drain(handed_over=True),
        )

    # ------------------------------------------------------------------ the loop
    def run(self) -> int:
        """Start the children, serve until told to stop; the exit code."""
        wake, told = socket.socketpair()
        for end in (wake, told):
            end.setblocking(False)
        self._selector.register(wake, selectors.EVENT_READ)
        handled = [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD]
        if self._parent is None:
            handled.append(signal.SIGINT)  # A terminal sends it to heirs too; they hear of it from the first.
        else:
            self._selector.register(self._parent, selectors.EVENT_READ)
        # The numbers arrive through the wake-up socket; the handlers only have to exist.
        for number in handled:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        try:
            self._children.launch(CONTROLLER)
            self._children.launch(0)
            while self._exit_code is None:
                self._turn(wake)
            return self._exit_code
        finally:
            signal.set_wakeup_fd(-1)
            self._kill_all()
            self._succession.close()
            if self._kin.estate is not None:
                self._kin.estate.close()
            self._table.close()
            self._selector.close()
            wake.close()
            told.close()

    def _turn(self, wake: socket.socket) -> None:
        for key, _ in self._selector.select(self._pause_s()):
            if key.fileobj is wake:
                self._signals(wake.recv(4096))
            elif key.fileobj is self._parent:
                self._hear_parent(self._parent)
            elif isinstance(key.data, Heir):
                self._succession.hear(key.data)
            else:
                self._orders(key.data)
        self._reap()
        now_s = time.monotonic()
        self._children.launch_due(now_s)
        if now_s - self._looked_at_s >= LOOK_S:
            self._looked_at_s = now_s
            self._look(now_s)
        self._drain_on(now_s)
        code = self._succession.exit_code()
        if code is not None and (self._drained or (code and not self._stopping)):
            self._exit_code = code

    def _pause_s(self) -> float:
        now_s = time.monotonic()
        moments = (self._looked_at_s + LOOK_S, *self._children.due.values())
        return max(0.0, min(moment - now_s for moment in moments))

    def _signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop_signal(number)
            elif number == signal.SIGHUP:
                if not self._succession.pass_on(number, to_all=False):
                    log.info("SIGHUP: the configuration is read again")
                    self._children.tell(Order(orders.RELOAD))
            elif number == signal.SIGUSR1:
                log.info("SIGUSR1: log files are reopened")
                self._succession.pass_on(number, to_all=True)
                self._children.tell_workers(Order(orders.REOPEN))
            elif number == signal.SIGUSR2:
                self._hand_over()

    # ------------------------------------------------------------------ children
    def _launched(self, worker: Child) -> None:
        if self._accepts():
            self._listen(worker, self._listeners.bound)

    def _accepts(self) -> bool:
        """As an heir we leave every connection to the one before us until all of our workers serve."""
        return self._ready or self._parent is None

    def _listen(self, worker: Child, names: Iterable[str]) -> None:
        for name in names:
            worker.tell(Order(orders.LISTEN, name=name), self._listeners.bound[name].socket)

    def _reap(self) -> None:
        """Collect every child that ended; as PID 1 also orphans of others, which are nobody of ours."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.find(pid)
            if child is not None:
                self._ended(child, status)
            self._succession.ended(pid, status)

    def _ended(self, child: Child, status: int) -> None:
        # What it still said counts, above all that the configuration is bad.
        child.ended = True
        self._orders(child)
        self._children.remove(child)
        code = os.waitstatus_to_exitcode(status)
        how = f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.Signals(-code).name})"
        if child.killed_because:
            how = child.killed_because
        if child.worker == CONTROLLER:
            self._controller_ended(child, code, how)
        else:
            self._worker_ended(child, code, how)

    def _controller_ended(self, child: Child, code: int, how: str) -> None:
        if self._drain.began:
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
        self._children.launch_again(child)

    def _worker_ended(self, child: Child, code: int, how: str) -> None:
        self._children.gone(child, how)
        if self._drain.began:
            if code != 0:
                log.warning("%s ended while draining: %s", child, how)
            return
        log.log(logging.ERROR if code else logging.INFO, "%s ended: %s; it is started again", child, how)
        self._children.launch_again(child)

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
                self._children.forget(child)
                return
            order, descriptors = received
            for descriptor in descriptors:
                os.close(descriptor)
            if child.worker == CONTROLLER:
                self._obey(order)
            elif not child.killed_because:
                log.error("%s gives orders (%s), which is the controller's to do; it is killed", child, order.op)
                self._kill(child, "gave orders")

    def _obey(self, order: Order) -> None:
        if order.op == orders.CONFIGURED:
            self._configure(order)
        elif order.op == orders.LISTENERS:
            if not self._drain.began:
                self._announce(self._listeners.want(order.listeners))
        elif order.op == orders.READY:
            self._get_ready()
        elif order.op == orders.WEBHOOK:
            self._lend(self._admission.want(order))
        elif order.op == orders.POLICY and not self._drain.began:
            self._drain.grace_s, self._drain.timeout_s = order.grace_s, order.timeout_s
            level, form = self._log_configured
            self._set_log(order.detail or level, form)

    def _set_log(self, level: str, form: str) -> None:
        """Make every process log at this level and in this format; children that start later get them as arguments."""
        if self._log_options == (level, form):
            return
        self._log_options = (level, form)
        self._tell_phase()
        operational_log.configure(level, form, process=self._name)
        order = Order(orders.LOG, name=form, detail=level)
        self._children.tell(order)
        self._children.tell_workers(order)

    def _tell_phase(self) -> None:
        self._children.arguments = ("again" if self._configured else "first", *self._log_options)

    def _configure(self, order: Order) -> None:
        self._log_configured = (order.detail, order.name)
        self._set_log(order.detail, order.name)
        if not self._configured:
            self._table.workers = min(order.number, MAX_WORKERS)
            if not self._admin.open(order.host, order.port):
                self._exit_code = EXIT_FAILED
                return
            self._configured = True
            self._tell_phase()
            for index in range(1, self._table.workers):
                self._children.launch(index)
        self._give_admin()
        for name in self._listeners.bound:
            self._children.tell(Order(orders.BOUND, name=name))
        for name, reason in self._listeners.failed.items():
            self._children.tell(Order(orders.BOUND, name=name, detail=reason))

    def _give_admin(self) -> None:
        """How many workers there are; an heir's controller answers there only when it would say that it is ready."""
        passed = self._admin.socket if self._accepts() else None
        self._children.tell(Order(orders.ADMIN, number=self._table.workers), passed=passed)

    def _lend(self, answer: tuple[Order, socket.socket | None] | None) -> None:
        if answer is not None:
            order, passed = answer
            self._children.tell(order, passed=passed)

    def _announce(self, changes: Changes) -> None:
        """Tell everybody what became of the listeners."""
        for child in self._children.workers():
            for name in changes.closed:
                child.tell(Order(orders.UNLISTEN, name=name))
            if self._accepts():
                self._listen(child, changes.opened)
        for name in changes.opened:
            bound = self._listeners.bound[name]
            log.info("listener %s: listening on %s", name, address(bound.host, bound.port))
            self._children.tell(Order(orders.BOUND, name=name))
        for name in changes.closed:
            log.info("listener %s: its socket is closed", name)
        for name, reason in changes.failed.items():
            log.error("listener %s: %s", name, reason)
            self._children.tell(Order(orders.BOUND, name=name, detail=reason))
        if changes.failed and not self._listeners.bound and not self._served:
            log.error("no listener could be bound")
            self._exit_code = EXIT_FAILED
        self._served = True

    # ------------------------------------------------------------------ looking after them
    def _look(self, now_s: float) -> None:
        for child, reason in self._children.look(now_s):
            log.error("%s hangs: %s; it is killed", child, reason)
            self._kill(child, reason)
        self._succession.look(now_s)
        if now_s >= self._bind_again_at_s and not self._drain.began:
            self._bind_again_at_s = now_s + RETRY_BIND_S
            if self._listeners.failed:
                self._announce(self._listeners.retry())
            if self._admission.failed:
                self._lend(self._admission.retry())

    def _kill(self, child: Child, reason: str) -> None:
        child.killed_because = reason
        if child.ended:
            return
        # Not reaped yet, so the number is still its own.
        os.kill(child.pid, signal.SIGKILL)
        if self._drain.began:
            self._drain.kills += 1

    # ------------------------------------------------------------------ hand-over
    def _hand_over(self) -> None:
        if self._parent is not None:
            log.error("SIGUSR2: only process %d, which started this one, hands over; nothing was done", os.getppid())
        elif self._stopping or not self._served:
            log.warning("SIGUSR2: this one %s; nothing was done", "ends" if self._stopping else "has only begun")
        else:
            self._succession.begin(time.monotonic())

    def _get_ready(self) -> None:
        """Every worker serves the first snapshot. As an heir we accept from now on, and the one before us may go."""
        if self._ready:
            return
        self._ready = True
        if self._parent is None or self._drain.began:
            return
        for worker in self._children.workers():
            self._listen(worker, self._listeners.bound)
        self._give_admin()
        with contextlib.suppress(OSError):  # It is gone, and we are going.
            send_order(self._parent, Order(orders.READY))

    def _hear_parent(self, parent: socket.socket) -> None:
        try:
            self._obey_parent(parent)
        except OrderError as error:
            log.error("process %d, which started this one: %s", os.getppid(), error)  # It may be of another version.

    def _obey_parent(self, parent: socket.socket) -> None:
        for received in waiting_orders(parent):
            if received is None:
                self._exit_code = EXIT_FAILED
                return
            order, descriptors = received
            for descriptor in descriptors:
                os.close(descriptor)
            if order.op == orders.BEQUEATH:
                try:
                    self._bequeath(parent)
                except (OSError, OrderError) as error:
                    log.error("sockets cannot be handed on: %s", error)  # The next one waits for them in vain.
            elif order.op == orders.SUCCEEDED:
                self._begin_drain(handed_over=True)

    def _bequeath(self, channel: socket.socket) -> None:
        """Hand on what we serve from. Raises OSError, OrderError."""
        admin = {} if self._admin.bound is None else {"admin": self._admin.bound}
        held = {
            estates.ADMIN: admin,
            estates.ADMISSION: self._admission.bound,
            estates.LISTENERS: self._listeners.bound,
        }
        tickets = self._kin.tickets()
        try:
            estates.bequeath(channel, held, tickets)
        finally:
            os.close(tickets)

    # ------------------------------------------------------------------ the end
    def _stop_signal(self, number: int) -> None:
        name, drain = signal.Signals(number).name, self._drain
        if self._stopping:
            log.warning("%s again: everything ends now", name)
            self._exit_code = 128 + number
            return
        self._stopping = True
        if self._succession.stop():
            log.info("%s: passed on to the one that serves", name)
        else:
            log.info("%s: draining, %g s of grace, at most %g s for what runs", name, drain.grace_s, drain.timeout_s)
            self._begin_drain(handed_over=False)

    def _begin_drain(self, *, handed_over: bool) -> None:
        if self._drain.began:
            return
        drain = self._drain
        drain.begin(time.monotonic(), least_grace_s=MOVE_S if handed_over else 0.0)
        self._children.due.clear()
        order = Order(orders.DRAIN, grace_s=drain.grace_s, timeout_s=drain.timeout_s)
        self._children.tell(Order(orders.SUCCEEDED) if handed_over else order)
        # What waits in the queues is the next one's.
        for name in self._listeners.bound if handed_over else ():
            self._children.tell_workers(Order(orders.UNLISTEN, name=name))
        self._children.tell_workers(order)
        # Workers accept as long as the grace period lasts; the last of them takes what waits, then closes for good.
        self._listeners.close()
        if handed_over:
            self._close_lent()

    def _drain_on(self, now_s: float) -> None:
        if not self._drain.began or self._drained:
            return
        if self._drain.overdue(now_s):
            for child in self._children.workers():
                if not child.killed_because:
                    log.error("%s did not end within the time-out of the drain; it is killed", child)
                    self._kill(child, "did not end in time")
        if self._children.workers():
            return
        if self._drain.begin_stop(now_s):
            self._children.tell(Order(orders.STOP))
        if self._children.controller is None or self._drain.controller_overdue(now_s):
            log.info("drained")
            self._drained = True
            if self._succession.happened:
                self._kill_all()  # From here on we only look after the one that serves.
            else:
                self._exit_code = EXIT_FAILED if self._drain.kills else EXIT_OK

    def _kill_all(self) -> None:
        """Nothing is left behind, whatever ended the loop."""
        self._children.kill_all()
        self._listeners.close()
        self._close_lent()

    def _close_lent(self) -> None:
        self._admin.close()
        self._admission.close()
