"""What the supervisor does now and then, of which nobody else would take care."""

import os
import selectors
import signal
import subprocess
import time

import pytest

from ingressd.ipc import orders
from ingressd.ipc.orders import Order, send_order
from ingressd.observe import operational_log
from ingressd.supervise.child import Child
from ingressd.supervise.estate import Estate
from ingressd.supervise.succession import READY_S
from ingressd.supervise.supervisor import Kin, Supervisor


def close(supervisor: Supervisor) -> None:
    """What `run` does at its end."""
    supervisor._selector.close()
    supervisor._table.close()


@pytest.fixture
def heirs(monkeypatch):
    """The processes that a supervisor has begun as its heirs: they sleep."""
    monkeypatch.setattr(operational_log, "configure", lambda *options, **more: None)
    begun: list[subprocess.Popen[bytes]] = []
    yield begun
    for process in begun:
        process.kill()
        process.wait()


def test_an_heir_that_is_not_ready_in_time_is_given_up(heirs) -> None:
    """One that hangs would keep every later SIGUSR2 from doing anything."""

    def start(channel: int) -> int:
        heirs.append(subprocess.Popen(["/bin/sleep", "60"]))
        return heirs[-1].pid

    kin = Kin(start, lambda: os.open(os.devnull, os.O_RDONLY))
    supervisor = Supervisor(lambda *_: 0, level="error", form="text", kin=kin)
    try:
        now_s = time.monotonic()
        supervisor._succession.begin(now_s)
        supervisor._look(now_s + READY_S - 1.0)
        assert heirs[0].poll() is None
        supervisor._look(now_s + READY_S)
        assert heirs[0].wait(10) == -signal.SIGKILL
    finally:
        for heir in supervisor._succession._heirs.values():
            heir.channel.close()
        close(supervisor)


def test_what_is_no_order_from_the_first_supervisor_does_not_end_the_one_that_serves(heirs, caplog) -> None:
    """An older version may say what we do not know."""
    theirs, ours = orders.pair()
    kin = Kin(lambda channel: 0, lambda: 0, Estate(ours))
    supervisor = Supervisor(lambda *_: 0, level="error", form="text", kin=kin)
    theirs.send(b'{"op":"succeeded","unheard_of":1}')
    supervisor._hear_parent(ours)
    assert "not an order" in caplog.text
    assert supervisor._exit_code is None
    send_order(theirs, Order(orders.SUCCEEDED))
    supervisor._hear_parent(ours)
    assert supervisor._drain.began
    theirs.close()
    ours.close()
    close(supervisor)


class Staged:
    """A supervisor with one worker, a process that sleeps, whose words the test says."""

    def __init__(self, heirs: list[subprocess.Popen[bytes]]) -> None:
        self.theirs, self.ours = orders.pair()
        self.process = subprocess.Popen(["/bin/sleep", "60"])
        heirs.append(self.process)
        kin = Kin(lambda channel: 0, lambda: 0)
        self.supervisor = Supervisor(lambda *_: 0, level="error", form="text", kin=kin)
        self.worker = Child(0, 1, pid=self.process.pid, channel=self.ours, now_s=time.monotonic())
        self.supervisor._children._children[0] = self.worker
        self.supervisor._selector.register(self.ours, selectors.EVENT_READ, self.worker)

    def close(self) -> None:
        self.theirs.close()
        self.ours.close()
        close(self.supervisor)


def test_a_worker_that_gives_orders_is_killed(heirs) -> None:
    """They are the controller's to give. Whoever has taken a worker over must not close everybody's listeners."""
    stage = Staged(heirs)
    order = Order(orders.CONFIGURED, number=1, host="127.0.0.1", port=0, detail="error", name="text")
    send_order(stage.theirs, order)
    stage.supervisor._orders(stage.worker)
    assert not stage.supervisor._configured
    assert stage.process.wait(10) == -signal.SIGKILL
    stage.close()


@pytest.mark.parametrize("said", [b"no order", b'{"op":"ready"}'])
def test_what_one_that_has_ended_has_said_ends_nobody_else(heirs, monkeypatch, said) -> None:
    """Its number may be somebody else's by now, or nobody's."""
    stage = Staged(heirs)
    stage.theirs.send(said)
    stage.process.kill()
    stage.process.wait()
    killed = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
    stage.supervisor._ended(stage.worker, signal.SIGKILL)
    assert killed == []
    assert 0 in stage.supervisor._children.due, "it is started again"
    stage.close()
