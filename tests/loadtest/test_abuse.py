"""The abuse of ingressd: what a dead worker excuses, which certificate was right when, how long a client was held."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import types

import pytest

from loadtest.abuse import abusers, certificates, held, kills, outcome, slow, slowhttptest
from loadtest.abuse.__main__ import SCENARIOS
from loadtest.abuse.certificates import Shown
from loadtest.control.child import Child

DEATH = (10.0, 10.2)


@pytest.mark.parametrize(
    ("record", "excused"),
    [
        ((9.9, 10.1, "closed"), True),
        ((10.1, 10.3, "closed"), True),  # Whoever is being killed may accept once more.
        ((10.3, 10.4, "closed"), False),
        ((9.0, 9.9, "503"), False),
        ((9.9, 10.1, "no connection: refused"), False),
    ],
    ids=["inside", "while it died", "afterwards", "before", "refused"],
)
def test_a_death_excuses_only_what_may_have_been_inside(record, excused):
    inside, failed = kills.failures([record, (9.9, 10.1, "")], [DEATH])
    assert (len(inside), len(failed)) == ((1, 0) if excused else (0, 1))


def test_a_killed_process_is_gone_when_its_death_is_over():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        began, gone = kills.kill(process.pid)
        assert began <= gone
        assert os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG) is not None


SHOWN = [Shown(0.0, "a"), Shown(10.0, "b"), Shown(20.0, "c")]


@pytest.mark.parametrize(
    ("record", "failed", "strange", "latest"),
    [
        ((5.0, 5.1, "a"), 0, 0, 0.0),
        ((10.4, 10.5, "a"), 0, 0, 0.4),
        ((9.9, 10.1, "b"), 0, 0, 0.0),
        ((5.0, 5.1, "b"), 0, 1, 0.0),
        ((15.0, 15.1, "self-signed"), 0, 1, 0.0),
        ((15.0, 15.1, "failed: reset"), 1, 0, 0.0),
    ],
)
def test_handshakes_see_the_old_or_the_new_certificate(record, failed, strange, latest):
    found = certificates.judge([record], SHOWN)
    assert (len(found[0]), len(found[1]), found[2]) == (failed, strange, pytest.approx(latest))


def test_a_connection_is_held_until_its_server_closes_it_whatever_its_client_has_read():
    with socket.create_server(("127.0.0.1", 0)) as server:
        lives = held.Lives(server.getsockname()[1])
        with socket.create_connection(server.getsockname()):
            accepted, _ = server.accept()
            lives.look()
            assert len(lives.open) == lives.count == 1
            accepted.sendall(b"unread")
            accepted.close()
            lives.look()
            assert (len(lives.open), lives.count) == (0, 1)


def test_a_port_that_is_used_again_is_another_life(monkeypatch):
    clock = iter((10.0, 14.0, 16.0, 19.0))
    seen = iter(({7: 1}, {7: 1}, {7: 2}, {7: 2}))
    monkeypatch.setattr(held, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(held, "held", lambda port: next(seen))
    lives = held.Lives(80)
    for _ in range(4):
        lives.look()
    assert lives.longest_s() == 4.0
    assert lives.longest_since_s({7: 9.0}) == 5.0
    assert lives.longest_since_s({7: 15.0}) == 4.0
    assert lives.longest_since_s({8: 9.0}) == 0.0


def test_every_kind_of_abuser_is_in_a_scenario_and_has_a_deadline():
    kinds = [kind for _, those in slow.SCENARIOS.values() for kind in those]
    assert sorted(kinds) == sorted(abusers.KINDS)
    assert slow.deadline_s(slow.LAST) > slow.deadline_s(kinds[0])
    assert {*slow.SCENARIOS, *slowhttptest.MODES} < set(SCENARIOS)


def test_abusers_come_with_their_ports_and_go_when_told():
    with socket.create_server(("127.0.0.1", 0)) as server, Child("loadtest.abuse.abusers") as child:
        host, port = server.getsockname()
        opened = child.ask("open", kind="heads that drip lines", host=host, port=port, count=3)
        assert opened["failed"] == []
        accepted = dict(_accepted(server) for _ in range(3))
        ports = [client for client, _ in opened["began"]]
        assert sorted(accepted) == sorted(ports)
        child.ask("close", first=1)
        said = b""
        while data := accepted[ports[0]].recv(100):
            said += data
        assert said.startswith(b"GET /101 HTTP/1.1\r\n")
        assert accepted[ports[1]].recv(100).startswith(b"GET /101 HTTP/1.1\r\n")
        for sock in accepted.values():
            sock.close()


def _accepted(server: socket.socket) -> tuple[int, socket.socket]:
    sock, peer = server.accept()
    sock.settimeout(30)
    return peer[1], sock


def test_a_missed_bar_shows():
    good, bad = outcome.at_most("x", "p99", 1.0, 2.0, unit="ms"), outcome.at_most("x", "failed", 1, 0)
    text = outcome.rendered([good, bad, outcome.told("x", "clients", "5")])
    assert (good.met, bad.met) == (True, False)
    assert text.count("MISSED") == 1
    assert text.count(" met ") == 1


def test_slowhttptest_is_quoted():
    said = "service available:   \x1b[1;32mYES\x1b[0m\nservice available:   \x1b[1;31mNO\x1b[0m\nExit status: No open"
    assert slowhttptest.verdict(said) == "service available: NO; Exit status: No open"
