"""The API server is away in every way it can be: what is known serves on, and what was missed is made up for.

An outage lasts a few seconds here; `INGRESSD_TEST_OUTAGE_S=600 pytest tests/process/test_api_server_away.py` makes it
ten minutes.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stage.apiserver.faults import Answer, BlackHole, Fault, Refuse, Truncate
from stage.apiserver.server import FakeApiServer
from stage.certificates import names_of, selfsigned
from stage.echo import EchoLoop, raise_echoes
from stage.load import fetch, role
from stage.running import PATIENCE_S, Ingressd
from stage.wire import ask, client_tls

pytestmark = [pytest.mark.process, pytest.mark.slow]

OUTAGE_S = float(os.environ.get("INGRESSD_TEST_OUTAGE_S", "3"))
NETWORKING = "networking.k8s.io/v1"
FAULTS = {
    "refused": Refuse(),
    "black hole": BlackHole(),
    "500": Answer(500),
    "429": Answer(429, retry_after_s=1),
    "401": Answer(401),
    "503": Answer(503),
    "cut in the middle": Truncate(),
}


# --- the cluster ------------------------------------------------------------------------------------------------------
def named(api_version: str, kind: str, name: str, **rest: Any) -> dict[str, Any]:
    metadata = {"name": name, **rest.pop("metadata", {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def ingress(name: str, *, path: str = "/", secret: str = "") -> dict[str, Any]:
    host = f"{name}.test"
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    spec: dict[str, Any] = {
        "ingressClassName": "ingressd",
        "rules": [{"host": host, "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}}],
    }
    if secret:
        spec["tls"] = [{"hosts": [host], "secretName": secret}]
    return named(NETWORKING, "Ingress", name, spec=spec)


def secret(name: str, host: str) -> dict[str, Any]:
    pair = selfsigned(host)
    data = {"tls.crt": pair.cert, "tls.key": pair.key}
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return named("v1", "Secret", name, type="kubernetes.io/tls", data=encoded)


class Stage:
    """A cluster with hosts kept.test, gone.test and secure.test, and an ingressd that is not started yet."""

    def __init__(self, server: FakeApiServer, folder: Path, memory: str, *, port: int, address: str) -> None:
        self.server = server
        server.load(
            [
                named(NETWORKING, "IngressClass", "ingressd", spec={"controller": "ingressd.dev/ingress-controller"}),
                named("v1", "Service", "web", spec={"ports": [{"port": 80, "targetPort": port}]}),
                named(
                    "discovery.k8s.io/v1",
                    "EndpointSlice",
                    "web-1",
                    metadata={"labels": {"kubernetes.io/service-name": "web"}},
                    addressType="IPv4",
                    endpoints=[{"addresses": [address]}],
                    ports=[{"port": port}],
                ),
                ingress("kept"),
                ingress("gone"),
                ingress("secure", secret="cert"),
                secret("cert", "secure.test"),
                secret("nobody-looks-at-it", "other.test"),
            ]
        )
        self.kubernetes: dict[str, Any] = {"kubeconfig": str(server.write_kubeconfig(folder))}
        self.snapshot = Path(memory, "objects")
        self.ingressd = Ingressd(
            folder, settings={"ssl-redirect": "false", "hsts": "false"}, kubernetes=self.kubernetes
        )

    def keep_snapshot(self) -> None:
        self.kubernetes["snapshotDir"] = str(self.snapshot.parent)

    def status(self, name: str, path: str = "/") -> int:
        return fetch(self.ingressd.http, path, host=f"{name}.test", timeout_s=PATIENCE_S).status

    def certificate(self) -> str:
        tls = client_tls()
        reply = ask(self.ingressd.https, "/", host="secure.test", tls=tls, server_name="secure.test")
        return names_of(reply.certificate)[0] if reply.status == 200 else str(reply.status)

    def change_the_cluster(self) -> None:
        """What the controller cannot see as long as the server is away."""
        self.server.delete("Ingress", "default", "gone")
        self.server.apply(ingress("kept", path="/moved"))
        self.server.apply(ingress("new"))

    def serves_the_old(self) -> bool:
        return [self.status("kept", "/any"), self.status("gone"), self.status("new")] == [200, 200, 404]

    def serves_the_new(self) -> bool:
        moved = [self.status("kept", "/moved"), self.status("kept", "/any")]
        return [*moved, self.status("gone"), self.status("new")] == [200, 404, 404, 200]

    def age_s(self) -> float:
        """The greatest of the ages of all kinds, as the metrics say."""
        lines = ask(self.ingressd.admin, "/metrics").text.splitlines()
        ages = [float(line.split()[-1]) for line in lines if line.startswith("ingressd_cluster_staleness_seconds{")]
        assert ages, lines
        return max(ages)


@pytest.fixture
def stage(tmp_path: Path, echo_loop: EchoLoop) -> Iterator[Stage]:
    memory = tempfile.mkdtemp(dir="/dev/shm", prefix="ingressd-test-")
    (echo,) = raise_echoes(echo_loop, "web")
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, memory)
        stack.callback(echo.close)
        server = stack.enter_context(FakeApiServer(tls=True, token="secret", bookmark_s=1.0))
        stage = Stage(server, tmp_path, memory, port=echo.address[1], address=echo.address[0])
        stack.callback(stage.ingressd.stop)
        yield stage


def controller(stage: Stage) -> int:
    """The controller's process, 0 while there is none."""
    return next((pid for pid in stage.ingressd.children() if role(pid) == "controller"), 0)


