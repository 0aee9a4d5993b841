"""Configuration, log files and sockets change under a running process."""

from __future__ import annotations

import json
import re
import signal
import socket

import pytest
from stage.load import Load, fetch, upstream
from stage.ports import free_address, spelled
from stage.running import Ingressd, NotReadyError, route_to, running
from stage.wire import ask

pytestmark = pytest.mark.process

PLAIN = {"ssl-redirect": "false"}


@pytest.fixture
def ingressd(tmp_path):
    with upstream() as address, running(tmp_path, **route_to({"api": [address]}, workers=2, settings=PLAIN)) as started:
        yield started


def problems(ingressd: Ingressd) -> list[dict[str, str]]:
    return json.loads(ask(ingressd.admin, "/debug/problems").text)["problems"]


def test_changes_under_load_lose_no_request(ingressd):
    with Load(ingressd.http) as load:
        for number in range(8):
            host = f"new{number}.test"
            routes = [*ingressd.config["routes"], {"host": host, "path": "/", "upstream": "api"}]
            ingressd.change(routes=routes, live=lambda host=host: fetch(ingressd.http, host=host).status == 200)
        settings = {**PLAIN, "keep-alive-requests": "50"}
        ingressd.change(settings=settings, live=lambda: "version 10" in ingressd.output())
        load.wait_for(50)
    assert load.bad() == []
    assert len(load.outcomes) > 50


def test_error_log_level_silences_and_gives_back_the_log(ingressd):
    def add(host):
        routes = [*ingressd.config["routes"], {"host": host, "path": "/", "upstream": "api"}]
        ingressd.change(routes=routes, live=lambda: fetch(ingressd.http, host=host).status == 200)

    quiet = {**PLAIN, "error-log-level": "error", "max-header-fields": "50"}
    many = [f"X-{number}: 1" for number in range(60)]
    ingressd.change(settings=quiet, live=lambda: ask(ingressd.http, host="api.test", lines=many).status == 431)
    said = ingressd.output()
    add("silent.test")
    assert ingressd.output() == said
    ingressd.change(settings=PLAIN, live=lambda: ask(ingressd.http, host="api.test", lines=many).status == 200)
    add("spoken.test")
    ingressd.wait_until(lambda: "spoken.test" in ingressd.output())


def test_a_listener_comes_and_goes(ingressd):
    more = free_address()
    listeners = ingressd.config["listeners"]
    added = [*listeners, {"name": "more", "address": spelled(more), "protocol": "HTTP"}]
    with Load(ingressd.http) as load:
        ingressd.change(listeners=added, live=lambda: fetch(more).status == 200)
        ingressd.change(listeners=listeners, live=lambda: "Refused" in fetch(more).error)
    assert load.bad() == []


def test_an_address_in_use_is_reported_by_name_and_bound_when_free(ingressd):
    taken = free_address()
    with socket.create_server(tuple(taken)):
        added = [*ingressd.config["listeners"], {"name": "taken", "address": spelled(taken), "protocol": "HTTP"}]
        ingressd.change(listeners=added, live=lambda: any(one["reason"] == "NotBound" for one in problems(ingressd)))
        (problem,) = problems(ingressd)
        assert (problem["field"], "Address already in use" in problem["message"]) == ("taken", True)
        assert fetch(ingressd.http).status == 200
    ingressd.wait_until(lambda: fetch(taken).status == 200)
    ingressd.wait_until(lambda: problems(ingressd) == [])


def test_a_broken_configuration_is_refused_and_the_last_good_serves(ingressd):
    good = ingressd.config_path.read_text()
    ingressd.config_path.write_text("routes: [{host: }\n")
    ingressd.wait_until(lambda: problems(ingressd))
    assert [(one["severity"], one["reason"]) for one in problems(ingressd)] == [
        ("error", "InvalidConfig"),
        ("warning", "LastGoodKept"),
    ]
    assert {one["file"] for one in problems(ingressd)} == {str(ingressd.config_path)}
    assert fetch(ingressd.http).status == 200
    ingressd.config_path.write_text(good)
    ingressd.wait_until(lambda: not problems(ingressd))
    ingressd.wait_until(lambda: "resolved: " in ingressd.output())
    ingressd.wait_until(lambda: ingressd.output().count("resolved: ") == 2)


@pytest.mark.parametrize("key", ["workers", "admin"])
def test_what_needs_a_restart_says_so_once(ingressd, key):
    value = {"workers": 3, "admin": {"address": spelled(free_address())}}[key]
    ingressd.change(**{key: value}, live=lambda: problems(ingressd))
    assert [(one["severity"], one["reason"], one["field"]) for one in problems(ingressd)] == [
        ("warning", "RestartRequired", key)
    ]
    ingressd.wait_until(lambda: "RestartRequired] " in ingressd.output())
    assert ingressd.output().count("RestartRequired] ") == 1
    assert len(ingressd.children()) == 3


def test_sighup_reads_the_configuration_again(ingressd):
    ingressd.send_signal(signal.SIGHUP)
    ingressd.wait_until(lambda: "SIGHUP" in ingressd.output())
    assert fetch(ingressd.http).status == 200


def test_log_rotation_loses_no_line(ingressd):
    rotated = ingressd.access_log.with_suffix(".1")
    with Load(ingressd.http) as load:
        load.wait_for(100)
        ingressd.access_log.rename(rotated)
        ingressd.send_signal(signal.SIGUSR1)
        ingressd.wait_until(lambda: ingressd.access_log.exists() and ingressd.access_log.stat().st_size > 0)
        load.wait_for(100)

    def lines() -> list[str]:
        return rotated.read_text().splitlines() + ingressd.access_log.read_text().splitlines()

    ingressd.wait_until(lambda: len(lines()) >= len(load.outcomes))
    assert len([json.loads(line) for line in lines()]) == len(load.outcomes)
    assert load.bad() == []


def start_fails(tmp_path, **config) -> tuple[int, str]:
    ingressd = Ingressd(tmp_path, **config)
    with pytest.raises(NotReadyError):
        ingressd.start()
    code = ingressd.process.returncode
    ingressd.stop()
    return code, ingressd.output()


def test_a_bad_configuration_at_start_names_every_place_and_ends_with_2(tmp_path):
    code, output = start_fails(tmp_path, routs=[], workers=0)
    assert code == 2
    places = re.findall(rf"^{re.escape(str(tmp_path))}/ingressd\.yaml:\d+:\d+: error: .*$", output, re.MULTILINE)
    assert any("routs" in place and "routes" in place for place in places), output
    assert any("workers" in place for place in places), output


def test_a_start_without_any_free_address_ends_with_a_clear_error(tmp_path):
    taken = free_address()
    with socket.create_server(tuple(taken)):
        listeners = [{"name": "only", "address": spelled(taken), "protocol": "HTTP"}]
        code, output = start_fails(tmp_path, listeners=listeners)
    assert code == 1
    assert f"listener only: cannot listen on {spelled(taken)}: Address already in use" in output


def test_a_taken_admin_address_ends_the_start(tmp_path):
    taken = free_address()
    with socket.create_server(tuple(taken)):
        code, output = start_fails(tmp_path, admin={"address": spelled(taken)})
    assert code == 1
    assert f"cannot listen on {spelled(taken)} (admin)" in output
