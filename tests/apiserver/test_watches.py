"""The fake API server answers as a real one does: watches."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from stage.apiserver.faults import BlackHole, Refuse, Slow, Truncate
from stage.apiserver.server import FakeApiServer

INGRESSES = "/apis/networking.k8s.io/v1/ingresses"


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with FakeApiServer() as server:
        yield server


@contextlib.contextmanager
def watching(server: FakeApiServer, query: str, **headers: str) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    connection.request("GET", f"{INGRESSES}?watch=1&{query}", headers=headers)
    try:
        with connection.getresponse() as answer:
            yield answer
    finally:
        connection.close()


def event(answer: http.client.HTTPResponse) -> tuple[str, Any]:
    found = json.loads(answer.readline())
    return found["type"], found["object"]


def ingress(name: str, color: str = "red") -> dict[str, Any]:
    metadata = {"name": name, "labels": {"color": color}}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": {}}


def test_from_a_version_on(server: FakeApiServer) -> None:
    server.load([ingress("a")])
    version = server.version
    server.apply(ingress("b"))
    with watching(server, f"resourceVersion={version}&allowWatchBookmarks=true") as answer:
        kind, found = event(answer)
        assert (kind, found["kind"], found["apiVersion"]) == ("ADDED", "Ingress", "networking.k8s.io/v1")
        before = time.monotonic()
        made = server.apply(ingress("b", "blue"))
        assert event(answer)[0] == "MODIFIED"
        assert before <= server.left_at(made["metadata"]["resourceVersion"]) <= time.monotonic()
        server.bookmark()
        kind, found = event(answer)
        assert (kind, found["metadata"]["resourceVersion"]) == ("BOOKMARK", str(server.version))
        server.delete("Ingress", "default", "b")
        kind, found = event(answer)
        assert (kind, found["metadata"]["resourceVersion"]) == ("DELETED", str(server.version))
        assert server.end_watches() == 1
        assert answer.read() == b""


def test_leaving_a_selection_is_a_deletion(server: FakeApiServer) -> None:
    server.load([ingress("a"), ingress("b", "blue")])
    with watching(server, "labelSelector=color%3Dred") as answer:
        assert event(answer)[0] == "ADDED"
        server.apply(ingress("a", "blue"))
        assert event(answer)[0] == "DELETED"
        server.apply(ingress("b", "red"))
        assert event(answer)[0] == "ADDED"


def test_initial_events_end_with_a_bookmark(server: FakeApiServer) -> None:
    server.load([ingress("a")])
    query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    with watching(server, query, Accept=accept) as answer:
        kind, found = event(answer)
        assert (kind, found["kind"], "spec" in found) == ("ADDED", "PartialObjectMetadata", False)
        kind, found = event(answer)
        assert (kind, found["metadata"]["annotations"]) == ("BOOKMARK", {"k8s.io/initial-events-end": "true"})


def test_a_compacted_version_is_gone(server: FakeApiServer) -> None:
    server.load([ingress("a")])
    version = server.version
    server.compact()
    with watching(server, f"resourceVersion={version}") as answer:
        kind, status = event(answer)
        assert (answer.status, kind, status["code"], status["reason"]) == (200, "ERROR", 410, "Expired")
        assert answer.read() == b""
    server.compact(gone_as="status")
    with watching(server, f"resourceVersion={version}") as answer:
        assert (answer.status, json.loads(answer.read())["reason"]) == (410, "Expired")


def test_time_is_up(server: FakeApiServer) -> None:
    with watching(server, f"resourceVersion={server.version}&timeoutSeconds=0.05") as answer:
        assert answer.read() == b""


def test_an_event_cut_in_the_middle(server: FakeApiServer) -> None:
    with watching(server, f"resourceVersion={server.version}") as answer, server.fault(Truncate(), verbs={"watch"}):
        server.apply(ingress("a"))
        with pytest.raises((http.client.IncompleteRead, ConnectionError)) as caught:
            answer.read()
        assert b'{"type":"ADDED"' in getattr(caught.value, "partial", b'{"type":"ADDED"')
    with pytest.raises(KeyError):
        server.left_at(str(server.version))


def test_a_black_hole_is_silent_and_stays_so(server: FakeApiServer) -> None:
    with watching(server, f"resourceVersion={server.version}") as answer:
        with server.fault(BlackHole()), pytest.raises(TimeoutError):
            server.apply(ingress("a"))
            answer.fp.raw._sock.settimeout(0.1)
            answer.readline()
        server.apply(ingress("b"))
        with pytest.raises(OSError, match="cannot read from timed out object"):
            answer.readline()
    with watching(server, f"resourceVersion={server.version - 2}") as answer:
        assert [event(answer)[1]["metadata"]["name"] for _ in range(2)] == ["a", "b"]


def test_refusing_resets_what_runs(server: FakeApiServer) -> None:
    with watching(server, f"resourceVersion={server.version}") as answer:
        with server.fault(Refuse()), pytest.raises((http.client.IncompleteRead, ConnectionError)):
            answer.read()
        assert server.watching() == []


def test_slow_bytes_arrive(server: FakeApiServer) -> None:
    with server.fault(Slow(piece_bytes=7, pause_s=0.001)), watching(server, "resourceVersion=1000") as answer:
        server.apply(ingress("a"))
        server.apply(ingress("b"))
        assert [event(answer)[1]["metadata"]["name"] for _ in range(2)] == ["a", "b"]
