"""Feature: Default backend. An Ingress with no rules sends all traffic to the single default backend."""

from __future__ import annotations

import pytest

from kube.scenario import Scenario

INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: default-backend}
spec:
  defaultBackend:
    service:
      name: echo-service
      port: {number: 8080}
"""


@pytest.fixture(scope="module", autouse=True)
def background(scenario: Scenario) -> None:
    scenario.given_ingress(INGRESS)
    scenario.then_status_shows_address()


@pytest.mark.parametrize(
    ("method", "host", "path"),
    [
        ("GET", "my-host", ""),
        ("GET", "my-host", "sub-path"),
        ("POST", "some-host", ""),
        ("PUT", "", "resource"),
        ("DELETE", "some-host", "resource"),
        ("PATCH", "my-host", "resource"),
    ],
)
def test_an_ingress_with_no_rules_should_send_all_requests_to_the_default_backend(
    scenario: Scenario, method: str, host: str, path: str
) -> None:
    answer = scenario.send(method, f"http://{host}/{path}")
    assert answer.status == 200
    assert answer.service == "echo-service"
    assert answer.reply.version == "1.1"
    for name in ("Content-Length", "Content-Type", "Date", "Server"):
        assert answer.reply.one(name), name
    assert answer.request["method"] == method
    assert answer.request["path"] == f"/{path}"
    assert answer.request["proto"] == "HTTP/1.1"
    assert answer.request["headers"]["User-Agent"] == ["Go-http-client/1.1"]
