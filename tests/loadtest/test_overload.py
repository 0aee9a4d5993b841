"""The load that does not wait: what its generator counts as what, and what is concluded from its figures.

Generator and server take turns in one thread, by a clock that goes on by itself a little whenever it is read: what is
counted hangs on nothing else.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
import types
from collections.abc import Callable, Iterator

import pytest

from loadtest.launch import MissingError
from loadtest.overload import cgroup, generator
from loadtest.overload.__main__ import Found, report, seconds_to_baseline
from loadtest.overload.generator import REQUEST, Generator, Phase, quantile, summary
from loadtest.overload.watch import CpuMeter, Prober, Yardstick

TICK_S = 0.005
RATE, SECONDS = 10.0, 1.0
OFFERED = 10
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CLOSES = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
TOLD = b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
UNTOLD = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
STRANGE = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"

Answer = Callable[[socket.socket], None]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        self.now += TICK_S
        return self.now


def says(answer: bytes) -> Answer:
    return lambda sock: sock.sendall(answer)


def nothing(sock: socket.socket) -> None:
    pass


def closes(sock: socket.socket) -> None:
    sock.close()


def resets(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Server:
    """Deals with each request by the next one of `answers`, whenever it is its turn."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setblocking(False)
        self.port: int = self._listening.getsockname()[1]
        self.answers: Iterator[Answer] = itertools.repeat(nothing)
        self.accepted: list[socket.socket] = []
        self.requests: dict[socket.socket, int] = {}
        """How many came over each connection."""

    def turn(self) -> None:
        try:
            while True:
                sock, _ = self._listening.accept()
                sock.setblocking(False)
                self.accepted.append(sock)
                self.requests[sock] = 0
        except BlockingIOError:
            pass
        for sock in self.open():
            try:
                received = sock.recv(len(REQUEST))
            except (BlockingIOError, ConnectionResetError):
                continue
            if not received:
                sock.close()
                continue
            assert received == REQUEST
            self.requests[sock] += 1
            next(self.answers)(sock)

    def open(self) -> list[socket.socket]:
        return [sock for sock in self.accepted if sock.fileno() >= 0]

    def close(self) -> None:
        self._listening.close()
        for sock in self.accepted:
            sock.close()


