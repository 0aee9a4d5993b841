"""Certificates from Secrets: by reference only, missing, created, rotated."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from stage.certificates import names_of, selfsigned
from stage.ports import Address
from stage.wire import ask, client_tls

from kube.api import INGRESSES, NAMESPACES, SECRETS, Api
from kube.cluster import Cluster
from kube.installation import HTTPS_PORT, NAMESPACE, Installation
from kube.scenario import new_backend, new_ingress, new_namespace, new_tls_secret


@pytest.fixture(scope="module")
def namespace(api: Api, ingressd: Installation) -> Iterator[str]:
    name = new_namespace(api, "secrets")
    new_backend(api, name, "echo")
    yield name
    api.delete(NAMESPACES, name)


def serial_of(address: Address, host: str) -> tuple[list[str], bytes]:
    """The names of the certificate that a replica shows, and the certificate."""
    reply = ask((address[0], HTTPS_PORT), host=host, server_name=host, tls=client_tls())
    return names_of(reply.certificate)[1], reply.certificate or b""


def reads_of(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    """What ingressd asked about Secrets that could show it one of a namespace."""
    return [
        event
        for event in cluster.control_plane.audited()
        if event["user"]["username"] == f"system:serviceaccount:{NAMESPACE}:ingressd"
        and event["objectRef"]["resource"] == "secrets"
        and event["objectRef"].get("namespace", namespace) == namespace
    ]


def test_a_missing_secret_is_taken_when_it_comes_and_left_when_it_goes(
    api: Api, ingressd: Installation, namespace: str
) -> None:
    host = "late.test"
    new_ingress(api, namespace, "late", host=host, tls=[{"hosts": [host], "secretName": "late"}])
    ingressd.wait_everywhere(lambda at: ask(at, host=host).status == 308, "live")
    ingressd.wait_everywhere(lambda at: host not in serial_of(at, host)[0], "the default certificate")
    new_tls_secret(api, namespace, "late", host)
    ingressd.wait_everywhere(lambda at: serial_of(at, host)[0] == [host], "its own certificate")
    api.delete(INGRESSES, "late", namespace)
    ingressd.wait_everywhere(lambda at: host not in serial_of(at, host)[0], "the default certificate again")


def test_a_rotated_certificate_is_served(api: Api, ingressd: Installation, namespace: str) -> None:
    host = "rotated.test"
    new_tls_secret(api, namespace, "rotated", host)
    new_ingress(api, namespace, "rotated", host=host, tls=[{"hosts": [host], "secretName": "rotated"}])
    ingressd.wait_everywhere(lambda at: serial_of(at, host)[0] == [host], "the first certificate")
    fresh = selfsigned(host, "second.rotated.test")
    data = {"tls.crt": base64.b64encode(fresh.cert).decode(), "tls.key": base64.b64encode(fresh.key).decode()}
    api.patch(SECRETS, "rotated", namespace, change={"data": data})
    ingressd.wait_everywhere(lambda at: len(serial_of(at, host)[0]) == 2, "the second certificate")


def test_a_broken_rotation_keeps_the_last_good_certificate(api: Api, ingressd: Installation, namespace: str) -> None:
    host = "broken.test"
    new_tls_secret(api, namespace, "broken", host)
    new_ingress(api, namespace, "broken", host=host, tls=[{"hosts": [host], "secretName": "broken"}])
    ingressd.wait_everywhere(lambda at: serial_of(at, host)[0] == [host], "the good certificate")
    api.patch(SECRETS, "broken", namespace, change={"data": {"tls.crt": base64.b64encode(b"nonsense").decode()}})
    ingressd.wait_everywhere(lambda at: b"broken" in ask((at[0], 10254), "/debug/problems").body, "a problem")
    ingressd.wait_everywhere(lambda at: serial_of(at, host)[0] == [host], "the good certificate, still")


def test_a_secret_that_nothing_names_is_never_read(
    cluster: Cluster, api: Api, ingressd: Installation, namespace: str
) -> None:
    new_tls_secret(api, namespace, "private", "private.test")
    new_tls_secret(api, namespace, "named", "named.test")
    new_ingress(api, namespace, "named", host="named.test", tls=[{"hosts": ["named.test"], "secretName": "named"}])
    ingressd.wait_everywhere(lambda at: serial_of(at, "named.test")[0] == ["named.test"], "the named certificate")
    events = reads_of(cluster, namespace)
    assert {event["verb"] for event in events} <= {"get", "list", "watch"}
    read = {event["objectRef"].get("name") for event in events if event["verb"] == "get"}
    assert "named" in read
    assert "private" not in read
    for event in events:
        if event["verb"] == "list":
            assert event["responseObject"]["kind"] == "PartialObjectMetadataList", event["requestURI"]
