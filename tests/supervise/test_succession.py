"""The first supervisor's side of a hand-over, with heirs that are told what to do."""

import logging
import os
import selectors
import signal
import socket
import subprocess

import pytest

from ingressd.ipc import orders
from ingressd.ipc.orders import Order, receive_order, send_order
from ingressd.supervise.succession import READY_S, Succession


class Family:
    """A succession whose heirs are processes that sleep, and whose words the test says."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.ends: list[socket.socket] = []
        self.bequeathed = 0
        self.retired = 0
        self.ended_early: OSError | None = None
        self.succession = Succession(
            self._start, selector=self.selector, bequeath=self._bequeath, succeeded=self._succeeded
        )

    def _start(self, channel: int) -> int:
        self.ends.append(socket.socket(fileno=os.dup(channel)))
        self.processes.append(subprocess.Popen(["/bin/sleep", "60"]))
        return self.processes[-1].pid

    def _bequeath(self, channel: socket.socket) -> None:
        self.bequeathed += 1
        if self.ended_early:
            raise self.ended_early

    def _succeeded(self) -> None:
        self.retired += 1

    def begin(self, now_s: float = 0.0) -> int:
        self.succession.begin(now_s)
        return len(self.processes) - 1

    def says(self, heir: int, order: Order, descriptors: tuple[int, ...] = ()) -> None:
        send_order(self.ends[heir], order, descriptors)
        for key, _ in self.selector.select(0):
            self.succession.hear(key.data)

    def hears(self, heir: int) -> list[str]:
        heard = []
        while True:
            try:
                received = receive_order(self.ends[heir])
            except BlockingIOError:
                return heard
            if received is None:
                return heard
            heard.append(received[0].op)
            for descriptor in received[1]:
                os.close(descriptor)

    def ends_with(self, heir: int, number: int) -> None:
        process = self.processes[heir]
        process.send_signal(number)
        self.reap(heir)

    def reap(self, heir: int) -> None:
        process = self.processes[heir]
        _, status = os.waitpid(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.succession.ended(process.pid, status)

    def close(self) -> None:
        self.succession.close()
        for process in self.processes:
            if process.returncode is None:
                process.returncode = -signal.SIGKILL  # `close` has waited for it.
        for end in self.ends:
            end.close()
        self.selector.close()


@pytest.fixture
def family():
    made = Family()
    yield made
    made.close()


READY = Order(orders.READY)


def test_the_first_retires_when_the_heir_is_ready_and_not_before(family):
    heir = family.begin()
    assert (family.bequeathed, family.retired, family.succession.happened) == (1, 0, False)
    family.says(heir, READY)
    assert (family.retired, family.succession.happened, family.succession.exit_code()) == (1, True, None)


def test_the_second_heir_gets_everything_from_the_one_that_serves(family, tmp_path):
    first = family.begin()
    family.says(first, READY)
    second = family.begin()
    assert (family.hears(first), family.bequeathed) == ([orders.BEQUEATH], 1)
    with open(tmp_path / "socket", "wb") as something:
        family.says(first, Order(orders.INHERIT, name="listeners"), (something.fileno(),))
    family.says(first, Order(orders.BEGIN))
    assert family.hears(second) == [orders.INHERIT, orders.BEGIN]
    family.says(second, READY)
    assert family.hears(first) == [orders.SUCCEEDED]
    assert family.retired == 1, "it was long ago"


def test_who_is_not_ready_in_time_is_given_up(family, caplog):
    heir = family.begin(now_s=100.0)
    family.succession.look(100.0 + READY_S - 0.1)
    assert family.processes[heir].poll() is None
    with caplog.at_level(logging.ERROR):
        family.succession.look(100.0 + READY_S)
    assert f"it was not ready within {READY_S:g} s; the old one serves on" in caplog.text
    family.reap(heir)
    assert family.processes[heir].returncode == -signal.SIGKILL
    assert (family.retired, family.succession.happened, family.succession.exit_code()) == (0, False, None)
    family.says(family.begin(now_s=300.0), READY)
    assert family.retired == 1, "the next one may try"


def test_ready_after_it_was_given_up_comes_too_late(family):
    heir = family.begin()
    family.succession.look(READY_S)
    family.says(heir, READY)
    assert family.retired == 0


def test_what_serves_ends_in_order_and_the_last_to_drain_ends_everything(family):
    first = family.begin()
    family.says(first, READY)
    second = family.begin()
    family.says(second, READY)
    assert family.succession.stop()
    family.reap(second)
    assert family.succession.exit_code() is None, "the first heir drains"
    family.ends_with(first, signal.SIGKILL)
    assert family.succession.exit_code() == 128 + signal.SIGTERM, "sleep knows no better end"


def test_what_serves_dies_and_everything_ends_at_once(family):
    first = family.begin()
    family.says(first, READY)
    second = family.begin()
    family.says(second, READY)
    family.ends_with(second, signal.SIGKILL)
    assert family.succession.exit_code() == 128 + signal.SIGKILL


def test_one_that_says_what_is_no_order_is_given_up(family, caplog):
    heir = family.begin()
    family.ends[heir].send(b"no order")
    for key, _ in family.selector.select(0):
        family.succession.hear(key.data)
    assert "not an order" in caplog.text
    family.reap(heir)
    assert family.retired == 0


@pytest.mark.parametrize("error", [BrokenPipeError(), ConnectionResetError()])
def test_one_that_ends_before_it_got_anything_is_said_to_have_ended(family, caplog, error):
    family.ended_early = error
    family.begin()
    family.ends_with(0, signal.SIGKILL)
    assert "it ended with signal 9 (SIGKILL); the old one serves on" in caplog.text
    assert (family.retired, family.succession.happened) == (0, False)
