"""The roles allow what the code asks for, and no verb more. tests/kube holds the same against what is really asked."""

from __future__ import annotations

import re

import pytest
from deploy.rendered import DEPLOY, ROOT, Key, Objects, by_key, helm, kustomize

from ingressd.control.sources.cluster.kinds import KINDS

SOURCES = "\n".join(path.read_text("utf-8") for path in (ROOT / "ingressd/control").rglob("*.py"))

Permission = tuple[str, str, str]
"""API group, resource with its subresource, verb."""

OTHERWISE: dict[Permission, str] = {
    (
        "networking.k8s.io",
        "ingresses/status",
        "patch",
    ): r'"PATCH",\s+f"/apis/networking[^"]+/ingresses/[^"]+/status"',
    ("", "events", "create"): r"/events\b",
    ("", "events", "patch"): r"/events\b",
    ("coordination.k8s.io", "leases", "create"): r"\bclass Create\b",
    ("coordination.k8s.io", "leases", "get"): r"\bclass Read\b",
    ("coordination.k8s.io", "leases", "update"): r"\bclass Update\b",
    ("", "pods", "get"): r'namespaces/\{self\._namespace\}/pods"',
    ("", "pods", "list"): r'query=\{"labelSelector"',
}
"""What is asked for besides lists and watches, and the line of the code that asks."""


def asked() -> set[Permission]:
    found = set(OTHERWISE)
    for kind in KINDS:
        group = kind.path.removeprefix("/apis/").split("/")[0] if kind.path.startswith("/apis/") else ""
        verbs = {"list", "watch"} | ({"get"} if kind.by_reference else set())
        found |= {(group, kind.plural, verb) for verb in verbs}
    return found


def granted(objects: Objects) -> set[Permission]:
    return {
        (group, resource, verb)
        for key, body in objects.items()
        if key.kind in ("Role", "ClusterRole")
        for rule in body["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_what_is_granted_is_what_is_asked(objects):
    service = {("", "services", "get")}
    extra = service if Key("Role", "ingressd", "ingressd-service") in objects else set()
    assert granted(objects) == asked() | extra


@pytest.mark.parametrize("permission", OTHERWISE, ids=" ".join)
def test_the_code_still_asks(permission):
    assert re.search(OTHERWISE[permission], SOURCES), permission


def test_nodes_are_read_only_where_their_addresses_are_published():
    text = (DEPLOY / "components/node-addresses/rbac.yaml").read_text()
    assert granted(by_key(text)) == {("", "nodes", "get")}
    assert 'f"/api/v1/nodes/' in SOURCES


@pytest.mark.slow
def test_nodes_with_helm():
    objects = helm({"nodeAddresses": True})
    assert granted(objects) == asked() | {("", "nodes", "get")}
    assert "publish-service" not in objects[Key("ConfigMap", "ingressd", "ingressd")]["data"]["ingressd.yaml"]


def test_no_rule_is_a_wildcard(objects):
    rules = [rule for key, body in objects.items() if key.kind in ("Role", "ClusterRole") for rule in body["rules"]]
    for rule in rules:
        assert set(rule) <= {"apiGroups", "resources", "resourceNames", "verbs"}
        assert "*" not in {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}


def test_every_role_is_bound_to_the_account_of_the_pods_and_to_nobody_else(objects):
    roles = {(key.kind, key.name) for key in objects if key.kind in ("Role", "ClusterRole")}
    bindings = [body for key, body in objects.items() if key.kind in ("RoleBinding", "ClusterRoleBinding")]
    assert {(body["roleRef"]["kind"], body["roleRef"]["name"]) for body in bindings} == roles
    account = {"kind": "ServiceAccount", "name": "ingressd", "namespace": "ingressd"}
    assert all(body["subjects"] == [account] for body in bindings)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["kustomize", "helm"])
def test_chosen_namespaces_are_bound_and_no_others(form):
    objects = kustomize("overlays/namespaced") if form == "kustomize" else helm({"namespaces": ["default"]})
    bound = {key.namespace for key, body in objects.items() if body.get("roleRef", {}).get("name") == "ingressd"}
    assert Key("ClusterRoleBinding", "", "ingressd") not in objects
    assert bound == {"default", "ingressd"}
    (own,) = (body for key, body in objects.items() if key == Key("RoleBinding", "ingressd", "ingressd"))
    assert own["roleRef"]["kind"] == "Role", "Secrets of our own namespace are nothing that we read"
