"""JSON and plain values to objects; a mistake in one names the path inside it."""

import json
from datetime import UTC, datetime

import pytest

from ingressd.control.objects.decode import DecodeError, decode_json, decode_value, key_of_value, kind_of
from ingressd.control.objects.event import ObjectKey, key_of_origin
from ingressd.control.objects.kubernetes import Ingress, IngressSpec, Metadata
from ingressd.model.problem import Origin
from ingressd.model.secret import PrivateBytes

INGRESS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "Ingress",
    "metadata": {
        "name": "web",
        "namespace": "shop",
        "creationTimestamp": "2024-01-01T00:00:00Z",
        "annotations": {"a": "b"},
        "managedFields": [{"fieldsV1": {"f:spec": {}}}],
    },
    "spec": {
        "ingressClassName": "",
        "rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "s"}}}]}}],
    },
    "status": {"loadBalancer": {}},
}


def named(**metadata):
    return {"metadata": {"name": "a", **metadata}}


def test_json_and_plain_values_give_the_same_object():
    from_json = decode_json("Ingress", json.dumps(INGRESS).encode())
    assert from_json == decode_value("Ingress", INGRESS)
    key, ingress = from_json
    assert key == ObjectKey("Ingress", "shop", "web")
    assert ingress.metadata.creation_timestamp == datetime(2024, 1, 1, tzinfo=UTC)
    assert ingress.spec.ingress_class_name == ""
    assert ingress.spec.rules[0].http.paths[0].backend.service.name == "s"


def test_nulls_are_absent():
    value = {"metadata": {"name": "a", "labels": None}, "spec": {"rules": None, "ingressClassName": None}}
    expected = (ObjectKey("Ingress", "default", "a"), Ingress(Metadata("a", "default"), IngressSpec()))
    assert decode_value("Ingress", value) == expected
    assert decode_json("Ingress", json.dumps(value).encode()) == expected


def test_cluster_scoped_kinds_have_no_namespace():
    key, _ = decode_value("IngressClass", {"metadata": {"name": "a", "namespace": "ignored"}})
    assert key == ObjectKey("IngressClass", "", "a")


def test_nil_conditions_are_unknown_and_not_false():
    _, found = decode_value(
        "EndpointSlice",
        {**named(), "endpoints": [{"addresses": ["1.1.1.1"], "conditions": {"ready": None}}]},
    )
    assert found.endpoints[0].conditions.ready is None


def test_names_with_capitals_inside():
    _, service = decode_value(
        "Service",
        {
            "metadata": {"name": "a"},
            "spec": {
                "clusterIP": "None",
                "clusterIPs": ["None"],
                "ports": [{"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 8081}],
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}},
            },
        },
    )
    assert (service.spec.cluster_ip, service.spec.cluster_ips) == ("None", ("None",))
    assert [port.target_port for port in service.spec.ports] == ["http", 8081]
    assert service.spec.session_affinity_config.client_ip.timeout_seconds == 5


def test_secrets_are_decoded_and_do_not_print():
    _, secret = decode_value(
        "Secret", {"metadata": {"name": "a"}, "data": {"tls.key": "aHVz\naA=="}, "stringData": {"b": "quiet"}}
    )
    assert secret.data == {"tls.key": PrivateBytes(b"hush"), "b": PrivateBytes(b"quiet")}
    assert "hush" not in repr(secret)
    assert "quiet" not in repr(secret)


