"""Feature: Path rules. An Ingress may define routing rules based on the request path."""

from __future__ import annotations

import pytest

from kube.scenario import Scenario

INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: path-rules}
spec:
  rules:
    - host: exact-path-rules
      http:
        paths:
          - {path: /foo, pathType: Exact, backend: {service: {name: foo-exact, port: {number: 8080}}}}
    - host: prefix-path-rules
      http:
        paths:
          - {path: /foo, pathType: Prefix, backend: {service: {name: foo-prefix, port: {number: 8080}}}}
          - {path: /aaa/bbb, pathType: Prefix, backend: {service: {name: aaa-slash-bbb-prefix, port: {number: 8080}}}}
          - {path: /aaa, pathType: Prefix, backend: {service: {name: aaa-prefix, port: {number: 8080}}}}
    - host: mixed-path-rules
      http:
        paths:
          - {path: /foo, pathType: Prefix, backend: {service: {name: foo-prefix, port: {number: 8080}}}}
          - {path: /foo, pathType: Exact, backend: {service: {name: foo-exact, port: {number: 8080}}}}
    - host: trailing-slash-path-rules
      http:
        paths:
          - path: /aaa/bbb/
            pathType: Prefix
            backend: {service: {name: aaa-slash-bbb-slash-prefix, port: {number: 8080}}}
          - {path: /foo/, pathType: Exact, backend: {service: {name: foo-slash-exact, port: {number: 8080}}}}
"""


@pytest.fixture(scope="module", autouse=True)
def background(scenario: Scenario) -> None:
    scenario.given_ingress(INGRESS)
    scenario.then_status_shows_address()


def _served(scenario: Scenario, url: str) -> str:
    """The Service that answered 200."""
    answer = scenario.send("GET", url)
    assert answer.status == 200, answer.reply
    return answer.service


def _status(scenario: Scenario, url: str) -> int:
    return scenario.send("GET", url).status


def test_exact_path_rules_should_send_traffic_to_the_matching_backend_service(scenario: Scenario) -> None:
    assert _served(scenario, "http://exact-path-rules/foo") == "foo-exact"


def test_exact_path_rules_should_not_match_requests_with_trailing_slash(scenario: Scenario) -> None:
    assert _status(scenario, "http://exact-path-rules/foo/") == 404


def test_exact_path_rules_should_be_case_sensitive(scenario: Scenario) -> None:
    assert _status(scenario, "http://exact-path-rules/FOO") == 404


def test_exact_path_rules_should_not_match_any_other_label(scenario: Scenario) -> None:
    assert _status(scenario, "http://exact-path-rules/bar") == 404


def test_prefix_path_rules_should_send_traffic_to_the_matching_backend_service(scenario: Scenario) -> None:
    assert _served(scenario, "http://prefix-path-rules/foo") == "foo-prefix"


def test_prefix_path_rules_should_ignore_the_request_trailing_slash(scenario: Scenario) -> None:
    assert _served(scenario, "http://prefix-path-rules/foo/") == "foo-prefix"


def test_prefix_path_rules_should_be_case_sensitive(scenario: Scenario) -> None:
    assert _status(scenario, "http://prefix-path-rules/FOO") == 404


def test_prefix_path_rules_should_match_multiple_labels_and_the_longest_path(scenario: Scenario) -> None:
    assert _served(scenario, "http://prefix-path-rules/aaa/bbb") == "aaa-slash-bbb-prefix"


def test_prefix_path_rules_should_match_multiple_labels_the_longest_path_and_subpaths(scenario: Scenario) -> None:
    assert _served(scenario, "http://prefix-path-rules/aaa/bbb/ccc") == "aaa-slash-bbb-prefix"


def test_prefix_path_rules_should_match_subpaths(scenario: Scenario) -> None:
    assert _served(scenario, "http://prefix-path-rules/aaa/ccc") == "aaa-prefix"


def test_prefix_path_rules_should_match_each_labels_string_prefix(scenario: Scenario) -> None:
    assert _status(scenario, "http://prefix-path-rules/aaaccc") == 404


def test_prefix_path_rules_should_ignore_the_request_trailing_slash_again(scenario: Scenario) -> None:
    """The suite has this scenario twice."""
    assert _served(scenario, "http://prefix-path-rules/foo/") == "foo-prefix"


def test_mixed_path_rules_should_send_traffic_where_exact_is_preferred(scenario: Scenario) -> None:
    assert _served(scenario, "http://mixed-path-rules/foo") == "foo-exact"


def test_trailing_slashes_in_a_prefix_path_rule_should_be_ignored(scenario: Scenario) -> None:
    assert _served(scenario, "http://trailing-slash-path-rules/aaa/bbb") == "aaa-slash-bbb-slash-prefix"


def test_trailing_slashes_in_a_prefix_path_rule_should_be_ignored_and_match_the_same(scenario: Scenario) -> None:
    assert _served(scenario, "http://trailing-slash-path-rules/aaa/bbb/") == "aaa-slash-bbb-slash-prefix"


def test_trailing_slashes_in_an_exact_path_rule_should_not_match_requests_without(scenario: Scenario) -> None:
    assert _status(scenario, "http://trailing-slash-path-rules/foo") == 404
