"""NetworkPolicies: first nothing, then exactly what each direction needs."""

from __future__ import annotations

import pytest
from deploy.reach import Peer, allowed
from deploy.rendered import Objects, pod_of

CLIENT = Peer(address="203.0.113.7")
CLIENT_6 = Peer(address="2001:db8::7")
BACKEND = Peer({"app": "shop"}, "shop")
DNS = Peer({"k8s-app": "kube-dns"}, "kube-system")
LOCAL_DNS = Peer(address="169.254.20.10")
PROMETHEUS = Peer({"app": "prometheus"}, "monitoring")
NEIGHBOUR = Peer({"app": "stray"}, "ingressd")
API_SERVER = Peer(address="192.0.2.1")
API_SERVER_6 = Peer(address="2001:db8:1::1")
OUTSIDE = Peer(address="198.51.100.9")
METADATA = Peer(address="169.254.169.254")

IN = [
    (CLIENT, 8080, "TCP", True),
    (CLIENT, 8443, "TCP", True),
    (CLIENT_6, 8443, "TCP", True),
    (BACKEND, 8080, "TCP", True),
    (CLIENT, 8080, "UDP", False),
    (CLIENT, 10254, "TCP", False),
    (BACKEND, 10254, "TCP", False),
    (NEIGHBOUR, 10254, "TCP", False),
    (CLIENT, 22, "TCP", False),
]
OUT = [
    (BACKEND, 8000, "TCP", True),
    (BACKEND, 1, "TCP", True),
    (BACKEND, 53, "UDP", False),
    (DNS, 53, "UDP", True),
    (DNS, 53, "TCP", True),
    (LOCAL_DNS, 53, "UDP", True),
    (API_SERVER, 6443, "TCP", True),
    (API_SERVER, 443, "TCP", True),
    (API_SERVER_6, 443, "TCP", True),
    (OUTSIDE, 5432, "TCP", False),
    (OUTSIDE, 80, "TCP", False),
    (OUTSIDE, 53, "UDP", False),
    (OUTSIDE, 443, "UDP", False),
    (METADATA, 80, "TCP", False),
    (METADATA, 443, "TCP", False),
    (Peer(address="fd00:ec2::254"), 443, "TCP", False),
]


def policies_of(objects: Objects):
    return [body for key, body in objects.items() if key.kind == "NetworkPolicy"]


def labels_of(objects: Objects):
    return pod_of(objects)["metadata"]["labels"]


def test_what_is_allowed_in_is_what_is_served(objects):
    adds = {"ingressd-metrics", "ingressd-admission"} & {key.name for key in objects if key.kind == "NetworkPolicy"}
    for peer, port, protocol, expected in IN:
        said = allowed(policies_of(objects), "Ingress", labels_of(objects), peer=peer, port=port, protocol=protocol)
        assert said is expected, (peer, port, protocol)
    for peer, port, policy in ((PROMETHEUS, 10254, "ingressd-metrics"), (API_SERVER, 9443, "ingressd-admission")):
        said = allowed(policies_of(objects), "Ingress", labels_of(objects), peer=peer, port=port)
        assert said is (policy in adds), (peer, port)


def test_what_is_allowed_out_is_backends_names_and_the_api_server(objects):
    for peer, port, protocol, expected in OUT:
        said = allowed(policies_of(objects), "Egress", labels_of(objects), peer=peer, port=port, protocol=protocol)
        assert said is expected, (peer, port, protocol)


@pytest.mark.parametrize("direction", ["Ingress", "Egress"])
def test_a_stray_pod_of_the_namespace_may_nothing(objects, direction):
    for peer in (CLIENT, BACKEND, DNS, PROMETHEUS, NEIGHBOUR):
        for port in (53, 80, 443, 8080, 9443, 10254):
            assert not allowed(policies_of(objects), direction, NEIGHBOUR.labels, peer=peer, port=port)


def test_no_policy_allows_what_it_does_not_name(objects):
    """A rule without ports, or without peers where they can be named, is wider than it looks."""
    for policy in policies_of(objects):
        spec = policy["spec"]
        for direction, side in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(direction, ()):
                assert rule["ports"], policy["metadata"]["name"]
                assert side in rule or policy["metadata"]["name"] == "ingressd-clients"


def test_the_judge_knows_an_open_direction():
    policy = {"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}
    assert not allowed([policy], "Ingress", {}, peer=CLIENT, port=80)
    assert allowed([policy], "Egress", {}, peer=OUTSIDE, port=80)
    assert allowed([], "Ingress", {}, peer=CLIENT, port=80)
