"""What an Ingress' status says, and when it is written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from kube.api import INGRESSES, NAMESPACES, NODES, Api
from kube.cluster import Cluster
from kube.installation import DEPLOY, NAMESPACE, Installation
from kube.scenario import new_backend, new_ingress, new_namespace

PORTS = [{"port": 80, "protocol": "TCP"}, {"port": 443, "protocol": "TCP"}]


@pytest.fixture(scope="module")
def namespace(api: Api, ingressd: Installation) -> Iterator[str]:
    name = new_namespace(api, "status")
    new_backend(api, name, "echo")
    new_ingress(api, name, "web", host="status.test")
    yield name
    api.delete(NAMESPACES, name)


@pytest.fixture
def flags(ingressd: Installation) -> Iterator[None]:
    """Afterwards the flags are as they were."""
    before = dict(ingressd.config["flags"])
    yield
    now = ingressd.config["flags"]
    ingressd.configure(flags={**dict.fromkeys(now.keys() - before.keys()), **before})


def entries(api: Api, namespace: str, name: str = "web") -> list[dict[str, Any]]:
    """The entries of an Ingress' status."""
    status = api.get(INGRESSES, name, namespace).get("status", {})
    found: list[dict[str, Any]] = status.get("loadBalancer", {}).get("ingress") or []
    return found


def hosts(api: Api, namespace: str, name: str = "web") -> set[str]:
    """The addresses and names of an Ingress' status."""
    return {one.get("ip") or one["hostname"] for one in entries(api, namespace, name)}


def status_writes(cluster: Cluster) -> int:
    """How many status writes of ours the API server has seen."""
    return sum(
        1
        for event in cluster.control_plane.audited()
        if event["user"]["username"] == f"system:serviceaccount:{NAMESPACE}:ingressd"
        and event["objectRef"].get("subresource") == "status"
    )


def test_the_addresses_are_those_of_our_service_with_ports(api: Api, ingressd: Installation, namespace: str) -> None:
    api.wait(lambda: hosts(api, namespace) == set(ingressd.addresses), "the addresses of the Service")
    assert all(one["ports"] == PORTS for one in entries(api, namespace)), entries(api, namespace)


def test_nothing_is_written_when_nothing_differs(
    cluster: Cluster, api: Api, ingressd: Installation, namespace: str
) -> None:
    api.wait(lambda: hosts(api, namespace) == set(ingressd.addresses), "the addresses of the Service")

    def settled() -> int:
        """The audit log may have a write after its effect is seen, of other namespaces, too."""
        seen = status_writes(cluster)
        time.sleep(0.5)
        return seen if seen == status_writes(cluster) else 0

    before = api.wait(settled, "no more writes"), api.get(INGRESSES, "web", namespace)["metadata"]["resourceVersion"]
    api.patch(INGRESSES, "web", namespace, change={"metadata": {"annotations": {"stage/changed": "yes"}}})
    changed = api.get(INGRESSES, "web", namespace)["metadata"]["resourceVersion"]
    time.sleep(1.5)
    assert status_writes(cluster) == before[0]
    assert api.get(INGRESSES, "web", namespace)["metadata"]["resourceVersion"] == changed != before[1]


def test_somebody_elses_write_is_put_right(api: Api, ingressd: Installation, namespace: str) -> None:
    wrong = {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.99"}]}}}
    api.patch(INGRESSES, "web", namespace, sub="status", change=wrong)
    api.wait(lambda: hosts(api, namespace) == set(ingressd.addresses), "our addresses again")


def test_the_addresses_are_taken_away_from_what_is_not_ours_any_more(
    api: Api, ingressd: Installation, namespace: str
) -> None:
    new_ingress(api, namespace, "leaving", host="leaving.test")
    api.wait(lambda: hosts(api, namespace, "leaving") == set(ingressd.addresses), "the addresses of the Service")
    api.patch(INGRESSES, "leaving", namespace, change={"spec": {"ingressClassName": "somebody-else"}})
    api.wait(lambda: not entries(api, namespace, "leaving"), "no addresses")


def test_addresses_of_a_flag(api: Api, ingressd: Installation, namespace: str, flags: None) -> None:
    ingressd.configure(flags={"publish-service": None, "publish-status-address": "203.0.113.7,web.example"})
    api.wait(lambda: hosts(api, namespace) == {"203.0.113.7", "web.example"}, "the addresses of the flag")


def test_a_service_that_changes_its_addresses(api: Api, ingressd: Installation, namespace: str) -> None:
    before = set(ingressd.addresses)
    other = {"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}}}
    path = f"/api/v1/namespaces/{NAMESPACE}/services/ingressd"
    # For a moment, until the stand-in for the cloud puts its own addresses back: audit tells.
    api.request("PATCH", f"{path}/status", body=other, content_type="application/merge-patch+json")
    api.wait(lambda: hosts(api, namespace) == before, "the cloud's addresses")


@pytest.fixture
def may_read_nodes(api: Api) -> Iterator[None]:
    """The component for clusters without load balancers."""
    objects = list(yaml.safe_load_all((DEPLOY / "components/node-addresses/rbac.yaml").read_text()))
    for manifest in objects:
        api.apply(manifest)
    yield
    for manifest in objects:
        api.delete(f"{manifest['apiVersion']}/{manifest['kind'].lower()}s", manifest["metadata"]["name"])


def test_addresses_of_nodes(
    api: Api, ingressd: Installation, namespace: str, flags: None, may_read_nodes: None
) -> None:
    used = {pod["spec"]["nodeName"] for pod in ingressd.pods()}
    known = {
        one["address"]
        for node in api.items(NODES)
        if node["metadata"]["name"] in used
        for one in node["status"]["addresses"]
        if one["type"] == "InternalIP"
    }
    ingressd.configure(flags={"publish-service": None, "report-node-internal-ip-address": "true"})
    api.wait(lambda: hosts(api, namespace) == known, f"the addresses of nodes {known}")
