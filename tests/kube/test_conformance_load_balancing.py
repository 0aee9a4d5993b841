"""Feature: Load balancing. A backend Service with several replicas: all its pods are used."""

from __future__ import annotations

from kube.api import DEPLOYMENTS
from kube.scenario import Scenario

INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: load-balancing}
spec:
  defaultBackend:
    service:
      name: echo-service
      port: {number: 8080}
"""


def test_an_ingress_with_no_rules_should_send_all_requests_to_the_default_backend_and_use_all_pods(
    scenario: Scenario,
) -> None:
    scenario.given_ingress(INGRESS)
    scenario.then_status_shows_address()
    change = {"spec": {"replicas": 10}}
    scenario.api.patch(DEPLOYMENTS, "load-balancing-echo-service", scenario.namespace, change=change)
    scenario.api.wait_endpoints(scenario.namespace, "echo-service", 10)

    def used() -> set[str]:
        answers = [scenario.send("GET", "http://load-balancing") for _ in range(100)]
        assert {answer.status for answer in answers} == {200}
        return {answer.request["pod"] for answer in answers}

    # A replica may hear of the last endpoint after us.
    scenario.api.wait(lambda: len(used()) == 10, "all endpoints are known")
    assert len(used()) == 10
