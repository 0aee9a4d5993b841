"""Two replicas: who writes, what happens when that one goes, and how they are replaced."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from stage.wire import ask

from kube.api import INGRESSES, LEASES, NAMESPACES, PODS, Api
from kube.cluster import Cluster
from kube.installation import NAMESPACE, Installation
from kube.mixed_load import MixedLoad
from kube.scenario import new_backend, new_ingress, new_namespace

LEASE = "ingressd-leader"
TTL_S = 6.0
"""`election-ttl` of the installation."""


@pytest.fixture(scope="module")
def namespace(api: Api, ingressd: Installation) -> Iterator[str]:
    name = new_namespace(api, "replicas")
    new_backend(api, name, "echo", replicas=2)
    yield name
    api.delete(NAMESPACES, name)


def holder(api: Api) -> str:
    """The pod that holds the Lease."""
    identity: str = api.get(LEASES, LEASE, NAMESPACE)["spec"].get("holderIdentity") or ""
    return identity.partition("_")[0]


def has_address(api: Api, namespace: str, name: str) -> bool:
    """Has an Ingress been given its status?"""
    return bool(api.get(INGRESSES, name, namespace).get("status", {}).get("loadBalancer", {}).get("ingress"))


def writers(cluster: Cluster, namespace: str) -> set[str]:
    """The pods that wrote statuses in a namespace."""
    return {
        event["user"]["extra"]["authentication.kubernetes.io/pod-name"][0]
        for event in cluster.control_plane.audited()
        if event["objectRef"].get("subresource") == "status" and event["objectRef"].get("namespace") == namespace
    }


def test_only_the_leader_writes(cluster: Cluster, api: Api, ingressd: Installation, namespace: str) -> None:
    names = {pod["metadata"]["name"] for pod in ingressd.ready_pods()}
    # One that was deleted by an earlier test may hold it until it has ended.
    leader = api.wait(lambda: names & {holder(api)}, "a leader among those that stay").pop()
    new_ingress(api, namespace, "led", host="led.test")
    api.wait(lambda: has_address(api, namespace, "led"), "a status")
    # The audit log may have a write after its effect is seen.
    assert api.wait(lambda: writers(cluster, namespace), "an audit event") == {leader}


def test_a_leader_that_ends_hands_over_at_once(api: Api, ingressd: Installation, namespace: str) -> None:
    leader = api.wait(lambda: holder(api), "a leader")
    version = api.get(LEASES, LEASE, NAMESPACE)["metadata"]["resourceVersion"]
    api.delete(PODS, leader, NAMESPACE)
    api.wait(lambda: holder(api) not in ("", leader), "another leader")
    new_ingress(api, namespace, "handed-over", host="handed-over.test")
    api.wait(lambda: has_address(api, namespace, "handed-over"), "a status")
    ingressd.wait_ready()

    # preStop, shutdown-grace-period and the drain come first, and then nobody waited for the end of the Lease.
    def holders() -> list[str]:
        events = api.events_since(version, LEASES, NAMESPACE)
        return [one["object"]["spec"].get("holderIdentity") or "" for one in events]

    api.wait(lambda: "" in holders(), "the leader gave the Lease back", within_s=10)


def test_a_leader_that_is_gone_without_a_word_is_followed_when_its_lease_is_over(
    cluster: Cluster, api: Api, ingressd: Installation, namespace: str
) -> None:
    leader = api.wait(lambda: holder(api), "a leader")
    # Its container never comes back, as if the node had burnt down: no SIGTERM, no restart.
    cluster.do(ingressd.runner(leader).close())
    api.delete(PODS, leader, NAMESPACE, grace_s=0)
    api.wait(lambda: holder(api) not in ("", leader), "another leader", within_s=TTL_S + 60)
    new_ingress(api, namespace, "followed", host="followed.test")
    api.wait(lambda: has_address(api, namespace, "followed"), "a status")
    ingressd.wait_ready()


def test_a_new_leader_takes_back_what_changed_hands_while_nobody_looked(
    api: Api, ingressd: Installation, namespace: str
) -> None:
    new_ingress(api, namespace, "ours", host="ours.test")
    api.wait(lambda: has_address(api, namespace, "ours"), "a status")
    status = {"status": api.get(INGRESSES, "ours", namespace)["status"]}
    for name, manager in (("left", ingressd.config["ingressClass"]["controller"]), ("theirs", "kubectl")):
        new_ingress(api, namespace, name, host=f"{name}.test", ingressClassName="somebody-else")
        path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/{name}/status"
        how = {"content_type": "application/merge-patch+json", "fieldManager": manager}
        api.request("PATCH", path, body=status, **how)
    # What comes after it in the same watch has come: every replica has seen the statuses above.
    new_ingress(api, namespace, "after", host="after.test")
    ingressd.wait_everywhere(lambda at: ask(at, host="after.test").status == 200, "both replicas have seen it")
    api.delete(PODS, api.wait(lambda: holder(api), "a leader"), NAMESPACE)
    api.wait(lambda: not has_address(api, namespace, "left"), "no address", within_s=TTL_S + 60)
    ingressd.wait_ready()
    assert has_address(api, namespace, "theirs") and has_address(api, namespace, "ours")


def test_replacing_every_replica_fails_no_request(api: Api, ingressd: Installation, namespace: str) -> None:
    new_ingress(api, namespace, "rolled", host="rolled.test")
    ingressd.wait_everywhere(lambda at: ask(at, host="rolled.test").status == 200, "live")
    before = {pod["metadata"]["name"] for pod in ingressd.pods()}
    with MixedLoad([(ingressd.address, 80)], host="rolled.test", pause_s=0.01) as load:
        ingressd.restart()
        time.sleep(1)
        load.wait_for(200)
    assert not before & {pod["metadata"]["name"] for pod in ingressd.pods()}
    assert load.failed("GET") == [], load.summary()
    assert load.failed("POST") == [], load.summary()
    assert len(load.sent) > 200, load.summary()
