"""SIGUSR2: what is installed now takes over, and no client notices; what fails leaves the old one serving."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stage import running as stage_running
from stage.echo import EchoLoop, raise_echoes
from stage.load import Load, Upstream, alive, fetch, role, upstream
from stage.ports import Address, free_address, spelled
from stage.running import PATIENCE_S, Ingressd, route_to, running
from stage.wire import Client, ask, client_tls, request_bytes

pytestmark = pytest.mark.process

PLAIN = {"ssl-redirect": "false"}
UPGRADE = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]


@pytest.fixture
def api() -> Iterator[Upstream]:
    with upstream() as found:
        yield found


@pytest.fixture
def ingressd(tmp_path, api):
    with running(tmp_path, **route_to({"api": [api]}, workers=2, settings=PLAIN)) as started:
        yield started
        end_at_once(started)


def end_at_once(ingressd: Ingressd) -> None:
    """After a hand-over a drain leaves idle clients five seconds, which need not be waited for at the end of a test."""
    if serving(ingressd):
        ingressd.process.kill()


def serving(ingressd: Ingressd) -> list[str]:
    """The process ids of those who took over, in order."""
    return re.findall(r"process (\d+) serves; what ran before it drains", ingressd.output())


def hand_over(ingressd: Ingressd) -> int:
    """One more; the process id of the supervisor that serves now."""
    before = len(serving(ingressd))
    ingressd.send_signal(signal.SIGUSR2)
    ingressd.wait_until(lambda: len(serving(ingressd)) > before, within_s=3 * PATIENCE_S)
    return int(serving(ingressd)[-1])


def says(ingressd: Ingressd, text: str) -> None:
    ingressd.wait_until(lambda: text in ingressd.output(), within_s=3 * PATIENCE_S)


def roles_below(pid: int) -> list[str]:
    """What the children of a supervisor are."""
    return sorted(role(int(child)) for child in children_of(pid))


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


# ------------------------------------------------------------------ nobody notices
class Repeated(threading.Thread):
    """Does one thing every few milliseconds until told to stop; what it raised is kept."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self._act = act
        self._end = threading.Event()
        self.times = 0
        self.failed: list[str] = []

    def run(self) -> None:
        while not self._end.is_set():
            try:
                self._act()
            except (AssertionError, OSError) as error:
                self.failed.append(f"{time.monotonic():.3f} {error!r}")
            self.times += 1
            self._end.wait(0.004)

    def __enter__(self) -> Repeated:
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._end.set()
        self.join()


class Kept:
    """A client that keeps its connection as long as it is allowed to, and never has to ask twice."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._client: Client | None = None
        self.connections = 0

    def ask(self) -> None:
        if self._client is None:
            self._client = Client(self._address, timeout_s=600)
            self.connections += 1
        self._client.send(request_bytes("/kept", host="api.test", keep_alive=True))
        reply = self._client.reply()
        assert (reply.status, reply.complete) == (200, True), reply
        if (reply.one("Connection") or "").lower() == "close":
            self.close()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


class Resumed:
    """A TLS client that comes back with the session of its first connection."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._tls = client_tls(maximum=ssl.TLSVersion.TLSv1_2)
        with Client(address, tls=self._tls, server_name="api.test") as first:
            self._session = first.sock.session

    def ask(self) -> None:
        with Client(self._address, tls=self._tls, server_name="api.test", session=self._session) as client:
            assert isinstance(client.sock, ssl.SSLSocket)
            assert client.sock.session_reused
            client.send(request_bytes("/tls", host="api.test"))
            assert client.reply().status == 200


def masked(text: bytes) -> bytes:
    """A WebSocket text frame of a client; a mask of zeros changes nothing."""
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text


