"""A second installation, by Helm: chosen namespaces, a class of its own, a webhook with Helm's own certificate."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from deploy.rendered import helm
from stage.wire import ask

from kube.api import INGRESS_CLASSES, INGRESSES, NAMESPACES, PODS, SERVICES, Api, RefusedError, path_of
from kube.cluster import Cluster
from kube.scenario import new_backend, new_ingress, new_namespace

RELEASE = NAMESPACE = "edge"
NAME = "edge-ingressd"
LABELS = "app.kubernetes.io/instance=edge"
WEBHOOKS = "admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
MALFORMED = {"nginx.ingress.kubernetes.io/whitelist-source-range": "many"}


@pytest.fixture(scope="module")
def shop(api: Api) -> Iterator[str]:
    name = new_namespace(api, "shop")
    new_backend(api, name, "echo")
    yield name
    api.delete(NAMESPACES, name)


@pytest.fixture(scope="module")
def release(cluster: Cluster, api: Api, shop: str) -> Iterator[str]:
    """`helm install edge`; the HTTP address of its Pod."""
    values = {
        "namespaces": [shop],
        "ingressClass": {"name": "edge", "controller": "ingressd.dev/edge"},
        "autoscaling": {"enabled": False},
        "replicas": 1,
        "preStopSeconds": 0,
        "admission": {"enabled": True},
        "config": {"flags": {"shutdown-grace-period": "1", "election-ttl": "6s"}},
    }
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    objects = helm(values, release=RELEASE, namespace=NAMESPACE)
    for body in objects.values():
        api.apply(body, NAMESPACE)
    (pod,) = api.wait_ready_pods(NAMESPACE, LABELS, 1, within_s=60)
    yield cluster.kubelet.runner(NAMESPACE, pod["metadata"]["name"]).pair[0]
    api.delete(WEBHOOKS, NAME)
    api.delete(INGRESS_CLASSES, "edge")
    for resource in ("clusterroles", "clusterrolebindings"):
        for name in (NAME, f"{NAME}-cluster"):
            api.delete(f"rbac.authorization.k8s.io/v1/{resource}", name)
    api.delete(NAMESPACES, NAMESPACE)


def test_it_serves_the_namespaces_that_were_chosen(api: Api, release: str, shop: str) -> None:
    new_ingress(api, shop, "chosen", host="chosen.test", ingressClassName="edge")
    api.wait(lambda: ask((release, 8080), host="chosen.test").status == 200, "the route")
    service = api.wait(lambda: api.get(SERVICES, NAME, NAMESPACE)["status"]["loadBalancer"]["ingress"], "its addresses")
    found = api.wait(lambda: api.get(INGRESSES, "chosen", shop)["status"]["loadBalancer"]["ingress"], "a status")
    assert [one["ip"] for one in found] == [one["ip"] for one in service]
    api.delete(INGRESSES, "chosen", shop)


def test_it_sees_no_other_namespace(cluster: Cluster, api: Api, release: str) -> None:
    elsewhere = new_namespace(api, "elsewhere")
    new_backend(api, elsewhere, "echo")
    new_ingress(api, elsewhere, "unseen", host="unseen.test", ingressClassName="edge")
    assert ask((release, 8080), host="unseen.test").status == 404
    account = Api(cluster.kubeconfig_of(NAMESPACE, NAME))
    try:
        for resource in (SERVICES, PODS, INGRESSES, "v1/secrets"):
            with pytest.raises(RefusedError) as refused:
                account.request("GET", path_of(resource, elsewhere))
            assert refused.value.status == 403
    finally:
        account.close()
        api.delete(NAMESPACES, elsewhere)


def test_the_api_server_believes_the_certificate_that_helm_made(api: Api, release: str, shop: str) -> None:
    def is_refused() -> bool:
        try:
            new_ingress(api, shop, "bad", host="bad.test", annotations=MALFORMED, ingressClassName="edge")
        except RefusedError as error:
            return "validate.ingressd.dev" in str(error)
        api.delete(INGRESSES, "bad", shop)
        return False

    api.wait(is_refused, "the webhook is asked")
