"""The shipped role is enough, and no more than enough."""

from __future__ import annotations

import contextlib

import pytest

from kube.api import EVENTS, INGRESSES, NAMESPACES, PODS, Api, LateError, Object, RefusedError
from kube.cluster import Cluster
from kube.installation import NAMESPACE, Installation
from kube.scenario import new_backend, new_ingress, new_namespace, new_tls_secret

USER = f"system:serviceaccount:{NAMESPACE}:ingressd"
DECISION = "authorization.k8s.io/decision"
"""Of the authorizer. A 403 may also come behind it: an Event about an object in a Namespace that is on its way out."""
Permission = tuple[str, str, str]
"""API group, resource with its subresource, verb."""


def granted(objects: list[Object]) -> set[Permission]:
    """Everything that the shipped roles allow."""
    return {
        (group, resource, verb)
        for one in objects
        if one["kind"] in ("Role", "ClusterRole")
        for rule in one["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def asked(cluster: Cluster) -> list[Object]:
    """Everything that ingressd asked for so far."""
    return [event for event in cluster.control_plane.audited() if event["user"]["username"] == USER]


def permission_of(event: Object) -> Permission:
    """What an audit event needed."""
    reference = event["objectRef"]
    sub = f"/{reference['subresource']}" if reference.get("subresource") else ""
    return reference.get("apiGroup", ""), reference["resource"] + sub, event["verb"]


def unused(cluster: Cluster, ingressd: Installation) -> set[Permission]:
    """What is granted and was not asked for so far."""
    return granted(ingressd.objects) - {permission_of(event) for event in asked(cluster)}


@pytest.fixture(scope="module")
def everything_done(cluster: Cluster, api: Api, ingressd: Installation) -> None:
    """Make ingressd do everything that needs a permission: routes, certificates, statuses, Events, a farewell."""
    namespace = new_namespace(api, "permissions")
    new_backend(api, namespace, "echo")
    new_tls_secret(api, namespace, "web", "permitted.test")
    new_ingress(api, namespace, "web", host="permitted.test", tls=[{"hosts": ["permitted.test"], "secretName": "web"}])
    new_ingress(api, namespace, "wrong", host="wrong.test", service="no-such-service")
    api.wait(lambda: api.get(INGRESSES, "web", namespace)["status"]["loadBalancer"]["ingress"], "a status")
    api.wait(lambda: api.items(EVENTS, namespace, fields="involvedObject.kind=Ingress"), "an Event")
    before = dict(ingressd.config["flags"])
    api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more"}, "data": {}}, namespace)
    ingressd.configure(flags={"configmap": f"{namespace}/more"})
    for pod in ingressd.pods():  # The leader looks whether it is the last one when it ends.
        api.delete(PODS, pod["metadata"]["name"], NAMESPACE)
        ingressd.wait_ready()
    # A new leader counts on in the Events of the old one, when what they say has lasted for a while.
    with contextlib.suppress(LateError):  # A test says what is missing.
        api.wait(lambda: not unused(cluster, ingressd), "everything is asked for")
    ingressd.configure(flags={**before, "configmap": before.get("configmap")})
    api.delete(NAMESPACES, namespace)


def test_nothing_that_ingressd_asks_for_is_refused(cluster: Cluster, everything_done: None) -> None:
    refused = [
        (permission_of(event), event["requestURI"])
        for event in asked(cluster)
        if event.get("responseStatus", {}).get("code") == 401 or event["annotations"][DECISION] != "allow"
    ]
    assert refused == []


def test_nothing_is_granted_that_ingressd_does_not_need(
    cluster: Cluster, ingressd: Installation, everything_done: None
) -> None:
    assert unused(cluster, ingressd) == set()


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/api/v1/nodes"),
        ("GET", "/api/v1/namespaces/kube-system/pods"),
        ("GET", "/apis/apps/v1/deployments"),
        ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
        ("POST", "/api/v1/namespaces/default/secrets"),
        ("POST", "/apis/networking.k8s.io/v1/namespaces/default/ingresses"),
        ("POST", "/apis/coordination.k8s.io/v1/namespaces/default/leases"),
    ],
)
def test_a_stolen_token_opens_nothing_else(cluster: Cluster, ingressd: Installation, verb: str, path: str) -> None:
    thief = Api(cluster.kubeconfig_of(NAMESPACE, "ingressd"))
    try:
        with pytest.raises(RefusedError) as refused:
            thief.request(verb, path, body={} if verb == "POST" else None)
        assert refused.value.status == 403
    finally:
        thief.close()
