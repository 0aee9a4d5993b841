"""A real ingressd that reads a cluster: what changes there is live, and never half."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from stage.apiserver.faults import Answer, Slow
from stage.apiserver.server import FakeApiServer
from stage.certificates import names_of, selfsigned
from stage.echo import EchoLoop, raise_echoes
from stage.running import PATIENCE_S, Ingressd
from stage.wire import ask, client_tls

pytestmark = pytest.mark.process

NETWORKING = "networking.k8s.io/v1"


def named(api_version: str, kind: str, name: str, *, namespace: str = "shop", **rest: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, **rest.pop("metadata", {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def ingress(name: str, *, namespace: str = "shop", secret: str = "", labels: dict[str, str] | None = None) -> Any:
    host = f"{name}.test"
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}
    spec: dict[str, Any] = {"ingressClassName": "ingressd", "rules": [{"host": host, "http": {"paths": [path]}}]}
    if secret:
        spec["tls"] = [{"hosts": [host], "secretName": secret}]
    return named(NETWORKING, "Ingress", name, namespace=namespace, metadata={"labels": labels or {}}, spec=spec)


def secret(name: str, host: str) -> dict[str, Any]:
    pair = selfsigned(host)
    data = {"tls.crt": base64.b64encode(pair.cert).decode(), "tls.key": base64.b64encode(pair.key).decode()}
    return named("v1", "Secret", name, type="kubernetes.io/tls", data=data)


def application(address: tuple[str, int], *, namespace: str = "shop") -> list[dict[str, Any]]:
    return [
        named("v1", "Service", "web", namespace=namespace, spec={"ports": [{"port": 80, "targetPort": address[1]}]}),
        named(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            "web-1",
            namespace=namespace,
            metadata={"labels": {"kubernetes.io/service-name": "web"}},
            addressType="IPv4",
            endpoints=[{"addresses": [address[0]]}],
            ports=[{"port": address[1]}],
        ),
    ]


CLASS = {
    "apiVersion": NETWORKING,
    "kind": "IngressClass",
    "metadata": {"name": "ingressd"},
    "spec": {"controller": "ingressd.dev/ingress-controller"},
}


class Stage:
    """An API server with one application, and an ingressd for it."""

    def __init__(self, server: FakeApiServer, folder: Path, address: tuple[str, int]) -> None:
        self.server = server
        self.folder = folder
        server.load([CLASS, *application(address), *application(address, namespace="other")])
        self.kubernetes: dict[str, Any] = {"kubeconfig": str(server.write_kubeconfig(folder))}
        self.ingressd = Ingressd(
            folder, settings={"ssl-redirect": "false", "hsts": "false"}, kubernetes=self.kubernetes
        )

    def status(self, host: str) -> int:
        return ask(self.ingressd.http, "/", host=host).status

    def secure(self, host: str) -> tuple[int, str]:
        """The status of an answer over TLS, and the name in the certificate it came under ("" without any name)."""
        reply = ask(self.ingressd.https, "/", host=host, tls=client_tls(), server_name=host)
        return reply.status, next(iter(names_of(reply.certificate)), "")


@pytest.fixture
def stage(tmp_path: Path, echo_loop: EchoLoop) -> Iterator[Stage]:
    (echo,) = raise_echoes(echo_loop, "web")
    with FakeApiServer(tls=True, token="secret") as server:
        stage = Stage(server, tmp_path, echo.address)
        yield stage
        stage.ingressd.stop()
    echo.close()


def within(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, f"not within {PATIENCE_S:g} s"
        time.sleep(0.01)


def test_what_changes_in_the_cluster_is_live(stage: Stage) -> None:
    stage.server.load([ingress("first")])
    stage.ingressd.start()
    assert stage.status("first.test") == 200
    stage.server.apply(ingress("second"))
    within(lambda: stage.status("second.test") == 200)
    stage.server.delete("EndpointSlice", "shop", "web-1")
    within(lambda: stage.status("second.test") == 503)
    stage.server.delete("Ingress", "shop", "second")
    within(lambda: stage.status("second.test") == 404)


@pytest.mark.parametrize("slow", [False, True], ids=["", "a Secret that comes slowly"])
def test_a_new_host_is_never_answered_under_another_certificate(stage: Stage, slow: bool) -> None:
    stage.ingressd.start()
    stage.server.apply(secret("cert", "new.test"))
    fault = stage.server.start_fault(Slow(piece_bytes=1_000, pause_s=0.02), "/api/v1/namespaces/shop/secrets/cert")
    if not slow:
        stage.server.end_fault(fault)
    stage.server.apply(ingress("new", secret="cert"))
    seen = set()
    until = time.monotonic() + PATIENCE_S
    while (found := stage.secure("new.test"))[0] != 200:
        seen.add(found[0])
        assert time.monotonic() < until
    if found[1] != "new.test":
        # Shook hands before the change and asked after it: that can happen to one connection, not to the next.
        found = stage.secure("new.test")
    assert found == (200, "new.test")
    assert seen <= {404}


def test_a_certificate_that_is_renewed_is_live(stage: Stage) -> None:
    stage.server.load([secret("cert", "secure.test"), ingress("secure", secret="cert")])
    stage.ingressd.start()
    assert stage.secure("secure.test") == (200, "secure.test")
    renewed = secret("cert", "*.test")
    stage.server.apply(renewed)
    within(lambda: stage.secure("secure.test") == (200, "*.test"))
    assert not [
        one for one in stage.server.requests if one.path == "/api/v1/secrets" and "as=" not in one.headers["accept"]
    ]


def test_settings_come_from_a_config_map_of_the_cluster(stage: Stage) -> None:
    stage.ingressd.config["settingsConfigMap"] = "shop/settings"
    stage.server.load(
        [ingress("first"), named("v1", "ConfigMap", "settings", data={"denylist-source-range": "127.0.0.0/8"})]
    )
    stage.ingressd.start()
    assert stage.status("first.test") == 403
    stage.server.apply(named("v1", "ConfigMap", "settings", data={}))
    within(lambda: stage.status("first.test") == 200)


def test_namespaces_and_selector_narrow_what_is_served(stage: Stage) -> None:
    stage.kubernetes.update(namespaces=["shop"], labelSelector="tier=web")
    web = {"tier": "web"}
    stage.server.load([ingress("web", labels=web), ingress("api"), ingress("elsewhere", namespace="other", labels=web)])
    stage.ingressd.start()
    assert [stage.status(f"{name}.test") for name in ("web", "api", "elsewhere")] == [200, 404, 404]
    stage.server.apply(ingress("web"))  # It does not match any more.
    within(lambda: stage.status("web.test") == 404)
    assert not [one.path for one in stage.server.requests if "/other/" in one.path]


def test_files_and_cluster_together_and_the_file_wins(stage: Stage) -> None:
    manifests = stage.folder / "k8s"
    manifests.mkdir()
    of_file = ingress("first")
    of_file["spec"]["rules"][0]["host"] = "file.test"
    (manifests / "first.yaml").write_text(yaml.safe_dump(of_file))
    stage.ingressd.config["manifests"] = [str(manifests)]
    stage.server.load([ingress("first"), ingress("second")])
    stage.ingressd.start()
    assert [stage.status(f"{name}.test") for name in ("file", "first", "second")] == [200, 404, 200]
    assert "is in the cluster too: the version of the file counts" in stage.ingressd.output()
    (manifests / "first.yaml").unlink()
    within(lambda: [stage.status(f"{name}.test") for name in ("file", "first")] == [404, 200])


def test_without_permission_for_classes_the_annotation_decides(stage: Stage) -> None:
    by_annotation = ingress("old")
    del by_annotation["spec"]["ingressClassName"]
    by_annotation["metadata"]["annotations"] = {"kubernetes.io/ingress.class": "ingressd"}
    stage.server.load([by_annotation, ingress("new")])
    with stage.server.fault(Answer(403), "/apis/networking.k8s.io/v1/ingressclasses"):
        stage.ingressd.start()
        assert [stage.status(f"{name}.test") for name in ("old", "new")] == [200, 404]
        assert "ingressclasses cannot be read: 403 Forbidden" in stage.ingressd.output()
    within(lambda: stage.status("new.test") == 200)
