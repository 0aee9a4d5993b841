"""The API server asks our webhook, over TLS, before an Ingress is stored."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest
from stage.wire import ask

from kube import build
from kube.api import INGRESSES, NAMESPACES, Api, Object, RefusedError
from kube.installation import ADMISSION_SECRET, NAMESPACE, Installation
from kube.scenario import new_backend, new_ingress, new_namespace

WRONG_PATH = "/wrong(.*)"
"""Refused under pathType Prefix: `strict-validate-path-type` is on unless a setting says otherwise."""


@pytest.fixture(scope="module")
def namespace(api: Api, ingressd: Installation) -> Iterator[str]:
    name = new_namespace(api, "admission")
    new_backend(api, name, "echo")
    # The first review waits until the relay, the endpoints and the webhook's configuration are all there.
    api.wait(lambda: refused(api, name, ingress("probe", path=WRONG_PATH)), "the webhook is asked")
    yield name
    api.delete(NAMESPACES, name)


def ingress(name: str, *, path: str = "/", class_name: str = "ingressd") -> Object:
    """An Ingress of one path."""
    backend = {"service": {"name": "echo", "port": {"number": 8080}}}
    rule = {"host": f"{name}.test", "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name},
        "spec": {"ingressClassName": class_name, "rules": [rule]},
    }


def refused(api: Api, namespace: str, manifest: Object) -> str:
    """What the API server says against an Ingress; "" when it would take it."""
    try:
        api.create(manifest, namespace, dryRun="All")
    except RefusedError as error:
        return str(error)
    return ""


def test_a_mistake_is_refused_with_its_field(api: Api, namespace: str) -> None:
    message = refused(api, namespace, ingress("mistaken", path=WRONG_PATH))
    assert "validate.ingressd.dev" in message
    assert "spec.rules[0].http.paths[0].path" in message
    assert "cannot be used with pathType Prefix" in message
    with pytest.raises(RefusedError):
        api.create(ingress("mistaken", path=WRONG_PATH), namespace)
    assert api.find(INGRESSES, "mistaken", namespace) is None


def test_a_path_that_another_ingress_has_is_refused(api: Api, ingressd: Installation, namespace: str) -> None:
    new_ingress(api, namespace, "first", host="taken.test")
    ingressd.wait_everywhere(lambda at: ask(at, host="taken.test").status == 200, "live")
    with pytest.raises(RefusedError) as error:
        new_ingress(api, namespace, "second", host="taken.test")
    assert f'host "taken.test" and path "/" is already defined in ingress {namespace}/first' in str(error.value)
    new_ingress(api, namespace, "first", host="taken.test", tls=[{"hosts": ["taken.test"]}])


def test_an_update_is_reviewed_too(api: Api, namespace: str) -> None:
    new_ingress(api, namespace, "updated", host="updated.test")
    change = {"spec": ingress("updated", path=WRONG_PATH)["spec"]}
    with pytest.raises(RefusedError):
        api.patch(INGRESSES, "updated", namespace, change=change)


def test_an_ingress_of_another_class_is_nobodys_business_of_ours(api: Api, namespace: str) -> None:
    assert refused(api, namespace, ingress("foreign", path=WRONG_PATH, class_name="somebody-else")) == ""


def test_what_only_deserves_a_remark_is_a_warning(api: Api, namespace: str) -> None:
    manifest = f"""
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: warned, namespace: {namespace}}}
spec:
  ingressClassName: ingressd
  defaultBackend: {{service: {{name: no-such-service, port: {{number: 80}}}}}}
"""
    command = [
        str(build.binary("kubectl")),
        "--kubeconfig",
        str(api.kubeconfig),
        "create",
        "--dry-run=server",
        "-f",
        "-",
    ]
    done = subprocess.run(command, input=manifest, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning:" in done.stderr
    assert "no-such-service" in done.stderr


def test_a_review_is_answered(api: Api, namespace: str) -> None:
    """Where nobody answers, the API server lets an object pass when its patience is over, 5 s later."""
    began_s = time.monotonic()
    for number in range(20):
        new_ingress(api, namespace, f"quick-{number}", host=f"quick-{number}.test")
    assert time.monotonic() - began_s < 20 * 5 / 2


def test_a_new_certificate_and_authority_are_taken(api: Api, ingressd: Installation, namespace: str) -> None:
    ingressd.rotate_admission_certificate()
    # It fails open: as long as one side has the old certificate, mistakes pass.
    api.wait(lambda: refused(api, namespace, ingress("rotated", path=WRONG_PATH)), "the webhook is asked again")
    assert api.get("v1/secrets", ADMISSION_SECRET, NAMESPACE)


def test_a_webhook_that_is_away_stops_nobody(api: Api, ingressd: Installation, namespace: str) -> None:
    ingressd.change_webhook("/clientConfig/service/name", "nobody")
    try:
        api.wait(lambda: not refused(api, namespace, ingress("open", path=WRONG_PATH)), "it fails open")
    finally:
        ingressd.change_webhook("/clientConfig/service/name", "ingressd-admission")
    api.wait(lambda: refused(api, namespace, ingress("closed", path=WRONG_PATH)), "the webhook is asked again")