class Taking(Generator):
    """A generator that takes turns with a server."""

    def __init__(self, server: Server, *, connections: int = 20, fresh: float = 0.0, timeout_s: float = 1e6) -> None:
        super().__init__(server.port, connections=connections, fresh=fresh, timeout_s=timeout_s)
        self._server = server

    def turn(self, timeout_s: float) -> None:
        self._server.turn()
        super().turn(timeout_s)

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(1000):
            if condition():
                return
            self.turn(0.01)
        pytest.fail("it does not come")

    def offer(self, phase: Phase) -> Phase:
        """Run a phase, hear the rest, and be done."""
        self.run(phase)
        self.settle(SECONDS)
        self.close()
        return phase


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(generator, "time", types.SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture
def server(clock: Clock) -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def load() -> Phase:
    return Phase("load", RATE, SECONDS)


def counted(phase: Phase) -> dict[str, int]:
    """What became of the requests, without the zeros."""
    names = ("ok", "shed", "shed_without_retry_after", "other", "reset", "timed_out", "unsent")
    return {name: getattr(phase, name) for name in names if getattr(phase, name)}


def test_answers_are_counted_by_status_and_refusals_by_what_they_tell(server: Server) -> None:
    dealt = [OK, TOLD, UNTOLD, STRANGE, OK, OK, TOLD, OK, UNTOLD, TOLD]
    server.answers = map(says, dealt)
    phase = Taking(server).offer(load())
    assert phase.offered == OFFERED == len(dealt)
    assert counted(phase) == {"ok": 4, "shed": 5, "shed_without_retry_after": 2, "other": 1}
    assert (len(phase.answered), len(phase.shed_s)) == (4, 5)


@pytest.mark.parametrize("ends", [closes, resets])
def test_a_connection_that_ends_without_an_answer_is_a_reset(server: Server, ends: Answer) -> None:
    server.answers = itertools.cycle([says(OK), ends])
    assert counted(Taking(server).offer(load())) == {"ok": 5, "reset": 5}


def test_an_idle_connection_that_ends_is_nobodys_loss(server: Server) -> None:
    server.answers = itertools.repeat(says(OK))
    taking = Taking(server)
    taking.preconnect(3)
    taking.until(lambda: len(server.accepted) == 3)
    for sock in server.open():
        sock.close()
    for _ in range(3):
        taking.turn(0.1)
    assert counted(taking.offer(load())) == {"ok": OFFERED}


def test_who_waits_too_long_goes_away_and_hears_no_late_answer(server: Server, clock: Clock) -> None:
    silent = Taking(server, timeout_s=3.0)
    phase = load()
    silent.run(phase)
    assert counted(phase) == {}
    silent.until(lambda: len(server.open()) == OFFERED)
    clock.now += 1.5  # The first has waited for two and a half seconds.
    silent.turn(0.0)
    assert phase.timed_out == 0
    for sock in server.open()[1:]:
        sock.sendall(OK)
    clock.now += 3.0
    silent.turn(0.0)
    assert counted(phase) == {"timed_out": OFFERED}
    silent.until(lambda: server.open() == [])
    assert counted(phase) == {"timed_out": OFFERED}
    silent.close()


def test_a_deadline_is_that_of_a_request_and_not_of_its_connection(server: Server, clock: Clock) -> None:
    server.answers = itertools.chain([says(OK)], itertools.repeat(nothing))
    taking = Taking(server, timeout_s=3.0)
    one, other = Phase("one", RATE, 1 / RATE), Phase("other", RATE, 1 / RATE)
    taking.run(one)
    taking.until(lambda: one.ok == 1)
    clock.now += 2.0
    taking.run(other)
    taking.until(lambda: list(server.requests.values()) == [2])
    clock.now += 1.0
    taking.turn(0.0)
    assert counted(other) == {}
    clock.now += 2.0
    taking.turn(0.0)
    assert (counted(one), counted(other)) == ({"ok": 1}, {"timed_out": 1})
    taking.close()


def test_without_a_connection_left_a_request_is_not_sent(server: Server) -> None:
    taking, phase = Taking(server, connections=4), load()
    taking.run(phase)
    assert counted(phase) == {"unsent": OFFERED - 4}
    taking.until(lambda: sum(server.requests.values()) == len(server.accepted) == 4)
    taking.close()


def test_a_share_comes_over_connections_of_their_own(server: Server) -> None:
    server.answers = itertools.repeat(says(OK))
    taking = Taking(server, fresh=0.25)
    taking.preconnect(20)
    phase = Phase("load", RATE, 2 * SECONDS)
    taking.run(phase)
    taking.until(lambda: phase.ok == phase.offered == 20)
    assert len(server.accepted) == 20 + 5
    taking.until(lambda: len(server.open()) == 20)
    assert all(server.requests[sock] == 1 for sock in server.accepted if sock.fileno() < 0)
    taking.close()


def test_connections_for_one_request_are_a_quarter_more_at_most(server: Server) -> None:
    taking, phase = Taking(server, connections=8, fresh=1.0), load()
    taking.run(phase)
    assert counted(phase) == {"unsent": OFFERED - 2}
    taking.close()
    server.answers = itertools.repeat(says(OK))
    assert counted(Taking(server, connections=40, fresh=1.0).offer(Phase("load", RATE, 2 * SECONDS))) == {"ok": 20}


def test_an_answer_in_pieces_is_one_answer(server: Server) -> None:
    taking = Taking(server)
    phase = Phase("load", RATE, 1 / RATE)
    taking.run(phase)
    (sock,) = server.open()
    for piece in (OK[:12], OK[12:-3], OK[-3:-1]):
        sock.sendall(piece)
        taking.turn(0.1)
        assert counted(phase) == {}
    sock.sendall(OK[-1:])
    taking.turn(1.0)
    assert counted(phase) == {"ok": 1}
    server.answers = iter([says(TOLD)])
    behind = Phase("behind", RATE, 1 / RATE)
    taking.run(behind)
    taking.until(lambda: behind.shed == 1)
    assert (counted(phase), counted(behind)) == ({"ok": 1}, {"shed": 1})
    taking.close()


def test_latency_counts_from_when_a_request_was_due(server: Server, clock: Clock) -> None:
    taking = Taking(server)
    phase = Phase("load", RATE, 1 / RATE)
    began = clock.now
    taking.run(phase)
    clock.now = began + 4.0
    (sock,) = server.open()
    sock.sendall(OK)
    taking.turn(1.0)
    ((due, took),) = phase.answered
    assert due == pytest.approx(began + TICK_S)
    assert took == pytest.approx(4.0, abs=4 * TICK_S)
    taking.close()


def test_a_generator_that_stood_still_says_so_and_makes_up_for_it(server: Server, clock: Clock) -> None:
    server.answers = itertools.repeat(says(OK))

    def stands_still(sock: socket.socket) -> None:
        clock.now += 0.5
        sock.sendall(OK)

    assert Taking(server).offer(load()).late_s < 2 / RATE
    server.answers = itertools.chain([says(OK), stands_still], itertools.repeat(says(OK)))
    phase = Taking(server).offer(load())
    assert counted(phase) == {"ok": OFFERED}
    assert 0.5 - 1 / RATE <= phase.late_s < 0.5 + 1 / RATE


def test_a_closed_loop_asks_again_over_as_many_connections_whoever_closes(server: Server) -> None:
    server.answers = itertools.cycle(map(says, (OK, CLOSES)))
    taking = Taking(server, connections=3)
    taking.preconnect(3)
    phase = Phase("peak", 0.0, SECONDS)
    taking.offer(phase)
    server.turn()
    answered = sum(server.requests.values())
    assert counted(phase) == {"ok": answered}
    assert answered == phase.offered > 6
    assert len(server.accepted) == 3 + answered // 2


def test_a_summary_has_a_bucket_for_each_tenth_in_which_requests_were_due() -> None:
    phase = Phase("after", RATE, SECONDS, offered=6, ok=4, shed=2, late_s=0.0123)
    phase.answered = [(50.0, 0.001), (50.09, 0.003), (50.31, 0.2), (50.39, 0.004)]
    phase.shed_s = [0.5, 0.25]
    said = summary(phase, 50.0)
    assert said["buckets"] == {0: [2, 3.0], 3: [2, 200.0]}
    assert (said["p50_ms"], said["p99_ms"], said["late_ms"]) == (4.0, 200.0, 12.3)
    assert (said["shed_p50_ms"], said["shed_p99_ms"]) == (500.0, 500.0)
    assert (said["name"], said["offered"], said["ok"], said["shed"]) == ("after", 6, 4, 2)


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [([], 0.99, 0.0), ([7.0], 0.0, 7.0), ([7.0], 1.0, 7.0), ([3.0, 1.0, 2.0], 0.5, 2.0)],
)
def test_a_quantile_is_one_of_the_values(values: list[float], share: float, found: float) -> None:
    assert quantile(values, share) == found


