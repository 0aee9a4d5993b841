"""Feature: Host rules. An Ingress may define routing rules based on the request host."""

from __future__ import annotations

import pytest

from kube.scenario import Scenario, new_tls_secret, verifies

INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: host-rules}
spec:
  tls:
    - {hosts: [foo.bar.com], secretName: conformance-tls}
  rules:
    - host: "*.foo.com"
      http:
        paths:
          - {path: /, pathType: Prefix, backend: {service: {name: wildcard-foo-com, port: {number: 8080}}}}
    - host: foo.bar.com
      http:
        paths:
          - {path: /, pathType: Prefix, backend: {service: {name: foo-bar-com, port: {name: http}}}}
"""


@pytest.fixture(scope="module", autouse=True)
def background(scenario: Scenario) -> None:
    new_tls_secret(scenario.api, scenario.namespace, "conformance-tls", "foo.bar.com")
    scenario.given_ingress(INGRESS)
    scenario.then_status_shows_address()


def test_an_ingress_with_a_host_rule_should_send_tls_traffic_to_the_matching_backend_service(
    scenario: Scenario,
) -> None:
    answer = scenario.send("GET", "https://foo.bar.com")
    assert verifies(answer, "foo.bar.com")
    assert answer.status == 200
    assert answer.service == "foo-bar-com"
    assert answer.request["host"] == "foo.bar.com"


def test_an_ingress_with_a_host_rule_should_send_traffic_to_the_matching_backend_service(scenario: Scenario) -> None:
    answer = scenario.send("GET", "http://foo.bar.com")
    assert answer.status == 200
    assert answer.service == "foo-bar-com"
    assert answer.request["host"] == "foo.bar.com"


def test_an_ingress_with_a_host_rule_should_not_route_traffic_when_hostname_does_not_match(scenario: Scenario) -> None:
    assert scenario.send("GET", "http://subdomain.bar.com").status == 404


def test_an_ingress_with_a_wildcard_host_rule_should_send_traffic_to_the_matching_backend_service(
    scenario: Scenario,
) -> None:
    answer = scenario.send("GET", "http://bar.foo.com")
    assert answer.status == 200
    assert answer.service == "wildcard-foo-com"
    assert answer.request["host"] == "bar.foo.com"


def test_an_ingress_with_a_wildcard_host_rule_should_not_route_traffic_matching_on_more_than_a_single_dns_label(
    scenario: Scenario,
) -> None:
    assert scenario.send("GET", "http://baz.bar.foo.com").status == 404


def test_an_ingress_with_a_wildcard_host_rule_should_not_route_traffic_matching_no_dns_label(
    scenario: Scenario,
) -> None:
    assert scenario.send("GET", "http://foo.com").status == 404
