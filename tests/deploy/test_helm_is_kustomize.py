"""The chart and the kustomizations are two spellings of one thing, object by object."""

from __future__ import annotations

import copy

import pytest
import yaml
from deploy.conftest import EVERYTHING
from deploy.rendered import Key, Objects, helm, kustomize

pytestmark = pytest.mark.slow

WHOSE = ("app.kubernetes.io/managed-by", "helm.sh/chart")


def normal(objects: Objects) -> Objects:
    """Without who rendered them, and with ingressd.yaml as values instead of as text."""
    found = {}
    for key, body in copy.deepcopy(objects).items():
        for label in WHOSE:
            body["metadata"].get("labels", {}).pop(label, None)
        if key.namespace == "":
            body["metadata"].pop("namespace", None)
        else:
            body["metadata"].setdefault("namespace", "ingressd")
        for name, text in body.get("data", {}).items() if key.kind == "ConfigMap" else ():
            body["data"][name] = yaml.safe_load(text)
        found[key] = body
    return found


@pytest.mark.parametrize(
    ("folder", "values"),
    [
        ("", {}),
        ("overlays/daemonset", {"kind": "DaemonSet"}),
        ("overlays/namespaced", {"namespaces": ["default"]}),
        ("overlays/full", EVERYTHING),
    ],
    ids=["deployment", "daemonset", "namespaced", "full"],
)
def test_every_object_is_the_same(folder, values):
    ours, theirs = normal(kustomize(folder)), normal(helm(values))
    # Helm makes a namespace itself, if it is told to, and cannot label it.
    del ours[Key("Namespace", "", "ingressd")]
    assert theirs.keys() == ours.keys()
    for key, body in ours.items():
        assert theirs[key] == body, key
