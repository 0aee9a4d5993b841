"""The webhook asks the path that is served, fails open, and its certificate is mounted where it is read."""

from __future__ import annotations

import pytest
import yaml
from deploy.conftest import EVERYTHING
from deploy.rendered import DEPLOY, Key, container_of, environment_of, helm, kustomize, pod_of


@pytest.fixture(
    params=[pytest.param("overlays/full", marks=pytest.mark.slow), pytest.param("helm", marks=pytest.mark.slow)]
)
def full(request):
    return helm(EVERYTHING) if request.param == "helm" else kustomize(request.param)


def test_the_webhook_fails_open_and_soon():
    configuration = yaml.safe_load((DEPLOY / "components/admission/webhook.yaml").read_text())
    (webhook,) = configuration["webhooks"]
    assert (webhook["failurePolicy"], webhook["timeoutSeconds"]) == ("Ignore", 5)
    assert webhook["clientConfig"]["service"]["path"] == "/networking/v1/ingresses"
    (rule,) = webhook["rules"]
    assert (rule["resources"], rule["operations"]) == (["ingresses"], ["CREATE", "UPDATE"])


def test_the_certificate_is_read_where_its_secret_is_mounted(full):
    mounts = {mount["name"]: mount for mount in container_of(full)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod_of(full)["spec"]["volumes"]}
    folder = mounts["admission"]["mountPath"]
    environment = environment_of(full)
    assert environment["INGRESSD_ADMISSION_CERT_FILE"] == f"{folder}/tls.crt"
    assert environment["INGRESSD_ADMISSION_KEY_FILE"] == f"{folder}/tls.key"
    assert volumes["admission"]["secret"] == {"secretName": "ingressd-admission", "defaultMode": 0o440}
    # Read by its group: the Pod's own.
    assert pod_of(full)["spec"]["securityContext"]["fsGroup"] == 65532


def test_the_certificate_names_the_service_that_is_called(full):
    (webhook,) = full[Key("ValidatingWebhookConfiguration", "", "ingressd")]["webhooks"]
    service = webhook["clientConfig"]["service"]
    certificate = full[Key("Certificate", "ingressd", "ingressd-admission")]["spec"]
    assert f"{service['name']}.{service['namespace']}.svc" in certificate["dnsNames"]
    assert certificate["secretName"] == "ingressd-admission"
    called = full[Key("Service", service["namespace"], service["name"])]["spec"]
    assert [(port["port"], port["targetPort"]) for port in called["ports"]] == [(service["port"], "admission")]
    annotations = full[Key("ValidatingWebhookConfiguration", "", "ingressd")]["metadata"]["annotations"]
    assert annotations == {"cert-manager.io/inject-ca-from": "ingressd/ingressd-admission"}