@pytest.fixture
def echoing(tmp_path) -> Iterator[Ingressd]:
    loop = EchoLoop()
    slow = {"stream": {"chunks": 80, "interval_ms": 100}}
    echoes = [*raise_echoes(loop, "echo"), *raise_echoes(loop, "slow", does=slow)]
    try:
        with upstream() as plain:
            addresses = {"api": [plain], "echo": [echoes[0].address], "slow": [echoes[1].address]}
            with running(tmp_path, **route_to(addresses, workers=2, settings=PLAIN)) as started:
                yield started
    finally:
        for echo in echoes:
            echo.close()
        loop.close()


@pytest.mark.slow
def test_ten_hand_overs_under_load_refuse_nothing_and_fail_nothing(echoing):
    ingressd = echoing
    kept, resumed = Kept(ingressd.http), Resumed(ingressd.https)

    def probe() -> None:
        status = ingressd.ask_admin("/readyz")
        assert status == 200, status

    def ask_anew() -> None:
        outcome = fetch(ingressd.http)
        assert (outcome.status, outcome.error) == (200, ""), outcome

    with (
        contextlib.closing(kept),
        Client(ingressd.http, timeout_s=600) as tunnel,
        Client(ingressd.http, timeout_s=600) as download,
    ):
        tunnel.send(request_bytes("/", host="echo.test", lines=UPGRADE))
        assert tunnel.reply().status == 101
        download.send(request_bytes("/", host="slow.test"))
        with (
            Repeated(ask_anew) as asking,
            Repeated(kept.ask) as keeping,
            Repeated(resumed.ask) as resuming,
            Repeated(probe) as probing,
        ):
            pids = []
            for number in range(10):
                met = kept.connections
                pids.append(hand_over(ingressd))
                ingressd.wait_until(lambda met=met: kept.connections > met)
                tunnel.send(masked(b"after %d" % number))
                assert tunnel.take(9) == b"\x81\x07after %d" % number
            ingressd.wait_until(lambda: min(asking.times, keeping.times, resuming.times) > 100)
        whole = download.reply()
    assert len(set(pids)) == 10
    assert (asking.failed, keeping.failed, resuming.failed, probing.failed) == ([], [], [], [])
    assert 10 <= kept.connections < keeping.times
    assert (whole.complete, whole.body.count(b"chunk-")) == (True, 80)
    assert roles_below(pids[-1]) == ["controller", "worker 0", "worker 1"]
    ingressd.wait_until(lambda: len(ingressd.children()) == 4)  # Everybody else has drained.
    assert ingressd.process.pid not in pids, "who was started first is the one to signal, and stays"
    asked = asking.times + keeping.times + resuming.times
    ingressd.wait_until(lambda: len(ingressd.access_lines()) == asked + 2)


OWN_PROCESSES = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--pid", "--fork", "--mount-proc"]


