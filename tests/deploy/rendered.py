"""deploy/ as objects: the base's files as they stand, or what kustomize and Helm make of them."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from kube import build

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "ingressd"

Object = dict[str, Any]


class Key(NamedTuple):
    """What names an object in a cluster."""

    kind: str
    namespace: str
    name: str


Objects = dict[Key, Object]

CLUSTER_SCOPED = frozenset(
    {"Namespace", "ClusterRole", "ClusterRoleBinding", "IngressClass", "ValidatingWebhookConfiguration"}
)


def by_key(text: str) -> Objects:
    """The objects of YAML with several documents. The same object twice is an error."""
    found: Objects = {}
    for body in yaml.safe_load_all(text):
        if body is None:
            continue
        kind, metadata = body["kind"], body["metadata"]
        key = Key(kind, "" if kind in CLUSTER_SCOPED else metadata.get("namespace", "ingressd"), metadata["name"])
        assert key not in found, f"{key} twice"
        found[key] = body
    return found


@functools.cache
def base_files() -> Objects:
    """The base without kustomize: its files, and the ConfigMap that its generator would make."""
    folder = DEPLOY / "base"
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    found = by_key("\n---\n".join((folder / name).read_text() for name in kustomization["resources"]))
    for generator in kustomization["configMapGenerator"]:
        content = {name: (folder / name).read_text() for name in generator["files"]}
        key = Key("ConfigMap", "ingressd", generator["name"])
        found[key] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": key.name}, "data": content}
    return found


@functools.cache
def kustomize(folder: str = "") -> Objects:
    """What `kustomize build deploy/FOLDER` makes. Skips where it can neither be found nor built."""
    return by_key(_run(_binary("kustomize"), "build", str(DEPLOY / folder)))


def kustomize_text(kustomization: Object, beside: Path) -> str:
    """What kustomize makes of a kustomization of a user's own in the folder `beside`."""
    (beside / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return _run(_binary("kustomize"), "build", str(beside))


def helm(values: Object | None = None, *, release: str = "ingressd", namespace: str = "ingressd") -> Objects:
    """What `helm template` makes of the chart with these values."""
    return by_key(helm_text(values, release=release, namespace=namespace))


def helm_text(values: Object | None = None, *, release: str = "ingressd", namespace: str = "ingressd") -> str:
    """The same as text. Raises subprocess.CalledProcessError when Helm refuses."""
    arguments = ["template", release, str(CHART), "--namespace", namespace, "--kube-version", "1.36.0"]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values or {}, file)
        file.flush()
        return _run(_binary("helm"), *arguments, "--values", file.name)


def pod_of(objects: Objects) -> Object:
    """The Pod template of the Deployment or DaemonSet."""
    (found,) = (body for key, body in objects.items() if key.kind in ("Deployment", "DaemonSet"))
    template: Object = found["spec"]["template"]
    return template


def container_of(objects: Objects) -> Object:
    """Its container."""
    (container,) = pod_of(objects)["spec"]["containers"]
    found: Object = container
    return found


def environment_of(objects: Objects) -> dict[str, str]:
    """The variables of the container that have a value of their own."""
    return {one["name"]: one["value"] for one in container_of(objects)["env"] if "value" in one}


def config_of(objects: Objects) -> str:
    """ingressd.yaml as it is mounted."""
    text: str = objects[Key("ConfigMap", "ingressd", "ingressd")]["data"]["ingressd.yaml"]
    return text


@functools.cache
def _binary(name: str) -> str:
    if not build.built(name) and shutil.which("go") is None:
        pytest.skip(f"{name} is built from its Go module, and there is no Go")
    build.build(name)
    return str(build.binary(name))


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
