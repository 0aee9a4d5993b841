"""Which Ingresses are ours, while classes come, go and change hands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stage.wire import ask

from kube.api import INGRESS_CLASSES, INGRESSES, NAMESPACES, Api, Object
from kube.installation import Installation
from kube.scenario import new_backend, new_ingress, new_namespace

CONTROLLER = "ingressd.dev/ingress-controller"


@pytest.fixture(scope="module")
def namespace(api: Api, ingressd: Installation) -> Iterator[str]:
    name = new_namespace(api, "classes")
    new_backend(api, name, "echo")
    yield name
    api.delete(NAMESPACES, name)


def ingress_class(name: str, controller: str = CONTROLLER) -> Object:
    """An IngressClass."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": name},
        "spec": {"controller": controller},
    }


def wait_status(ingressd: Installation, host: str, status: int, what: str) -> None:
    """Wait until every replica answers so."""
    ingressd.wait_everywhere(lambda at: ask(at, host=host).status == status, what)


def test_an_ingress_that_changes_its_class_leaves_and_comes_back(
    api: Api, ingressd: Installation, namespace: str
) -> None:
    new_ingress(api, namespace, "moving", host="moving.test")
    wait_status(ingressd, "moving.test", 200, "ours")
    api.patch(INGRESSES, "moving", namespace, change={"spec": {"ingressClassName": "somebody-else"}})
    wait_status(ingressd, "moving.test", 404, "not ours")
    api.patch(INGRESSES, "moving", namespace, change={"spec": {"ingressClassName": "ingressd"}})
    wait_status(ingressd, "moving.test", 200, "ours again")


def test_a_class_with_our_controller_is_ours_whatever_its_name(
    api: Api, ingressd: Installation, namespace: str
) -> None:
    new_ingress(api, namespace, "second", host="second.test", ingressClassName="second")
    wait_status(ingressd, "second.test", 404, "no such class yet")
    api.create(ingress_class("second"))
    wait_status(ingressd, "second.test", 200, "the class is ours")
    api.delete(INGRESS_CLASSES, "second")
    wait_status(ingressd, "second.test", 404, "the class is gone")
    # The controller of a class cannot be changed: it is deleted and made anew.
    api.create(ingress_class("second", "example.com/another"))
    api.create(ingress_class("third"))
    new_ingress(api, namespace, "third", host="third.test", ingressClassName="third")
    wait_status(ingressd, "third.test", 200, "a class of ours, made later")
    wait_status(ingressd, "second.test", 404, "the class is another's")
    for name in ("second", "third"):
        api.delete(INGRESS_CLASSES, name)


def test_an_ingress_without_a_class_is_ours_when_our_class_is_the_default(
    api: Api, ingressd: Installation, namespace: str
) -> None:
    new_ingress(api, namespace, "classless", host="classless.test", ingressClassName=None)
    new_ingress(api, namespace, "of-ours", host="of-ours.test")
    wait_status(ingressd, "of-ours.test", 200, "ours")
    wait_status(ingressd, "classless.test", 404, "nobody's")
    mark = {"ingressclass.kubernetes.io/is-default-class": "true"}
    api.patch(INGRESS_CLASSES, "ingressd", change={"metadata": {"annotations": mark}})
    try:
        # Kubernetes writes the default class into what is created from now on.

        def defaulted() -> bool:
            # By what the API server's own watch has told it: made before, it has no class for ever.
            api.delete(INGRESSES, "defaulted", namespace)
            new_ingress(api, namespace, "defaulted", host="defaulted.test", ingressClassName=None)
            return bool(api.get(INGRESSES, "defaulted", namespace)["spec"].get("ingressClassName") == "ingressd")

        api.wait(defaulted, "the default class")
        wait_status(ingressd, "defaulted.test", 200, "ours by default")
    finally:
        api.patch(INGRESS_CLASSES, "ingressd", change={"metadata": {"annotations": dict.fromkeys(mark)}})
