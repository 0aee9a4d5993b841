"""What changes in the cluster is live in every replica, soon and without a wrong answer in between."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from stage.ports import Address
from stage.wire import ask

from kube.api import DEPLOYMENTS, INGRESSES, NAMESPACES, SERVICES, SLICES, Api
from kube.cluster import Cluster
from kube.installation import ADMIN_PORT, Installation
from kube.mixed_load import MixedLoad
from kube.scenario import new_backend, new_ingress, new_namespace

LIVE_WITHIN_S = 30.0


@pytest.fixture(scope="module")
def namespace(api: Api, ingressd: Installation) -> Iterator[str]:
    name = new_namespace(api, "watch")
    new_backend(api, name, "echo", replicas=2)
    yield name
    api.delete(NAMESPACES, name)


def status(address: Address, host: str) -> int:
    """What one replica answers."""
    return ask(address, host=host).status


def answering(address: Address, host: str) -> set[str]:
    """Pods that answer one replica."""
    replies = [ask(address, host=host) for _ in range(20)]
    return {reply.text.partition('"pod": "')[2].partition('"')[0] for reply in replies}


def test_an_ingress_is_live_when_created_changed_and_deleted(api: Api, ingressd: Installation, namespace: str) -> None:
    assert all(ask((runner.pair[0], 8080), host="web.test").status == 404 for runner in ingressd.runners())
    new_ingress(api, namespace, "web", host="web.test")
    ingressd.wait_everywhere(lambda at: status(at, "web.test") == 200, "created", within_s=LIVE_WITHIN_S)
    new_ingress(api, namespace, "web", host="moved.test")
    ingressd.wait_everywhere(
        lambda at: (status(at, "moved.test"), status(at, "web.test")) == (200, 404), "changed", within_s=LIVE_WITHIN_S
    )
    api.delete(INGRESSES, "web", namespace)
    ingressd.wait_everywhere(lambda at: status(at, "moved.test") == 404, "deleted", within_s=LIVE_WITHIN_S)


def test_endpoints_come_and_go(api: Api, ingressd: Installation, namespace: str) -> None:
    new_backend(api, namespace, "scaled")
    new_ingress(api, namespace, "scaled", host="scaled.test", service="scaled")
    ingressd.wait_everywhere(lambda at: status(at, "scaled.test") == 200, "one pod", within_s=LIVE_WITHIN_S)
    api.patch(DEPLOYMENTS, "scaled", namespace, change={"spec": {"replicas": 0}})
    api.wait_endpoints(namespace, "scaled", 0)
    ingressd.wait_everywhere(lambda at: status(at, "scaled.test") == 503, "no pod", within_s=LIVE_WITHIN_S)
    api.patch(DEPLOYMENTS, "scaled", namespace, change={"spec": {"replicas": 3}})
    api.wait_endpoints(namespace, "scaled", 3)
    ingressd.wait_everywhere(lambda at: status(at, "scaled.test") == 200, "three pods", within_s=LIVE_WITHIN_S)


def test_a_pod_that_is_not_ready_is_given_nothing(
    cluster: Cluster, api: Api, ingressd: Installation, namespace: str
) -> None:
    new_backend(api, namespace, "half", replicas=2)
    new_ingress(api, namespace, "half", host="half.test", service="half")
    first = api.wait_ready_pods(namespace, "app=half", 2)[0]["metadata"]["name"]
    ingressd.wait_everywhere(lambda at: len(answering(at, "half.test")) == 2, "both answer")
    cluster.do(cluster.kubelet.set_ready(namespace, first, ready=False))
    ingressd.wait_everywhere(lambda at: first not in answering(at, "half.test"), "one answers")
    cluster.do(cluster.kubelet.set_ready(namespace, first, ready=True))
    ingressd.wait_everywhere(lambda at: first in answering(at, "half.test"), "both answer again")


def test_annotations_of_a_service_have_its_pods_probed_and_an_unhealthy_one_is_given_nothing(
    cluster: Cluster, api: Api, ingressd: Installation, namespace: str
) -> None:
    new_backend(api, namespace, "probed", replicas=2)
    new_ingress(api, namespace, "probed", host="probed.test", service="probed")
    first, second = (pod["metadata"]["name"] for pod in api.wait_ready_pods(namespace, "app=probed", 2))
    echoes = [cluster.kubelet.runner(namespace, name).echo for name in (first, second)]
    sick = echoes[0]

    def annotate(**checks: str | None) -> None:
        annotations = {f"ingressd.dev/health-check-{key.replace('_', '-')}": value for key, value in checks.items()}
        api.patch(SERVICES, "probed", namespace, change={"metadata": {"annotations": annotations}})

    def wait_answering(pods: set[str], what: str) -> None:
        ingressd.wait_everywhere(lambda at: answering(at, "probed.test") == pods, what)

    def views(at: Address) -> list[tuple[bool, str]]:
        """Of each endpoint of the Service that a replica probes, whether it is healthy, and what it said."""
        found = json.loads(ask((at[0], ADMIN_PORT), "/debug/health").text)["endpoints"]
        mine = [one for one in found if one["upstream"] == f"{namespace}/probed:8080"]
        return sorted((one["healthy"], one["said"]) for one in mine)

    # It serves all others well and is Ready throughout: nothing but the checks can tell.
    sick.refuses.add("/well")
    wait_answering({first, second}, "both answer, nobody is probed")
    assert not any(seen.path == "/well" for echo in echoes for seen in echo.seen)
    annotate(path="/well", interval="200ms", unhealthy_threshold="2")
    ingressd.wait_everywhere(lambda at: views(at) == [(False, "answered 503"), (True, "")], "one is unhealthy")
    wait_answering({second}, "one answers")
    sick.refuses.clear()
    wait_answering({first, second}, "both answer again")
    sick.refuses.add("/well")
    wait_answering({second}, "one answers once more")
    annotate(path=None, interval=None, unhealthy_threshold=None)
    ingressd.wait_everywhere(lambda at: views(at) == [], "nobody is probed any more")
    wait_answering({first, second}, "both answer")


def test_a_crash_of_a_pod_fails_no_request_that_may_be_repeated(
    cluster: Cluster, api: Api, ingressd: Installation, namespace: str
) -> None:
    new_backend(api, namespace, "fragile", replicas=3)
    new_ingress(api, namespace, "fragile", host="fragile.test", service="fragile")
    ingressd.wait_everywhere(lambda at: status(at, "fragile.test") == 200, "live")
    victim = api.wait_ready_pods(namespace, "app=fragile", 3)[0]["metadata"]["name"]
    with MixedLoad([(runner.pair[0], 8080) for runner in ingressd.runners()], host="fragile.test") as load:
        time.sleep(0.5)
        load.wait_for(100)
        cluster.do(cluster.kubelet.crash(namespace, victim))
        time.sleep(1.0)
        load.wait_for(100)
        cluster.do(cluster.kubelet.restart(namespace, victim))
        time.sleep(0.5)
        load.wait_for(100)
    assert load.failed("GET") == [], load.summary()
    assert len(load.sent) > 200, load.summary()


def test_a_service_that_moves_its_port_is_followed(api: Api, ingressd: Installation, namespace: str) -> None:
    new_backend(api, namespace, "ported")
    new_ingress(api, namespace, "ported", host="ported.test", service="ported")
    ingressd.wait_everywhere(lambda at: status(at, "ported.test") == 200, "port 8080", within_s=LIVE_WITHIN_S)
    api.patch(SERVICES, "ported", namespace, change={"spec": {"ports": [{"port": 9090, "targetPort": 3000}]}})
    ingressd.wait_everywhere(lambda at: status(at, "ported.test") == 503, "no such port", within_s=LIVE_WITHIN_S)
    api.patch(SERVICES, "ported", namespace, change={"spec": {"ports": [{"port": 8080, "targetPort": 3000}]}})
    ingressd.wait_everywhere(lambda at: status(at, "ported.test") == 200, "port 8080 again", within_s=LIVE_WITHIN_S)


def test_a_service_without_selector_uses_the_slices_that_somebody_wrote(
    api: Api, ingressd: Installation, namespace: str
) -> None:
    pods = api.wait_ready_pods(namespace, "app=echo", 2)
    service = {"ports": [{"name": "http", "port": 8080, "targetPort": 3000}]}
    api.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "by-hand"}, "spec": service}, namespace)
    labels = {"kubernetes.io/service-name": "by-hand"}
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "by-hand-1", "labels": labels},
        "addressType": "IPv6",
        "ports": [{"name": "http", "port": 3000, "protocol": "TCP"}],
        "endpoints": [{"addresses": [pods[0]["status"]["podIPs"][1]["ip"]]}],
    }
    api.apply(slice_, namespace)
    new_ingress(api, namespace, "by-hand", host="by-hand.test", service="by-hand")
    ingressd.wait_everywhere(lambda at: status(at, "by-hand.test") == 200, "an IPv6 endpoint", within_s=LIVE_WITHIN_S)
    assert pods[0]["metadata"]["name"] in ask((ingressd.address, 80), host="by-hand.test").text
    api.delete(SLICES, "by-hand-1", namespace)
    ingressd.wait_everywhere(lambda at: status(at, "by-hand.test") == 503, "no slice", within_s=LIVE_WITHIN_S)


def test_both_families_of_the_load_balancer_lead_to_a_backend(api: Api, ingressd: Installation, namespace: str) -> None:
    new_ingress(api, namespace, "dual", host="dual.test")
    ingressd.wait_everywhere(lambda at: status(at, "dual.test") == 200, "live")
    assert len(ingressd.addresses) == 2
    for address in ingressd.addresses:
        assert status((address, 80), "dual.test") == 200
