"""The API server asks our webhook, over TLS, before an Ingress is stored."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from stage.wire import ask

from kube import build
from kube.api import INGRESSES, NAMESPACES, SERVICES, Api, RefusedError
from kube.installation import ADMISSION_SECRET, NAMESPACE, Installation
from kube.scenario import new_backend, new_ingress, new_namespace

WRONG = {"nginx.ingress.kubernetes.io/ssl-redirect": "perhaps"}


@pytest.fixture(scope="module")
def namespace(api: Api, ingressd: Installation) -> Iterator[str]:
    name = new_namespace(api, "admission")
    new_backend(api, name, "echo")
    # The first review waits until the relay, the endpoints and the webhook's configuration are all there.
    api.wait(lambda: refused(api, name, "probe", WRONG), "the webhook is asked")
    yield name
    api.delete(NAMESPACES, name)


def refused(api: Api, namespace: str, name: str, annotations: dict[str, str], **spec: Any) -> str:
    """What the API server says against an Ingress; "" when it takes it (and it is deleted again)."""
    try:
        new_ingress(api, namespace, name, host=f"{name}.test", annotations=annotations, **spec)
    except RefusedError as error:
        return str(error)
    api.delete(INGRESSES, name, namespace)
    return ""


def test_a_malformed_annotation_is_refused_with_its_name(api: Api, namespace: str) -> None:
    message = refused(api, namespace, "malformed", WRONG)
    assert "validate.ingressd.dev" in message
    assert "ssl-redirect" in message
    assert api.find(INGRESSES, "malformed", namespace) is None


def test_a_path_that_another_ingress_has_is_refused(api: Api, ingressd: Installation, namespace: str) -> None:
    new_ingress(api, namespace, "first", host="taken.test")
    ingressd.wait_everywhere(lambda at: ask(at, host="taken.test").status == 200, "live")
    with pytest.raises(RefusedError) as error:
        new_ingress(api, namespace, "second", host="taken.test")
    assert f'host "taken.test" and path "/" is already defined in ingress {namespace}/first' in str(error.value)
    new_ingress(api, namespace, "first", host="taken.test", tls=[{"hosts": ["taken.test"]}])


def test_an_update_is_reviewed_too(api: Api, namespace: str) -> None:
    new_ingress(api, namespace, "updated", host="updated.test")
    change = {"metadata": {"annotations": WRONG}}
    with pytest.raises(RefusedError):
        api.patch(INGRESSES, "updated", namespace, change=change)
    api.delete(INGRESSES, "updated", namespace)


def test_an_ingress_of_another_class_is_nobodys_business_of_ours(api: Api, namespace: str) -> None:
    assert refused(api, namespace, "foreign", WRONG, ingressClassName="somebody-else") == ""


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


def test_a_review_is_quick(api: Api, namespace: str) -> None:
    took_s = []
    for number in range(20):
        began_s = time.monotonic()
        new_ingress(api, namespace, f"quick-{number}", host=f"quick-{number}.test")
        took_s.append(time.monotonic() - began_s)
    assert sorted(took_s)[10] < 0.1, took_s


def test_a_new_certificate_and_authority_are_taken(api: Api, ingressd: Installation, namespace: str) -> None:
    ingressd.rotate_admission_certificate()
    # It fails open: as long as one side has the old certificate, mistakes pass.
    api.wait(lambda: refused(api, namespace, "rotated", WRONG), "the webhook is asked again")
    assert api.get("v1/secrets", ADMISSION_SECRET, NAMESPACE)


def test_a_webhook_that_is_away_stops_nobody(api: Api, ingressd: Installation, namespace: str) -> None:
    selector = api.get(SERVICES, "ingressd-admission", NAMESPACE)["spec"]["selector"]
    nothing = {"spec": {"selector": {**selector, "stage/nothing": "true"}}}
    api.patch(SERVICES, "ingressd-admission", NAMESPACE, change=nothing)
    try:
        api.wait(lambda: not refused(api, namespace, "open", WRONG), "it fails open", within_s=15)
    finally:
        back = {"spec": {"selector": {"stage/nothing": None}}}
        api.patch(SERVICES, "ingressd-admission", NAMESPACE, change=back)
    api.wait(lambda: refused(api, namespace, "closed", WRONG), "the webhook is asked again")
