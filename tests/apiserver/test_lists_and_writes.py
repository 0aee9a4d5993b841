"""The fake API server answers as a real one does: lists, objects, writes."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from stage.apiserver.faults import Answer, Refuse, Truncate
from stage.apiserver.server import FakeApiServer
from stage.secure import HttpsConnection

INGRESSES = "/apis/networking.k8s.io/v1/namespaces/default/ingresses"


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with FakeApiServer() as server:
        yield server


def ask(server: FakeApiServer, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), fields)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def ingress(name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"app": name}}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec}


def test_a_list_in_pages_is_one_version(server: FakeApiServer) -> None:
    server.load(ingress(f"i{number}") for number in range(5))
    code, first = ask(server, "GET", "/apis/networking.k8s.io/v1/ingresses?limit=2")
    assert (code, first["kind"], first["metadata"]["remainingItemCount"]) == (200, "IngressList", 3)
    assert "kind" not in first["items"][0] and "apiVersion" not in first["items"][0]
    server.delete("Ingress", "default", "i4")
    names, page = [item["metadata"]["name"] for item in first["items"]], first
    while token := page["metadata"].get("continue"):
        _, page = ask(server, "GET", f"/apis/networking.k8s.io/v1/ingresses?limit=2&continue={token}")
        names += [item["metadata"]["name"] for item in page["items"]]
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert names == ["i0", "i1", "i2", "i3", "i4"]
    assert ask(server, "GET", "/apis/networking.k8s.io/v1/ingresses")[1]["items"][-1]["metadata"]["name"] == "i3"


def test_a_continue_from_before_a_compaction_is_gone(server: FakeApiServer) -> None:
    server.load(ingress(f"i{number}") for number in range(3))
    _, first = ask(server, "GET", f"{INGRESSES}?limit=2")
    server.compact()
    code, status = ask(server, "GET", f"{INGRESSES}?limit=2&continue={first['metadata']['continue']}")
    assert (code, status["kind"], status["reason"], status["code"]) == (410, "Status", "Expired", 410)


def test_selectors_choose(server: FakeApiServer) -> None:
    server.load(ingress(name) for name in ("a", "b", "c"))

    def names(query: str) -> list[str]:
        listed = ask(server, "GET", f"{INGRESSES}?{query}")[1]
        assert "remainingItemCount" not in listed["metadata"]
        return [item["metadata"]["name"] for item in listed["items"]]

    assert names("fieldSelector=metadata.name%3Db") == ["b"]
    assert names("labelSelector=app%3Dc") == ["c"]
    assert names("labelSelector=app%20in%20(a,b)") == ["a", "b"]
    assert names("labelSelector=app!%3Da,app&limit=1") == ["b"]


def test_metadata_alone_by_accept(server: FakeApiServer) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"key": "c2VjcmV0"}}
    server.apply(secret)
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    _, listed = ask(server, "GET", "/api/v1/secrets", Accept=accept)
    assert listed["kind"] == "PartialObjectMetadataList"
    assert listed["items"][0]["kind"] == "PartialObjectMetadata" and "data" not in listed["items"][0]
    assert ask(server, "GET", "/api/v1/secrets", Accept=accept.replace("v=v1", "v=9"))[0] == 406
    assert ask(server, "GET", "/api/v1/secrets/s")[0] == 404
    assert ask(server, "GET", "/api/v1/namespaces/default/secrets/s")[1]["data"] == {"key": "c2VjcmV0"}


def test_writes_conflict_as_they_should(server: FakeApiServer) -> None:
    code, made = ask(server, "POST", INGRESSES, {**ingress("a", rules=[]), "status": {"loadBalancer": {"x": 1}}})
    assert (code, made["metadata"]["generation"], "status" in made) == (201, 1, False)
    code, status = ask(server, "POST", INGRESSES, ingress("a"))
    assert (code, status["reason"]) == (409, "AlreadyExists")
    code, same = ask(server, "PUT", f"{INGRESSES}/a", made)
    assert (code, same["metadata"]["resourceVersion"]) == (200, made["metadata"]["resourceVersion"])
    code, changed = ask(server, "PUT", f"{INGRESSES}/a", {**made, "spec": {"ingressClassName": "x"}})
    assert (code, changed["metadata"]["generation"]) == (200, 2)
    code, status = ask(server, "PUT", f"{INGRESSES}/a", made)
    assert (code, status["reason"]) == (409, "Conflict")


def test_status_is_written_by_its_own_path_only(server: FakeApiServer) -> None:
    server.apply(ingress("a", ingressClassName="x"))
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    merge = {"Content_Type": "application/merge-patch+json"}
    code, patched = ask(server, "PATCH", f"{INGRESSES}/a/status", {"status": status, "spec": {"rules": []}}, **merge)
    assert (code, patched["spec"], patched["status"]) == (200, {"ingressClassName": "x"}, status)
    assert patched["metadata"]["generation"] == 1
    code, patched = ask(server, "PATCH", f"{INGRESSES}/a", {"status": None, "spec": {"rules": []}}, **merge)
    assert (patched["spec"]["rules"], patched["status"], patched["metadata"]["generation"]) == ([], status, 2)
    assert ask(server, "PATCH", f"{INGRESSES}/a", {}, Content_Type="application/x")[0] == 415


def test_leases_and_events(server: FakeApiServer) -> None:
    leases = "/apis/coordination.k8s.io/v1/namespaces/ingress/leases"
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "leader"}, "spec": {}}
    _, made = ask(server, "POST", leases, lease)
    assert made["metadata"]["namespace"] == "ingress"
    assert ask(server, "PUT", f"{leases}/leader", lease)[0] == 422, "a Lease is never written without its version"
    assert ask(server, "PUT", f"{leases}/leader", {**made, "spec": {"holderIdentity": "me"}})[0] == 200
    event = {"metadata": {"generateName": "shop."}, "reason": "Synced"}
    code, made = ask(server, "POST", "/apis/events.k8s.io/v1/namespaces/default/events", event)
    assert code == 201 and made["metadata"]["name"].startswith("shop.")
    code, _ = ask(server, "DELETE", f"{leases}/leader", {"preconditions": {"uid": "other"}})
    assert code == 409
    assert ask(server, "DELETE", f"{leases}/leader")[1]["status"] == "Success"
    assert ask(server, "GET", f"{leases}/leader")[1]["reason"] == "NotFound"


def test_faults_strike_where_they_are_told(server: FakeApiServer) -> None:
    server.load([ingress("a")])
    with server.fault(Answer(429, retry_after_s=3), "/apis/networking.k8s.io", verbs={"list"}, times=1):
        code, status = ask(server, "GET", INGRESSES)
        assert (code, status["details"]) == (429, {"retryAfterSeconds": 3})
        assert ask(server, "GET", f"{INGRESSES}/a")[0] == 200
        assert ask(server, "GET", INGRESSES)[0] == 200
    with server.fault(Refuse()), pytest.raises(ConnectionRefusedError):
        ask(server, "GET", INGRESSES)
    with server.fault(Truncate()), pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(server, "GET", INGRESSES)
    assert ask(server, "GET", INGRESSES)[0] == 200
    assert [request.status for request in server.requests] == [429, 200, 200, 200, 200]


def test_tls_and_bearer_token(tmp_path: Any) -> None:
    with FakeApiServer(tls=True, token="hush") as server:
        assert "token: hush" in server.write_kubeconfig(tmp_path).read_text()
        context = ssl.create_default_context(cadata=server.authority.decode())
        connection = HttpsConnection(server.host, server.port, context=context)
        for headers, expected in (({}, 401), ({"Authorization": "Bearer hush"}, 200)):
            connection.request("GET", "/version", headers=headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == expected
        connection.close()
