"""The real API server takes everything that deploy/ renders (dry run), and its Pod Security lets the Pods in."""

from __future__ import annotations

import base64
import copy
import subprocess
from collections.abc import Iterator

import pytest
import yaml
from deploy.conftest import EVERYTHING
from deploy.rendered import CHART, DEPLOY, Key, Objects, helm, kustomize, pod_of

from kube import build
from kube.api import NAMESPACES, Api, Object, RefusedError

NAMESPACE = "ingressd-dry-run"
"""Not the one that other tests install into."""

FOREIGN = {
    "monitoring.coreos.com": ("ServiceMonitor", "servicemonitors"),
    "cert-manager.io": ("Certificate", "certificates"),
    "cert-manager.io ": ("Issuer", "issuers"),
}
"""Kinds that others bring to a cluster. Here without their schemas: their names are what can be wrong."""


@pytest.fixture(scope="module")
def prepared(api: Api) -> Iterator[Api]:
    """The namespace as it is shipped, the service account, and the kinds of others."""
    for key in (Key("Namespace", "", "ingressd"), Key("ServiceAccount", "ingressd", "ingressd")):
        api.apply(moved(kustomize()[key]))
    for group, (kind, plural) in FOREIGN.items():
        api.apply(definition(group.strip(), kind, plural))
    for kind, plural in FOREIGN.values():
        api.wait(lambda plural=plural: established(api, plural), f"{kind} is established")
    for group, (kind, plural) in FOREIGN.items():
        # What is established is told by discovery a moment later.
        found = f"/apis/{group.strip()}/v1"
        api.wait(
            lambda found=found, plural=plural: (
                plural in [one["name"] for one in api.request("GET", found)["resources"]]
            ),
            f"{kind} is served",
        )
    yield api
    api.delete(NAMESPACES, NAMESPACE)
    for group, (_, plural) in FOREIGN.items():
        api.delete("apiextensions.k8s.io/v1/customresourcedefinitions", f"{plural}.{group.strip()}")


def definition(group: str, kind: str, plural: str) -> Object:
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def established(api: Api, plural: str) -> bool:
    resource = "apiextensions.k8s.io/v1/customresourcedefinitions"
    (found,) = (one for one in api.items(resource) if one["spec"]["names"]["plural"] == plural)
    conditions = {one["type"]: one["status"] for one in found["status"].get("conditions", ())}
    return conditions.get("Established") == "True"


def moved(body: Object) -> Object:
    """An object of ours in the namespace of this module."""
    body = copy.deepcopy(body)
    if body["kind"] == "Namespace":
        body["metadata"]["name"] = NAMESPACE
    elif body["metadata"].get("namespace") == "ingressd":
        body["metadata"]["namespace"] = NAMESPACE
    return body


def take_all(api: Api, objects: Objects) -> None:
    for body in objects.values():
        api.apply(moved(body), NAMESPACE, dryRun="All", fieldValidation="Strict")


@pytest.mark.parametrize("folder", ["", "overlays/daemonset", "overlays/namespaced", "overlays/full"])
def test_what_kustomize_renders_is_taken(prepared, folder):
    take_all(prepared, kustomize(folder))


@pytest.mark.parametrize("values", [{}, {"kind": "DaemonSet"}, EVERYTHING, {"admission": {"enabled": True}}])
def test_what_helm_renders_is_taken(prepared, values):
    take_all(prepared, helm(values))


def test_the_command_of_the_readme_is_taken(prepared):
    kubectl = [str(build.binary("kubectl")), "--kubeconfig", str(prepared.kubeconfig)]
    # A dry run makes no namespace, so what is in it cannot be tried before it is there.
    namespace = yaml.safe_dump(kustomize()[Key("Namespace", "", "ingressd")])
    subprocess.run(
        [*kubectl, "apply", "--server-side", "--force-conflicts", "-f", "-"], input=namespace, text=True, check=True
    )
    command = [*kubectl, "apply", "-k", str(DEPLOY), "--dry-run=server"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(kustomize())


def test_a_pod_is_let_in_by_the_restricted_standard(prepared):
    for objects in (kustomize("overlays/full"), helm(EVERYTHING)):
        prepared.create(pod(objects), dryRun="All")


def test_a_pod_that_breaks_it_is_not(prepared):
    broken = pod(kustomize())
    broken["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(RefusedError, match='violates PodSecurity "restricted') as refused:
        prepared.create(broken, dryRun="All")
    assert refused.value.status == 403


def pod(objects: Objects) -> Object:
    template = copy.deepcopy(pod_of(objects))
    metadata = {**template["metadata"], "name": "tried", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def test_an_upgrade_keeps_the_generated_certificate(prepared):
    there = {name: base64.b64encode(name.encode()).decode() for name in ("ca.crt", "tls.crt", "tls.key")}
    # As an earlier `helm install edge` left it.
    ours = {"meta.helm.sh/release-name": "edge", "meta.helm.sh/release-namespace": NAMESPACE}
    metadata = {"name": "edge-ingressd-admission", "labels": {"app.kubernetes.io/managed-by": "Helm"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {**metadata, "annotations": ours}, "data": there}
    prepared.create({**secret, "type": "kubernetes.io/tls"}, NAMESPACE)
    command = [str(build.binary("helm")), "template", "edge", str(CHART), "--namespace", NAMESPACE, "--is-upgrade"]
    command += ["--set", "admission.enabled=true,ingressClass.name=edge", "--dry-run=server"]
    command += ["--kubeconfig", str(prepared.kubeconfig)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rendered = [body for body in yaml.safe_load_all(done.stdout) if body]
    (secret,) = (body for body in rendered if body["kind"] == "Secret")
    (configuration,) = (body for body in rendered if body["kind"] == "ValidatingWebhookConfiguration")
    assert secret["data"] == there
    assert configuration["webhooks"][0]["clientConfig"]["caBundle"] == there["ca.crt"]