def test_as_process_1_of_a_container_it_stays(tmp_path):
    tried = subprocess.run([*OWN_PROCESSES, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no process namespace: {tried.stderr.strip()}")
    with upstream() as address:
        ingressd = Ingressd(tmp_path, **route_to({"api": [address]}, settings=PLAIN))
        ingressd.wrapper = [*OWN_PROCESSES, "--kill-child"]
        try:
            ingressd.start()
            (first,) = map(int, children_of(ingressd.process.pid))
            for number in range(2):
                os.kill(first, signal.SIGUSR2)
                ingressd.wait_until(lambda number=number: len(serving(ingressd)) == number + 1, within_s=3 * PATIENCE_S)
                assert fetch(ingressd.http).status == 200
            os.kill(first, signal.SIGTERM)
            assert ingressd.process.wait(PATIENCE_S) == 0
        finally:
            ingressd.stop()


def test_clients_without_anything_to_say_are_not_closed_at_once(ingressd):
    with Client(ingressd.http) as idle:
        idle.send(request_bytes("/", host="api.test", keep_alive=True))
        assert idle.reply().one("Connection") != "close"
        hand_over(ingressd)
        time.sleep(0.3)
        idle.send(request_bytes("/", host="api.test", keep_alive=True))
        reply = idle.reply()
        assert (reply.status, (reply.one("Connection") or "").lower()) == (200, "close")


def test_what_only_a_start_can_change_changes(ingressd):
    admin = free_address()
    ingressd.config.update(workers=1, admin={"address": spelled(admin)})
    ingressd.write_config()
    served = hand_over(ingressd)
    assert ask(admin, "/readyz").status == 200
    ingressd.wait_until(lambda: ingressd.ask_admin("/readyz") < 0)
    assert roles_below(served) == ["controller", "worker 0"]
    assert fetch(ingressd.http).status == 200


def test_a_listener_that_is_new_or_gone_is_so_afterwards(ingressd):
    more = free_address()
    listeners = [ingressd.config["listeners"][0], {"name": "more", "address": spelled(more), "protocol": "HTTP"}]
    ingressd.change(listeners=listeners, live=lambda: fetch(more).status == 200)
    hand_over(ingressd)
    assert fetch(more).status == 200
    ingressd.wait_until(lambda: "Refused" in fetch(ingressd.https).error)


def test_log_files_are_reopened_by_all_that_still_write(ingressd):
    with Client(ingressd.http) as old:
        old.send(request_bytes("/before", host="api.test", keep_alive=True))
        assert old.reply().status == 200
        hand_over(ingressd)
        ingressd.access_lines(path="/before")
        rotated = ingressd.access_log.with_suffix(".1")
        ingressd.access_log.rename(rotated)
        ingressd.send_signal(signal.SIGUSR1)
        ingressd.wait_until(lambda: ingressd.access_log.exists() and not writing_to(ingressd, rotated))
        old.send(request_bytes("/old", host="api.test", keep_alive=True))
        assert old.reply().status == 200
    assert fetch(ingressd.http, "/new").status == 200
    assert ingressd.access_lines(path="/old") and ingressd.access_lines(path="/new")


def writing_to(ingressd: Ingressd, path: Path) -> bool:
    """Whether any of its processes has this file open."""
    for pid in ingressd.children():
        for file in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                if file.readlink() == path:
                    return True
    return False


# ------------------------------------------------------------------ who fails leaves the old one serving
@pytest.fixture
def replaceable(tmp_path, monkeypatch):
    """An ingressd whose program is a copy of its own, which a test may overwrite."""
    program = tmp_path / "ingressd"
    shutil.copy(stage_running.PROGRAM, program)
    monkeypatch.setattr(stage_running, "PROGRAM", program)
    with upstream() as address, running(tmp_path, **route_to({"api": [address]}, settings=PLAIN)) as started:
        yield started, program
        end_at_once(started)


def test_a_new_program_that_ends_leaves_the_old_serving_and_one_that_works_is_what_starts(replaceable):
    ingressd, program = replaceable
    good = program.with_name("good")
    program.rename(good)
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    with Load(ingressd.http) as load:
        ingressd.send_signal(signal.SIGUSR2)
        says(ingressd, "failed: it ended with exit code 3; the old one serves on")
        mark = program.with_name("mark")
        program.write_text(f'#!/bin/sh\necho "$@" > {mark}\nexec {good} "$@"\n')
        hand_over(ingressd)
    assert load.bad() == []
    assert mark.read_text() == f"run --config {ingressd.config_path}\n"


def test_a_program_that_is_gone_leaves_the_old_serving(replaceable):
    ingressd, program = replaceable
    program.unlink()
    ingressd.send_signal(signal.SIGUSR2)
    says(ingressd, "the old one serves on")
    assert fetch(ingressd.http).status == 200


def test_a_bad_configuration_leaves_the_old_serving(ingressd):
    good = ingressd.config_path.read_text()
    ingressd.config_path.write_text("routs: []\n")
    with Load(ingressd.http) as load:
        ingressd.send_signal(signal.SIGUSR2)
        says(ingressd, "failed: it ended with exit code 2; the old one serves on")
        assert f"{ingressd.config_path}:1:1: error: " in ingressd.output()
        ingressd.config_path.write_text(good)
        hand_over(ingressd)
    assert load.bad() == []


def test_an_admin_address_that_is_taken_leaves_the_old_serving(ingressd):
    taken = free_address()
    with socket.create_server(tuple(taken)):
        ingressd.config["admin"] = {"address": spelled(taken)}
        ingressd.write_config()
        ingressd.send_signal(signal.SIGUSR2)
        says(ingressd, "failed: it ended with exit code 1; the old one serves on")
    assert ingressd.ask_admin("/readyz") == 200


# ------------------------------------------------------------------ signals at bad moments
def test_a_second_signal_while_one_is_under_way_does_nothing(ingressd):
    ingressd.send_signal(signal.SIGUSR2)
    says(ingressd, "handing over to process")
    ingressd.send_signal(signal.SIGUSR2)
    says(ingressd, "is under way; nothing was done")
    says(ingressd, "serves; what ran before it drains")
    assert ingressd.output().count("handing over to process") == 1


def test_sigterm_in_the_middle_drains_and_leaves_nothing_behind(ingressd):
    ingressd.send_signal(signal.SIGUSR2)
    says(ingressd, "handing over to process")
    ingressd.send_signal(signal.SIGTERM)
    assert ingressd.process.wait(PATIENCE_S) == 0
    assert "SIGTERM came first" in ingressd.output()
    until_s = time.monotonic() + PATIENCE_S
    while ingressd.children() and time.monotonic() < until_s:
        time.sleep(0.01)
    assert ingressd.children() == []


def test_sigterm_afterwards_lets_everybody_finish(ingressd, api):
    outcomes = []
    threads = [threading.Thread(target=lambda: outcomes.append(fetch(ingressd.http, "/hold"))) for _ in range(4)]
    for thread in threads[:2]:
        thread.start()
    ingressd.wait_until(lambda: api.asked.count("/hold") == 2)
    hand_over(ingressd)
    for thread in threads[2:]:
        thread.start()
    ingressd.wait_until(lambda: api.asked.count("/hold") == 4)
    ingressd.send_signal(signal.SIGTERM)
    ingressd.wait_until(lambda: "Refused" in fetch(ingressd.http).error)
    api.go.set()
    for thread in threads:
        thread.join()
    assert [(one.status, one.error) for one in outcomes] == [(200, "")] * 4
    assert ingressd.process.wait(PATIENCE_S) == 0


def test_sigterm_twice_afterwards_ends_everything_at_once(ingressd, api):
    hand_over(ingressd)
    thread = threading.Thread(target=lambda: fetch(ingressd.http, "/hold"))
    thread.start()
    ingressd.wait_until(lambda: api.asked == ["/hold"])
    children = ingressd.children()
    ingressd.send_signal(signal.SIGTERM)
    says(ingressd, "passed on to the one that serves")
    ingressd.send_signal(signal.SIGTERM)
    assert ingressd.process.wait(PATIENCE_S) == 128 + signal.SIGTERM
    nothing_is_left_of(children)
    thread.join()


def nothing_is_left_of(pids: list[int]) -> None:
    assert len(pids) >= 4
    until_s = time.monotonic() + PATIENCE_S
    while any(map(alive, pids)) and time.monotonic() < until_s:
        time.sleep(0.01)
    assert [role(pid) for pid in pids if alive(pid)] == []


@pytest.mark.parametrize("victim", ["first", "serving"])
def test_nothing_outlives_a_killed_supervisor_after_a_hand_over(ingressd, victim):
    served = hand_over(ingressd)
    children = ingressd.children()
    os.kill(ingressd.process.pid if victim == "first" else served, signal.SIGKILL)
    code = ingressd.process.wait(PATIENCE_S)
    assert code == (-signal.SIGKILL if victim == "first" else 128 + signal.SIGKILL)
    nothing_is_left_of(children)