@contextlib.contextmanager
def steady_load(stage: Stage, *names: str) -> Iterator[list[int]]:
    """Some requests a second to these hosts, all the time; every one has to be answered with 200."""
    found: list[int] = []
    ended = threading.Event()

    def load() -> None:
        while not ended.wait(0.02):
            found.extend(stage.status(name, "/moved") for name in names)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
    assert found and set(found) == {200}, found


def within(seconds: float, condition: Callable[[], bool], what: str) -> float:
    """How long it took until it was so."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < seconds, f"{what}: not within {seconds:g} s"
        time.sleep(0.02)
    return time.monotonic() - began_s


# --- it runs, and the server goes away --------------------------------------------------------------------------------
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_is_known_serves_on_and_what_was_missed_is_made_up_for(stage: Stage, fault: Fault) -> None:
    stage.ingressd.start()
    assert stage.serves_the_old() and stage.certificate() == "secure.test"
    within(PATIENCE_S, lambda: stage.age_s() < 5, "an age that is small")
    with steady_load(stage, "kept", "secure"):
        with stage.server.fault(fault):
            began_s = time.monotonic()
            stage.change_the_cluster()
            time.sleep(OUTAGE_S)
            assert stage.serves_the_old()
            assert stage.ingressd.ask_admin("/readyz") == 200
            # As far as the metric is concerned the outage began when the server was last heard.
            within(PATIENCE_S, lambda: stage.age_s() > OUTAGE_S - 1, "an age that grows")
            assert stage.age_s() < time.monotonic() - began_s + PATIENCE_S
        within(PATIENCE_S, stage.serves_the_new, "what was missed")
        within(PATIENCE_S, lambda: stage.age_s() < 5, "an age that is small again")


def test_versions_that_are_gone_after_an_outage_are_listed_again(stage: Stage) -> None:
    stage.ingressd.start()
    with steady_load(stage, "kept"):
        with stage.server.fault(Refuse()):
            stage.change_the_cluster()
            stage.server.compact()
            time.sleep(1)
        within(PATIENCE_S, stage.serves_the_new, "what was missed")


def test_a_controller_killed_during_an_outage_costs_nothing(stage: Stage) -> None:
    stage.keep_snapshot()
    stage.ingressd.start()
    within(PATIENCE_S, stage.snapshot.exists, "a snapshot")
    with steady_load(stage, "kept", "secure"):
        with stage.server.fault(Refuse()):
            stage.change_the_cluster()
            before = controller(stage)
            os.kill(before, signal.SIGKILL)
            within(
                PATIENCE_S,
                lambda: stage.ingressd.ask_admin("/readyz") == 200 and controller(stage) not in (0, before),
                "ready",
            )
            assert stage.serves_the_old()
            assert stage.certificate() == "secure.test"
        within(PATIENCE_S, stage.serves_the_new, "what was missed")


def test_a_controller_killed_without_a_snapshot_leaves_workers_that_serve(stage: Stage) -> None:
    stage.ingressd.start()
    with steady_load(stage, "kept", "secure"):
        with stage.server.fault(Refuse()):
            stage.change_the_cluster()
            before = controller(stage)
            os.kill(before, signal.SIGKILL)
            within(
                PATIENCE_S,
                lambda: stage.ingressd.ask_admin("/healthz") == 200 and controller(stage) not in (0, before),
                "alive",
            )
            time.sleep(1)
            assert stage.serves_the_old()
        within(PATIENCE_S, stage.serves_the_new, "what was missed")


# --- it starts while the server is away -------------------------------------------------------------------------------
@pytest.mark.parametrize("fault", [Refuse(), BlackHole(), Answer(500)], ids=["refused", "black hole", "500"])
@pytest.mark.parametrize("kill", [False, True], ids=["ended", "killed"])
def test_a_container_started_during_an_outage_serves_from_its_snapshot(stage: Stage, fault: Fault, kill: bool) -> None:
    stage.keep_snapshot()
    stage.ingressd.start()
    within(PATIENCE_S, stage.snapshot.exists, "a snapshot")
    if kill:
        os.killpg(stage.ingressd.process.pid, signal.SIGKILL)
        stage.ingressd.process.wait()
    stage.ingressd.stop()
    with stage.server.fault(fault):
        stage.change_the_cluster()
        time.sleep(2)
        stage.ingressd.start()
        assert stage.serves_the_old()
        assert stage.certificate() == "secure.test"
        assert 2 < stage.age_s() < 600
        if isinstance(fault, BlackHole):
            time.sleep(5)  # Lists asked for in a shorter one are not given up: they may only be slow.
    within(PATIENCE_S, stage.serves_the_new, "what was missed")
    within(PATIENCE_S, lambda: stage.age_s() < 5, "an age that is small again")


def test_a_snapshot_is_not_needed_while_the_server_answers(stage: Stage) -> None:
    stage.keep_snapshot()
    stage.ingressd.start()
    within(PATIENCE_S, stage.snapshot.exists, "a snapshot")
    stage.ingressd.stop()
    stage.change_the_cluster()
    stage.ingressd.start()
    assert stage.serves_the_new()
    assert "of a snapshot" not in stage.ingressd.output().rpartition("drained")[2]


def test_without_a_snapshot_it_is_ready_when_the_server_is_back_and_not_before(stage: Stage) -> None:
    with stage.server.fault(Refuse()):
        with pytest.raises(AssertionError, match="not 200"):
            stage.ingressd.start(ready_within_s=4)
        within(PATIENCE_S, lambda: stage.ingressd.ask_admin("/healthz") == 200, "alive")
        assert stage.ingressd.ask_admin("/readyz") == 503
    within(PATIENCE_S, lambda: stage.ingressd.ask_admin("/readyz") == 200, "ready")
    assert stage.serves_the_old() and stage.certificate() == "secure.test"


@pytest.mark.parametrize("resource", ["/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices"])
def test_it_is_not_ready_while_one_kind_cannot_be_listed(stage: Stage, resource: str) -> None:
    with stage.server.fault(Answer(500), resource), pytest.raises(AssertionError, match="not 200"):
        stage.ingressd.start(ready_within_s=3)
    within(PATIENCE_S, lambda: stage.ingressd.ask_admin("/readyz") == 200, "ready")
    assert stage.serves_the_old()


def test_it_is_not_ready_while_a_certificate_cannot_be_fetched(stage: Stage) -> None:
    path = "/api/v1/namespaces/default/secrets/cert"
    with stage.server.fault(Answer(500), path), pytest.raises(AssertionError, match="not 200"):
        stage.ingressd.start(ready_within_s=3)
    within(PATIENCE_S, lambda: stage.ingressd.ask_admin("/readyz") == 200, "ready")
    assert stage.certificate() == "secure.test"


def test_the_last_good_version_of_a_refused_object_outlives_a_restart(stage: Stage) -> None:
    stage.keep_snapshot()
    stage.ingressd.start()
    stage.server.apply(ingress("kept", path="no-slash"))
    within(PATIENCE_S, lambda: "LastGoodKept" in stage.ingressd.output(), "a refusal")
    assert stage.status("kept") == 200
    stage.ingressd.stop()
    stage.ingressd.start()
    assert stage.status("kept") == 200


def test_private_keys_are_in_no_file_that_others_may_read(stage: Stage) -> None:
    stage.keep_snapshot()
    stage.ingressd.start()
    within(PATIENCE_S, stage.snapshot.exists, "a snapshot")
    assert stage.snapshot.stat().st_mode & 0o777 == 0o600
    assert not [r for r in stage.server.requests if r.path.endswith("/secrets/nobody-looks-at-it")]


def test_a_snapshot_dir_on_a_disk_is_refused_by_name(stage: Stage, tmp_path: Path) -> None:
    stage.kubernetes["snapshotDir"] = "/usr"
    stage.ingressd.start()
    within(PATIENCE_S, lambda: "kubernetes.snapshotDir" in stage.ingressd.output(), "a problem")
    assert "private keys are never written to a disk" in stage.ingressd.output()
    assert not Path("/usr/objects").exists()
    assert stage.serves_the_old()
