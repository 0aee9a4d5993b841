"""Feature: Ingress class. Ingresses can be implemented by different controllers; each may name its class."""

from __future__ import annotations

from kube.api import INGRESSES
from kube.scenario import Scenario, new_namespace

INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: test-ingress-class}
spec:
  ingressClassName: some-invalid-class-name
  rules:
    - host: ingress-class
      http:
        paths:
          - {path: /, pathType: Prefix, backend: {service: {name: ingress-class-prefix, port: {number: 8080}}}}
"""


def test_an_ingress_with_an_invalid_ingress_class_should_not_send_traffic_to_the_matching_backend_service(
    scenario: Scenario,
) -> None:
    scenario.given_ingress(INGRESS)
    # An Ingress of ours made after it gets its address: by then the other would have had one.
    ours = Scenario(scenario.api, new_namespace(scenario.api), scenario.wait_everywhere)
    ours.given_ingress(
        INGRESS.replace("some-invalid-class-name", "ingressd").replace("host: ingress-class", "host: ours")
    )
    ours.then_status_shows_address()
    assert scenario.status_addresses() == []
    assert ours.send("GET", "http://ingress-class/").status == 404
    assert ours.send("GET", "http://ours/").status == 200
    ours.api.delete(INGRESSES, ours.ingress, ours.namespace)
