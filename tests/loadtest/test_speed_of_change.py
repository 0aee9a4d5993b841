"""The bench of changes: what is wrong, what is excused, who accepted a connection, what pods remember."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest import pages, procfs
from loadtest.control import client, figures, owners, report, rolling, strangers, world
from loadtest.control.child import Child
from loadtest.control.connection import LOST, Answer, request_bytes

ROUTE = client.Route("a.test", "/", frozenset({"404"}), frozenset({"10.0.0.1:80"}))


def judged(*answers: tuple[int, str]) -> client.Seen:
    seen = client.Seen()
    for at, (status, body) in enumerate(answers, 1):
        seen.take(ROUTE, Answer(status, body, float(at)))
    return seen


def test_the_old_answer_is_right_until_the_new_one_came():
    seen = judged((404, "<html>"), (404, "<html>"), (200, "10.0.0.1:80"), (200, "10.0.0.1:80"))
    assert (seen.old, seen.new, seen.wrong, seen.first_at) == (2, 2, [], 3.0)


@pytest.mark.parametrize(
    "answers",
    [
        [(503, "<html>"), (200, "10.0.0.1:80")],
        [(200, "10.0.0.2:80"), (200, "10.0.0.1:80")],
        [(200, "10.0.0.1:80"), (404, "<html>")],
        [(LOST, "closed")],
    ],
    ids=["503 before", "another pod", "back again", "lost"],
)
def test_anything_else_is_wrong(answers):
    assert len(judged(*answers).wrong) == 1


def failed(mark: str, status: int = 502) -> dict:
    return {"at": 0.0, "mark": mark, "method": mark.split("-")[0], "host": "a", "status": status, "body": ""}


def judge(failures: list, marks: list) -> dict:
    group = {"failed": failures, "p99_ms": 1.0}
    return rolling.judge({"requests": 10, "unanswered": 0, "groups": {"rolling": group}}, marks)


def test_a_post_that_had_reached_its_pod_is_excused_and_a_get_never():
    found = judge([failed("POST-1"), failed("POST-2"), failed("GET-3")], ["POST-1", "GET-3", "POST-4"])
    assert (found["failed_posts"], found["unexcused_posts"], found["failed_gets"]) == (2, 1, 1)


def test_a_post_that_reached_two_pods_is_a_duplicate_and_a_get_only_repeated():
    found = judge([], ["POST-1", "POST-1", "GET-2", "GET-2", "POST-3"])
    assert (found["duplicate_posts"], found["repeated_gets"]) == (1, 1)


def test_a_get_has_no_body_and_a_mark_only_when_given():
    assert request_bytes("a", "/") == b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert request_bytes("a", "/", method="POST", mark="m", body=b"xy").endswith(
        b"X-Mark: m\r\nContent-Length: 2\r\n\r\nxy"
    )


def test_the_owner_of_a_connection_is_whoever_accepted_it():
    accept = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True);"
        " c, _ = s.accept(); print('accepted', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", accept], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        port = int(other.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)) as ours:
            other.stdout.readline()
            mine = ours.getsockname()[1]
            assert owners.owners(port, [mine, 1], [os.getpid(), other.pid]) == {mine: other.pid}
        other.stdin.close()


def ask(address: tuple[str, int], data: bytes, *, size: int = 65536) -> bytes:
    with socket.create_connection(address, timeout=30) as sock:
        sock.sendall(data)
        return sock.recv(size)


def test_pods_answer_with_their_address_and_remember_what_reached_them():
    with Child("loadtest.control.pods") as pods:
        port = pods.ask("start", host="0.0.0.0", port=0)
        assert ask(("127.77.3.4", port), request_bytes("a", "/", mark="m1")).endswith(b"127.77.3.4:%d" % port)
        mortal = pods.ask("start", host="127.77.3.5", port=0, delay_s=60)
        with socket.create_connection(("127.77.3.5", mortal), timeout=30) as sock:
            sock.sendall(request_bytes("a", "/", method="POST", mark="m2", body=b"x"))
            sock.sendall(request_bytes("a", "/", method="POST", mark="m3", body=b"x")[:-1])
            assert pods.ask("kill", host="127.77.3.5", port=mortal) == 1
            with pytest.raises(ConnectionError):
                while sock.recv(1):
                    raise AssertionError("a dead pod answers")
                raise ConnectionResetError
        assert sorted(pods.ask("marks")) == ["m1", "m2", "m3"]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.77.3.5", mortal), timeout=30)


def test_a_child_says_what_went_wrong_and_goes_on():
    with Child("loadtest.control.pods") as pods:
        with pytest.raises(RuntimeError, match="KeyError"):
            pods.ask("kill", host="127.0.0.1", port=1)
        assert pods.ask("marks") == []


def test_the_objects_are_those_of_a_cluster():
    found = list(world.applications(3, 9000))
    kinds = [one["kind"] for one in found]
    assert [kinds.count(kind) for kind in ("Ingress", "Service", "EndpointSlice", "IngressClass")] == [3, 3, 3, 1]
    assert world.pod_address(0) != world.pod_address(0, generation=1)
    assert len({world.pod_address(index) for index in range(10_000)}) == 10_000


def test_spreads_of_nothing_and_of_something():
    assert figures.spread([])["p99_ms"] == 0.0
    found = figures.spread([3.0, 1.0, 2.0])
    assert (found["count"], found["mean_ms"], found["p50_ms"], found["max_ms"]) == (3, 2.0, 2.0, 3.0)


def results() -> dict:
    times = {"count": 1, "mean_ms": 4.0, "p50_ms": 3.0, "p99_ms": 9.0, "max_ms": 9.0}
    latencies = {"requests": 5, "p50_ms": 1.0, "p99_ms": 2.0, "p999_ms": 3.0, "max_ms": 4.0}
    return {
        "machine": {"cores": 2, "processor": "p", "load_average": 0.1},
        "probe": {
            "ingresses": 10_000,
            "all": times,
            "kinds": {"new route": {**times, "answers": 7, "wrong": 0, "shown": []}},
        },
        "churn": {
            "mutations": 1000,
            "seconds": 60.0,
            "rate": 1500.0,
            "requests": 90_000,
            "failed": 0,
            "untouched": {"alone": latencies, "with mutations": latencies},
            "p99_added_ms": 0.5,
            "stalls": {"controller stalls": 7.0, "controller worst ms": 12.0},
        },
        "scale": {
            "applications": 5000,
            "changes_per_s": 20.0,
            "seconds": 60.0,
            "cpu_percent": 7.0,
            "at_rest_kib": {"controller": 80 * 1024, "worker 0": 25 * 1024},
            "churning_kib": {"controller": 84 * 1024, "worker 0": 27 * 1024},
            "asked_kib": {"controller": 84 * 1024, "worker 0": 38 * 1024},
        },
        "rolling": {"pods": 20, **judge([failed("POST-1")], ["POST-1"])},
        "failover": {"rounds": 3, "away_s": 4.0, "requests": 100, "failed": 0, "tries_at_the_dead_pod": 3.0},
    }


def test_the_report_says_every_goal_and_every_peer():
    text = report.everything(json.loads(json.dumps(results())))
    for expected in (
        "3.0 ms",
        "9.0 ms",
        "0 of 90,000",
        "controller 12 ms",
        "111 MiB",
        "agentgateway",
        "20 pods replaced",
    ):
        assert expected in text, expected
    assert report.everything({"probe": results()["probe"]})


def test_the_quietest_of_several_tries_counts(monkeypatch):
    shares = iter([0.5, 0.2, 0.3])
    monkeypatch.setattr(strangers, "_busy_ticks", _ticks(shares))
    monkeypatch.setattr(strangers.procfs, "cpu_used", lambda pids: procfs.Cpu(0, {}))
    said = []
    found = strangers.undisturbed(lambda: {"try": len(said)}, tries=3, say=said.append)
    assert (found["try"], found["strangers"]) == (1, pytest.approx(0.2))
    assert len(said) == 3


def _ticks(shares):
    busy, total = 0.0, 0
    began = True

    def ticks() -> tuple[float, int]:
        nonlocal busy, total, began
        if not began:
            busy, total = busy + next(shares) * 1000, total + 1000
        began = not began
        return busy, total

    return ticks


def test_the_page_has_a_place_for_it():
    page = (Path(pages.DOCS) / "performance.md").read_text()
    assert "figures" in pages.replace_section(page, "control", "figures")
