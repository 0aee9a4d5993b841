"""What /metrics says is the pod's: summed over workers, and not lost with one."""

from __future__ import annotations

import os
import re
import signal
import socket

import pytest
from stage.load import fetch, pid_of, role, upstream
from stage.running import route_to, running
from stage.wire import ask

pytestmark = pytest.mark.process


@pytest.fixture
def ingressd(tmp_path):
    settings = {"ssl-redirect": "false"}
    with (
        upstream() as address,
        running(tmp_path, **route_to({"api": [address]}, workers=2, settings=settings)) as started,
    ):
        yield started


REQUESTS = "nginx_ingress_controller_requests"


def test_requests_are_counted_once_over_all_workers_and_survive_them(ingressd):
    for _ in range(30):
        assert fetch(ingressd.http).status == 200
    assert fetch(ingressd.http, "/" + "x" * 100).status == 200
    # An exchange is counted when it has ended, which is after its client has its answer.
    for name in (
        REQUESTS,
        "nginx_ingress_controller_request_duration_seconds_count",
        "nginx_ingress_controller_response_duration_seconds_count",
    ):
        ingressd.wait_until(lambda name=name: ingressd.metric(name, 'host="api.test"') >= 31)
        assert ingressd.metric(name, 'host="api.test"') == 31
    for name in ("worker 0", "worker 1"):
        old = pid_of(ingressd, name)
        os.kill(old, signal.SIGKILL)
        ingressd.wait_until(
            lambda old=old, name=name: any(role(pid) == name for pid in set(ingressd.children()) - {old})
        )
    assert ingressd.metric(REQUESTS, 'host="api.test"') == 31
    assert fetch(ingressd.http).status == 200
    ingressd.wait_until(lambda: ingressd.metric(REQUESTS, 'host="api.test"') >= 32)
    assert ingressd.metric(REQUESTS, 'host="api.test"') == 32


def test_no_label_comes_from_a_client(ingressd):
    for number in range(5):
        fetch(ingressd.http, f"/secret{number}")
        fetch(ingressd.http, host=f"evil{number}.test")
        ask(ingressd.http, "/", host="api.test", method="BREW" + "ABCDE"[number])
    ingressd.wait_until(lambda: ingressd.metric(REQUESTS, 'method="OTHER"') >= 5)
    text = ask(ingressd.admin, "/metrics").text
    assert not re.search(r"secret\d|evil\d|BREW", text)
    assert ingressd.metric(REQUESTS, 'method="OTHER"') == 5


def test_gauges_of_a_dead_worker_are_gone(ingressd):
    held = [socket.create_connection(ingressd.http) for _ in range(12)]
    state = "nginx_ingress_controller_nginx_process_connections_total"
    ingressd.wait_until(lambda: ingressd.metric(state, 'state="active"') == 12)
    for name in ("worker 0", "worker 1"):
        old = pid_of(ingressd, name)
        os.kill(old, signal.SIGKILL)
        ingressd.wait_until(
            lambda old=old, name=name: any(role(pid) == name for pid in set(ingressd.children()) - {old})
        )
    ingressd.wait_until(lambda: ingressd.metric(state, 'state="active"') == 0)
    assert ingressd.metric(state, 'state="accepted"') >= 12
    for one in held:
        one.close()


def test_every_worker_reports_its_version(ingressd):
    ingressd.wait_until(lambda: ingressd.metric("ingressd_apply_seconds_count") >= 2)
    assert ingressd.metric("ingressd_worker_config_version", 'worker="0"') == 1
    assert ingressd.metric("ingressd_worker_config_version", 'worker="1"') == 1
    assert ingressd.metric("ingressd_ready") == 1
    assert ingressd.metric("nginx_ingress_controller_config_last_reload_successful") == 1
    assert ingressd.metric("ingressd_apply_seconds_count") == 2
