"""Settings that come from the cluster, and what it is told about its objects."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stage.wire import ask

from kube.api import CONFIG_MAPS, EVENTS, INGRESS_CLASSES, INGRESSES, NAMESPACES, Api, Object
from kube.cluster import Cluster
from kube.installation import Installation
from kube.scenario import new_backend, new_ingress, new_namespace, new_tls_secret

HOST = "settings.test"


@pytest.fixture(scope="module")
def namespace(api: Api, ingressd: Installation) -> Iterator[str]:
    name = new_namespace(api, "settings")
    new_backend(api, name, "echo")
    new_tls_secret(api, name, "web", HOST)
    yield name
    api.delete(NAMESPACES, name)


def config_map(name: str, **data: str) -> Object:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def wait_status(ingressd: Installation, status: int, what: str) -> None:
    """Wait until every replica answers HOST so over plain HTTP."""
    ingressd.wait_everywhere(lambda at: ask(at, host=HOST).status == status, what)


def test_a_config_map_named_by_a_flag_is_followed(api: Api, ingressd: Installation, namespace: str) -> None:
    new_ingress(api, namespace, "web", host=HOST, tls=[{"hosts": [HOST], "secretName": "web"}])
    wait_status(ingressd, 308, "the redirect to https that is the default")
    before = dict(ingressd.config["flags"])
    ingressd.configure(flags={"configmap": f"{namespace}/ours"})
    try:
        api.apply(config_map("ours", **{"ssl-redirect": "false"}), namespace)
        wait_status(ingressd, 200, "no redirect")
        api.patch(CONFIG_MAPS, "ours", namespace, change={"data": {"ssl-redirect": "true"}})
        wait_status(ingressd, 308, "the redirect again")
        api.patch(CONFIG_MAPS, "ours", namespace, change={"data": {"ssl-redirect": "false"}})
        wait_status(ingressd, 200, "no redirect")
        api.delete(CONFIG_MAPS, "ours", namespace)
        wait_status(ingressd, 308, "the default again")
    finally:
        ingressd.configure(flags={**before, "configmap": before.get("configmap")})
    api.delete(INGRESSES, "web", namespace)
    # The webhook of a replica that still has it would refuse the next Ingress of this host.
    wait_status(ingressd, 404, "the host is nobody's")


def test_parameters_of_a_class_are_its_settings(api: Api, ingressd: Installation, namespace: str) -> None:
    api.apply(config_map("of-class", **{"ssl-redirect": "false"}), namespace)
    parameters = {"kind": "ConfigMap", "name": "of-class", "namespace": namespace, "scope": "Namespace"}
    api.create(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {"name": "relaxed"},
            "spec": {"controller": "ingressd.dev/ingress-controller", "parameters": parameters},
        }
    )
    tls = [{"hosts": [HOST], "secretName": "web"}]
    new_ingress(api, namespace, "relaxed", host=HOST, tls=tls, ingressClassName="relaxed")
    wait_status(ingressd, 200, "the settings of its class")
    api.patch(INGRESSES, "relaxed", namespace, change={"spec": {"ingressClassName": "ingressd"}})
    wait_status(ingressd, 308, "the settings of everybody")
    api.delete(INGRESS_CLASSES, "relaxed")
    api.delete(INGRESSES, "relaxed", namespace)
    wait_status(ingressd, 404, "the host is nobody's")


def events_of(api: Api, namespace: str, name: str) -> list[Object]:
    """The Events about an Ingress."""
    return api.items(EVENTS, namespace, fields=f"involvedObject.kind=Ingress,involvedObject.name={name}")


def test_a_problem_becomes_one_event_on_its_object(
    cluster: Cluster, api: Api, ingressd: Installation, namespace: str
) -> None:
    new_ingress(api, namespace, "lonely", host="lonely.test", service="no-such-service")

    def warnings() -> list[Object]:
        return [one for one in events_of(api, namespace, "lonely") if one["type"] == "Warning"]

    api.wait(warnings, "a warning")
    (event,) = warnings()
    assert f"{namespace}/no-such-service" in event["message"]
    assert event["involvedObject"]["uid"] == api.get(INGRESSES, "lonely", namespace)["metadata"]["uid"]

    # Two replicas see it; the leader says it.
    def writers() -> set[str]:
        return {
            one["user"]["extra"]["authentication.kubernetes.io/pod-name"][0]
            for one in cluster.control_plane.audited()
            if one["objectRef"]["resource"] == "events" and one["objectRef"]["namespace"] == namespace
        }

    assert len(api.wait(writers, "an audit event")) == 1