def test_the_99th_of_a_hundred_leaves_out_no_outlier() -> None:
    assert quantile([float(number) for number in range(100)], 0.99) == 99.0


WELL = (10, 5.0)
"""Of a tenth: so many answers, and their p99 in milliseconds."""


@pytest.mark.parametrize(
    ("tenths", "seconds"),
    [
        ([WELL] * 8, 0.0),
        ([(10, 160.0), *[WELL] * 7], 0.1),
        ([(2, 5.0), (7, 5.0), *[WELL] * 6], 0.2),
        ([None, *[WELL] * 7], 0.1),
        ([*[WELL] * 4, (10, 141.0), *[WELL] * 3], 0.5),
        ([WELL] * 7, 0.8),
        ([(8, 140.0)] * 8, 0.0),
    ],
    ids=["at once", "slow", "few", "none", "slow again later", "none at the end", "as slow and few as may be"],
)
def test_the_baseline_is_back_behind_the_last_tenth_that_is_not_well(
    tenths: list[tuple[int, float] | None], seconds: float
) -> None:
    before = {"rate": 100.0, "buckets": {"0": (10, 70.0), "1": (10, 4.0)}}
    buckets = {str(number): tenth for number, tenth in enumerate(tenths) if tenth is not None}
    assert seconds_to_baseline(before, {"seconds": 0.8, "buckets": buckets}) == pytest.approx(seconds)


def test_a_period_of_the_quota_is_never_too_slow() -> None:
    before = {"rate": 100.0, "buckets": {"0": (10, 0.5)}}
    assert seconds_to_baseline(before, {"seconds": 0.1, "buckets": {"0": (10, 100.0)}}) == 0.0
    assert seconds_to_baseline(before, {"seconds": 0.1, "buckets": {"0": (10, 100.1)}}) == 0.1


class Cpus(CpuMeter):
    """A tenth of a CPU, between the times that are asked for and no others."""

    def __init__(self, begin: float, end: float) -> None:
        super().__init__(0)
        self._span = (begin, end)

    def share(self, begin: float, end: float) -> float:
        return 0.1 if (begin, end) == self._span else 0.0


