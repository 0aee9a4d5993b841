"""The validating webhook of a real process."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from stage.certificates import Pair, names_of, selfsigned
from stage.load import pid_of
from stage.ports import Address, free_address, spelled
from stage.running import PATIENCE_S, Ingressd, running
from stage.secure import HttpsConnection
from stage.wire import ask, client_tls

pytestmark = pytest.mark.process

CLASS = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: ingressd}
spec: {controller: ingressd.dev/ingress-controller}
---
"""


def ingress(name: str, path: str = "/") -> dict[str, Any]:
    backend = {"service": {"name": "a", "port": {"number": 80}}}
    rule = {"host": "adm.test", "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ingressClassName": "ingressd", "rules": [rule]},
    }


def connect(address: Address) -> HttpsConnection:
    connection = HttpsConnection(*address, context=client_tls(), timeout_s=PATIENCE_S)
    connection.connect()
    return connection


def review(connection: http.client.HTTPSConnection, found: dict[str, Any]) -> dict[str, Any]:
    request = {
        "uid": "u",
        "operation": "CREATE",
        "kind": {"group": "networking.k8s.io", "version": "v1", "kind": "Ingress"},
        "name": found["metadata"]["name"],
        "namespace": "default",
        "object": found,
    }
    body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
    connection.request("POST", "/networking/v1/ingresses", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    response: dict[str, Any] = json.loads(answer.read())["response"]
    return response


def name_served(address: Address) -> str:
    with contextlib.closing(connect(address)) as connection:
        assert isinstance(connection.sock, ssl.SSLSocket)
        return names_of(connection.sock.getpeercert(binary_form=True))[0]


def write_pair(folder: Path, pair: Pair) -> None:
    for name, content in (("hook.crt", pair.cert), ("hook.key", pair.key)):
        (folder / f".{name}").write_bytes(content)
        (folder / f".{name}").replace(folder / name)


def admission(address: Address) -> dict[str, str]:
    return {"address": spelled(address), "certFile": "hook.crt", "keyFile": "hook.key"}


@pytest.fixture
def hook():
    return free_address()


@pytest.fixture
def ingressd(tmp_path, hook):
    (tmp_path / "k8s").mkdir()
    (tmp_path / "k8s" / "a.yaml").write_text(CLASS + json.dumps(ingress("first")))
    write_pair(tmp_path, selfsigned("one.test"))
    with running(tmp_path, manifests=["k8s"], admission=admission(hook)) as started:
        yield started


def answers(address: Address) -> bool:
    try:
        return bool(name_served(address))
    except OSError:
        return False


def test_a_conflict_is_denied_and_counted(ingressd: Ingressd, hook: Address) -> None:
    with contextlib.closing(connect(hook)) as connection:
        assert review(connection, ingress("second", "/new"))["allowed"] is True
        denied = review(connection, ingress("second"))
        assert denied["allowed"] is False
        assert 'host "adm.test" and path "/" is already defined in ingress default/first' in denied["status"]["message"]
        assert review(connection, ingress("first"))["allowed"] is True
        # What was denied is not there, and what is there since is looked at.
        (ingressd.folder / "k8s" / "b.yaml").write_text(json.dumps(ingress("third", "/new")))
        ingressd.wait_until(lambda: not review(connection, ingress("second", "/new"))["allowed"])
    ingressd.wait_until(
        lambda: 'ingressd_admission_reviews_total{answer="allowed"}' in ask(ingressd.admin, "/metrics").text
    )
    metrics = ask(ingressd.admin, "/metrics").text
    assert "nginx_ingress_controller_admission_tested_ingresses{" in metrics
    ingressd.wait_until(lambda: "denied Ingress default/second: " in ingressd.output())


def test_a_killed_controller_refuses_no_connection_and_its_successor_answers(ingressd: Ingressd, hook: Address) -> None:
    os.kill(pid_of(ingressd, "controller"), signal.SIGKILL)
    # The connection waits in the socket that the supervisor keeps.
    with contextlib.closing(connect(hook)) as connection:
        assert review(connection, ingress("second"))["allowed"] is False


def test_a_hand_over_answers_every_review_and_each_from_what_is_live(ingressd: Ingressd, hook: Address) -> None:
    ingressd.send_signal(signal.SIGUSR2)
    answers: list[bool] = []
    until_s = time.monotonic() + 3 * PATIENCE_S
    while "serves; what ran before it drains" not in ingressd.output() or len(answers) < 20:
        assert time.monotonic() < until_s, ingressd.output()
        with contextlib.closing(connect(hook)) as connection:
            answers.append(review(connection, ingress("second"))["allowed"])
    time.sleep(0.2)  # The old controller has closed its copy of the socket.
    with contextlib.closing(connect(hook)) as connection:
        answers.append(review(connection, ingress("second"))["allowed"])
    assert set(answers) == {False}
    ingressd.process.kill()  # What drains would wait for clients for five seconds.


def test_a_new_pair_is_served_without_restart_and_a_broken_one_is_not(ingressd: Ingressd, hook: Address) -> None:
    with contextlib.closing(connect(hook)) as connection:
        write_pair(ingressd.folder, selfsigned("two.test"))
        ingressd.wait_until(lambda: name_served(hook) == "two.test")
        assert review(connection, ingress("second"))["allowed"] is False, "a connection of before lives on"
    (ingressd.folder / "hook.key").write_bytes(selfsigned("other.test").key)
    ingressd.wait_until(lambda: "the last good pair serves on" in ask(ingressd.admin, "/debug/problems").text)
    assert name_served(hook) == "two.test"
    write_pair(ingressd.folder, selfsigned("three.test"))
    ingressd.wait_until(lambda: name_served(hook) == "three.test")
    ingressd.wait_until(lambda: "InvalidCertificate" not in ask(ingressd.admin, "/debug/problems").text)


def test_the_address_changes_and_the_webhook_goes_while_running(ingressd: Ingressd, hook: Address) -> None:
    other = free_address()
    ingressd.change(admission=admission(other), live=lambda: answers(other))
    ingressd.wait_until(lambda: not answers(hook))
    ingressd.change(admission=None, live=lambda: not answers(other))
    ingressd.change(admission=admission(hook), live=lambda: answers(hook))


def test_without_a_certificate_nothing_listens_until_it_is_there(tmp_path: Path, hook: Address) -> None:
    with running(tmp_path, admission=admission(hook)) as ingressd:
        ingressd.wait_until(lambda: "hook.crt cannot be read" in ask(ingressd.admin, "/debug/problems").text)
        assert not answers(hook)
        write_pair(tmp_path, selfsigned("one.test"))
        ingressd.wait_until(lambda: answers(hook))
