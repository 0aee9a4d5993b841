"""What the chart makes of its values, and which it refuses."""

from __future__ import annotations

import base64
import json
import subprocess

import pytest
import yaml
from cryptography import x509
from deploy.rendered import CHART, Key, config_of, container_of, helm, helm_text, pod_of

from ingressd.settings.config_reader import _KEYS
from ingressd.version import __version__

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


def test_the_chart_is_of_this_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_the_schema_knows_every_value_and_no_other():
    def differing(values, schema, path=""):
        if "properties" not in schema:
            return []
        found = [] if schema["additionalProperties"] is False else [f"{path}: open"]
        known = set(schema["properties"]) - {"global"}
        if path != ".config":
            found += [f"{path}.{name}" for name in known ^ set(values)]
        for name, value in values.items():
            if isinstance(value, dict):
                found += differing(value, schema["properties"].get(name, {}), f"{path}.{name}")
        return found

    assert differing(VALUES, SCHEMA) == []


def test_the_schema_knows_every_key_of_the_configuration():
    assert set(SCHEMA["properties"]["config"]["properties"]) == set(_KEYS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"replica": 2},
        {"service": {"externalTrafficPolicy": "local"}},
        {"service": {"ports": {"http": 0}}},
        {"config": {"listener": []}},
        {"kind": "StatefulSet"},
        {"image": {"digest": "latest"}},
        {"namespaces": ["Not_a_name"]},
        {"admission": {"certificate": "self-signed"}},
        {"networkPolicy": {"apiServer": {"to": []}}},
    ],
    ids=json.dumps,
)
def test_what_the_schema_does_not_know_is_refused(values):
    with pytest.raises(subprocess.CalledProcessError) as refused:
        helm_text(values)
    assert "schema" in refused.value.stderr


@pytest.mark.slow
def test_configuration_is_merged_and_wins():
    config = {"workers": 4, "settings": {"proxy-body-size": "8m"}, "flags": {"publish-service": "edge/lb"}}
    merged = yaml.safe_load(config_of(helm({"config": config})))
    assert merged["workers"] == 4
    assert merged["settings"] == {"proxy-body-size": "8m", "worker-shutdown-timeout": "240s"}
    assert merged["flags"]["publish-service"] == "edge/lb"
    assert merged["listeners"] == VALUES["config"]["listeners"]


@pytest.mark.slow
def test_a_digest_wins_over_a_tag():
    digest = "sha256:" + "0" * 64
    image = {"repository": "registry.example/ingressd", "tag": "edge"}
    assert container_of(helm({"image": image}))["image"] == "registry.example/ingressd:edge"
    assert container_of(helm({"image": {**image, "digest": digest}}))["image"] == f"registry.example/ingressd@{digest}"


@pytest.mark.slow
def test_two_releases_do_not_share_a_name():
    one, other = helm(release="ingressd"), helm(release="edge", namespace="edge")
    shared = {key for key in one if key in other}
    assert shared == {Key("IngressClass", "", "ingressd")}, "whose name is a value"
    config = yaml.safe_load(other[Key("ConfigMap", "edge", "edge-ingressd")]["data"]["ingressd.yaml"])
    assert config["flags"]["publish-service"] == "edge/edge-ingressd"
    assert config["flags"]["election-id"] == "edge-ingressd-leader"
    roles = [body for key, body in other.items() if key.kind == "Role"]
    names = {name for role in roles for rule in role["rules"] for name in rule.get("resourceNames", ())}
    assert names == {"edge-ingressd-leader"}


@pytest.mark.slow
def test_replicas_are_the_autoscalers_or_fixed():
    def replicas(objects):
        return objects[Key("Deployment", "ingressd", "ingressd")]["spec"].get("replicas")

    assert replicas(helm()) is None
    fixed = helm({"autoscaling": {"enabled": False}, "replicas": 3})
    assert replicas(fixed) == 3
    assert Key("HorizontalPodAutoscaler", "ingressd", "ingressd") not in fixed


@pytest.mark.slow
def test_a_shared_namespace_keeps_its_other_pods_as_they_were():
    key = Key("NetworkPolicy", "ingressd", "ingressd-deny-all")
    assert helm()[key]["spec"]["podSelector"] == {}
    selector = helm({"networkPolicy": {"wholeNamespace": False}})[key]["spec"]["podSelector"]
    assert selector["matchLabels"].items() <= pod_of(helm())["metadata"]["labels"].items()


@pytest.mark.slow
def test_backends_outside_the_cluster_can_be_allowed():
    rule = {"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}], "ports": [{"port": 8080, "protocol": "TCP"}]}
    policy = helm({"networkPolicy": {"egress": [rule]}})[Key("NetworkPolicy", "ingressd", "ingressd-backends")]
    assert policy["spec"]["egress"][1:] == [rule]


@pytest.mark.slow
def test_without_policies_there_is_none():
    off = helm({"networkPolicy": {"enabled": False}, "admission": {"enabled": True}, "monitoring": {"enabled": True}})
    assert [key for key in off if key.kind == "NetworkPolicy"] == []


@pytest.mark.slow
def test_the_default_class_is_annotated():
    found = helm({"ingressClass": {"default": True, "name": "edge"}})[Key("IngressClass", "", "edge")]
    assert found["metadata"]["annotations"] == {"ingressclass.kubernetes.io/is-default-class": "true"}


@pytest.mark.slow
def test_the_generated_certificate_is_what_the_api_server_will_believe():
    objects = helm({"admission": {"enabled": True}})
    secret = objects[Key("Secret", "ingressd", "ingressd-admission")]
    pems = {name: base64.b64decode(text) for name, text in secret["data"].items()}
    authority = x509.load_pem_x509_certificate(pems["ca.crt"])
    certificate = x509.load_pem_x509_certificate(pems["tls.crt"])
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "ingressd-admission.ingressd.svc" in names.get_values_for_type(x509.DNSName)
    (webhook,) = objects[Key("ValidatingWebhookConfiguration", "", "ingressd")]["webhooks"]
    assert webhook["clientConfig"]["caBundle"] == secret["data"]["ca.crt"]


@pytest.mark.slow
def test_a_certificate_of_ones_own_needs_no_secret_of_ours():
    values = {"enabled": True, "certificate": "existing", "secretName": "mine", "caBundle": "YWJj"}
    objects = helm({"admission": values})
    assert [key for key in objects if key.kind in ("Secret", "Certificate")] == []
    volumes = {volume["name"]: volume for volume in pod_of(objects)["spec"]["volumes"]}
    assert volumes["admission"]["secret"]["secretName"] == "mine"
    (webhook,) = objects[Key("ValidatingWebhookConfiguration", "", "ingressd")]["webhooks"]
    assert webhook["clientConfig"]["caBundle"] == "YWJj"