def test_the_report_counts_everybody_who_was_not_served_and_looks_at_the_overload_alone() -> None:
    calm = summary(Phase("before", 30.0, 6.0, offered=180, ok=180), 0.0)
    storm = Phase("overload", 1000.0, 10.0, offered=10000, ok=900, shed=6000, shed_without_retry_after=1500)
    storm.other, storm.reset, storm.timed_out, storm.unsent = 100, 1400, 1000, 600
    ramp = [Phase("ramp", 100.0, 3.0, offered=300, ok=ok) for ok in (270, 240)]
    admin, health = Prober(0), Prober(0)
    admin.took = [(5.9, 9.0), *[(6.0 + number / 10, 0.001) for number in range(98)], (15.8, 0.04), (15.9, 0.08)]
    admin.took.append((16.0, 9.0))
    health.failed = [5.9, 6.0, 9.0, 15.9, 16.0]
    phases = [calm, summary(storm, 6.0), summary(Phase("after", 30.0, 8.0), 16.0)]
    yardstick = Yardstick(0)
    yardstick.took = [(-4.0, 9.0), (-3.0, 0.002), (0.0, 0.001), (6.0, 0.002), (7.0, 0.003), (8.0, 0.009), (16.0, 9.0)]
    found = [summary(ramp[0], -3.0), summary(ramp[1], 0.0)]
    lines = report(Found(100.0, found, phases, admin, health, Cpus(6.0, 16.0), yardstick)).splitlines()
    assert lines[0].endswith(": 100/s")
    assert lines[1].endswith(": 90/s; of what was offered: 90 of 100, 80 of 100")
    assert lines[3].startswith("overload offered 1000/s, answered 70 %; 200 90/s, ")
    assert "503 600/s, " in lines[3]
    assert "1500 without Retry-After; other 100, reset 1400, gave up 1000; no connection left for 600" in lines[3]
    assert lines[5].endswith("100 answered, 0 not; p50 1 p99 80 max 80 ms")
    assert lines[6].endswith("0 answered, 3 not; p50 0 p99 0 max 0 ms")
    assert lines[7:] == [
        "CPUs used meanwhile: 0.100, 1111 us for each request served",
        "goodput at 10 times the peak: 100 % of the peak of the same clients, 90 % of the closed loop's",
        "a fixed piece of work took 2.00 ms of CPU time at that peak, 3.00 ms meanwhile: "
        "without that, 150 % of the peak of the same clients",
        "of those who were refused, told when to come back: 60 %",
        "back at the baseline after 8.0 s",
    ]


def test_the_yardstick_goes_on_until_it_is_stopped() -> None:
    yardstick = Yardstick(min(os.sched_getaffinity(0)))
    assert yardstick.between(0.0, time.monotonic()) == 0.0
    yardstick.start()
    while len(yardstick.took) < 2:
        time.sleep(0.01)
    yardstick.stop()
    assert not yardstick.is_alive()
    assert 0.0 < yardstick.between(0.0, time.monotonic()) < 10.0


@pytest.mark.parametrize(
    ("version", "controller", "limit", "files"),
    [
        (2, "cpu", 0.1, {"cpu.max": "10000 100000"}),
        (1, "cpu", 1.5, {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "150000"}),
        (2, "memory", 256.0, {"memory.max": "256"}),
        (1, "memory", 256.0, {"memory.limit_in_bytes": "256"}),
    ],
)
def test_a_limit_is_written_as_its_version_has_it(
    version: int, controller: str, limit: float, files: dict[str, str]
) -> None:
    assert cgroup.limits_of(version, controller, limit) == files


def test_the_group_of_each_controller_is_read() -> None:
    text = "12:cpu,cpuacct:/user.slice\n5:memory:/\n1:name=systemd:/a:b\n0::/system.slice/x.service\n"
    assert cgroup.groups_of(text) == {
        "cpu": "user.slice",
        "cpuacct": "user.slice",
        "memory": "",
        "name=systemd": "a:b",
        "": "system.slice/x.service",
    }


@pytest.fixture
def hierarchy(tmp_path, monkeypatch):
    """A folder in place of the control groups, where the groups of this process are what a test says."""
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    own: dict[str, str] = {}
    monkeypatch.setattr(cgroup, "groups_of", lambda text: own)
    return tmp_path, own


def test_a_group_is_made_below_our_own(hierarchy) -> None:
    root, own = hierarchy
    own[""] = "ours"
    (root / "ours").mkdir()
    (root / "cgroup.controllers").touch()
    with cgroup.ControlGroup("cpu", 0.5) as group:
        assert group.folder.parent == root / "ours"
        assert (group.folder / "cpu.max").read_text() == "50000 100000"
        (group.folder / "memory.events").write_text("oom 3\noom_kill 2\n")
        (group.folder / "pids.current").write_text("4\n")
        assert [group.number("memory.events", "oom_kill"), group.number("memory.events", "max")] == [2, -1]
        assert [group.number("pids.current"), group.number("no.such.file")] == [4, -1]
        assert group.command(["a", "b"])[-3:] == [str(group.folder), "a", "b"]


def test_where_no_group_can_be_made_it_is_said(hierarchy) -> None:
    _, own = hierarchy
    with pytest.raises(MissingError, match="for cpu can be made: no such controller"):
        cgroup.ControlGroup("cpu", 0.5)
    own["cpu"] = "not/there"
    with pytest.raises(MissingError, match="No such file"):
        cgroup.ControlGroup("cpu", 0.5)