@pytest.mark.parametrize(
    ("kind", "value", "field", "says"),
    [
        ("Ingress", {}, "", "missing required field `metadata`"),
        ("Ingress", [1], "", "Expected `object`, got `array`"),
        ("Ingress", {"metadata": {}}, "metadata.name", "there is no name"),
        ("Ingress", {"metadata": {"name": "A"}}, "metadata.name", "'A' is no object name"),
        ("Ingress", {"metadata": {"name": "a/b"}}, "metadata.name", "'a/b' is no object name"),
        ("Ingress", {"metadata": {"name": "a", "namespace": "x.y"}}, "metadata.namespace", "'x.y' is no namespace"),
        ("Ingress", named(annotations={"x.y/z": True}), "metadata.annotations.x.y/z", "Expected `str`, got `bool`"),
        ("Ingress", named(creationTimestamp="yesterday"), "metadata.creationTimestamp", "Invalid RFC3339"),
        ("Ingress", named(creationTimestamp="2024-01-01T00:00:00"), "metadata.creationTimestamp", "timezone"),
        ("Ingress", {**named(), "spec": {"rules": {}}}, "spec.rules", "Expected `array`, got `object`"),
        ("Ingress", {**named(), "spec": {"rules": [None]}}, "spec.rules[0]", "Expected `object`, got `null`"),
        ("Service", {**named(), "spec": {"ports": [{"port": "80"}]}}, "spec.ports[0].port", "Expected `int`"),
        ("EndpointSlice", {**named(), "endpoints": [{"addresses": "x"}]}, "endpoints[0].addresses", "Expected `array`"),
        ("ConfigMap", {**named(), "data": {"ok": "1", "size": 1}}, "data.size", "Expected `str`, got `int`"),
        ("Secret", {"metadata": {"name": "a"}, "data": {"ok": "YQ==", "tls.key": "%%"}}, "data.tls.key", "not base64"),
        ("Secret", {"metadata": {"name": "a"}, "stringData": {"a": 1}}, "stringData", "expected strings"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_path(kind, value, field, says):
    decoders = [lambda: decode_value(kind, value), lambda: decode_json(kind, json.dumps(value).encode())]
    # An API server never sends stringData, so only a manifest's is looked at.
    for decode in decoders[:1] if field == "stringData" else decoders:
        with pytest.raises(DecodeError) as caught:
            decode()
        assert caught.value.field == field
        assert says in caught.value.message


def test_the_message_does_not_hold_the_secret():
    with pytest.raises(DecodeError) as caught:
        decode_value("Secret", {"metadata": {"name": "a"}, "data": {"k": "not*base64*but*secret"}})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"metadata": {"name": "\xff"}}', b"[" * 100_000])
def test_no_json_is_an_error_and_not_a_crash(data):
    with pytest.raises(DecodeError):
        decode_json("Ingress", data)


@pytest.mark.parametrize(
    ("version", "kind", "expected"),
    [
        ("networking.k8s.io/v1", "Ingress", "Ingress"),
        ("v1", "Service", "Service"),
        ("serving.knative.dev/v1", "Service", None),
        ("apps/v1", "Deployment", None),
    ],
)
def test_kinds(version, kind, expected):
    assert kind_of({"apiVersion": version, "kind": kind}) == expected


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("text", "expected an object"),
        ({"apiVersion": "v1"}, "there is no kind"),
        ({"kind": "Service"}, "there is no apiVersion"),
        ({"apiVersion": "extensions/v1beta1", "kind": "Ingress"}, "Ingress is read as networking.k8s.io/v1"),
        ({"apiVersion": "networking.k8s.io/v1beta1", "kind": "IngressClass"}, "not as networking.k8s.io/v1beta1"),
    ],
)
def test_what_is_no_object_of_ours(value, says):
    with pytest.raises(DecodeError, match=says):
        kind_of(value)


def test_the_key_of_a_wrong_object():
    assert key_of_value("Ingress", {**named(), "spec": 1}) == ObjectKey("Ingress", "default", "a")
    assert key_of_value("Ingress", {"metadata": {"name": 1}}) is None
    assert key_of_value("Ingress", "x") is None


def test_origins_lead_back_to_keys():
    assert key_of_origin(Origin("Ingress", "a", "b", "spec.rules[0]")) == ObjectKey("Ingress", "a", "b")
    assert key_of_origin(Origin("Config", "", "routes", "Prefix a.b/")) == ObjectKey("StaticRoute", "", "Prefix a.b/")
    assert key_of_origin(Origin("Config", "", "flags")) == ObjectKey("Flags", "", "flags")
    assert key_of_origin(Origin("Config", "", "settings")) == ObjectKey("ProcessSettings", "", "settings")
