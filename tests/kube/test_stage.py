"""The stage itself: pods, Services and load balancers must be what ingressd would find in a cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stage.wire import REFUSED, ask

from kube.api import DEPLOYMENTS, NAMESPACES, PODS, SERVICES, Api, RefusedError
from kube.cluster import Cluster
from kube.scenario import new_backend, new_namespace


@pytest.fixture(scope="module")
def namespace(api: Api) -> Iterator[str]:
    name = new_namespace(api, "stage")
    yield name
    api.delete(NAMESPACES, name)


def test_a_pod_answers_on_both_its_addresses(api: Api, namespace: str) -> None:
    new_backend(api, namespace, "both")
    (pod,) = api.wait_ready_pods(namespace, "app=both", 1)
    addresses = [one["ip"] for one in pod["status"]["podIPs"]]
    assert len(addresses) == 2
    for address in addresses:
        assert pod["metadata"]["name"] in ask((address, 3000)).text


def test_a_load_balancer_reaches_ready_pods_only(cluster: Cluster, api: Api, namespace: str) -> None:
    new_backend(api, namespace, "balanced", replicas=2)
    service = {"type": "LoadBalancer", "ipFamilyPolicy": "RequireDualStack"}
    api.patch(SERVICES, "balanced", namespace, change={"spec": service})

    def given() -> list[str]:
        status = api.get(SERVICES, "balanced", namespace)["status"]["loadBalancer"]
        return [one["ip"] for one in status.get("ingress", ())]

    addresses = api.wait(given, "addresses")
    assert len(addresses) == 2
    first, second = (pod["metadata"]["name"] for pod in api.wait_ready_pods(namespace, "app=balanced", 2))
    cluster.do(cluster.kubelet.set_ready(namespace, first, ready=False))
    api.wait_endpoints(namespace, "balanced", 1)
    # The load balancer looks at the endpoints for itself.
    api.wait(lambda: all(second in ask((address, 8080)).text for address in addresses * 3), "the ready pod alone")
    for address in addresses * 3:
        assert second in ask((address, 8080)).text


def test_a_crashed_pod_refuses_until_it_is_started_again(cluster: Cluster, api: Api, namespace: str) -> None:
    new_backend(api, namespace, "crashing")
    (pod,) = api.wait_ready_pods(namespace, "app=crashing", 1)
    name, address = pod["metadata"]["name"], (pod["status"]["podIP"], 3000)
    cluster.do(cluster.kubelet.crash(namespace, name))
    assert ask(address).status == REFUSED
    api.wait_endpoints(namespace, "crashing", 0)
    cluster.do(cluster.kubelet.restart(namespace, name))
    assert ask(address).status == 200
    api.wait_endpoints(namespace, "crashing", 1)


def test_a_pod_that_serves_after_sigterm_is_deleted_later(cluster: Cluster, api: Api, namespace: str) -> None:
    new_backend(api, namespace, "lingering", annotations={"stage/on-term": "serve 1"})
    (pod,) = api.wait_ready_pods(namespace, "app=lingering", 1)
    address = (pod["status"]["podIP"], 3000)
    api.patch(DEPLOYMENTS, "lingering", namespace, change={"spec": {"replicas": 0}})
    api.wait_endpoints(namespace, "lingering", 0)
    assert ask(address).status == 200
    api.wait(lambda: not api.find(PODS, pod["metadata"]["name"], namespace), "the pod is gone")
    assert ask(address).status == REFUSED


def test_a_service_account_may_not_do_what_no_role_says(cluster: Cluster, namespace: str) -> None:
    nobody = Api(cluster.kubeconfig_of(namespace, "default"))
    with pytest.raises(RefusedError) as refused:
        nobody.items(PODS, namespace)
    assert refused.value.status == 403
    nobody.close()
    # The answer may be here before the audit log has it, and others ask meanwhile.
    user = f"system:serviceaccount:{namespace}:default"
    mine = cluster.api.wait(
        lambda: [one for one in cluster.control_plane.audited() if one["user"]["username"] == user], "an audit event"
    )
    assert [one["responseStatus"]["code"] for one in mine] == [403]
