"""Real replicas against a fake API server: who writes statuses and Events, when, and what is taken back."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stage.apiserver.faults import Answer
from stage.apiserver.server import FakeApiServer
from stage.running import PATIENCE_S, Ingressd

pytestmark = pytest.mark.process

CONTROLLER = "ingressd.dev/ingress-controller"
PORTS = [{"port": 80, "protocol": "TCP"}, {"port": 443, "protocol": "TCP"}]
OURS = [{"ip": "192.0.2.1", "ports": PORTS}, {"ip": "2001:db8::1", "ports": PORTS}]
THEIRS = {"hostname": "other.example"}
# So long a Lease that only its release, and never its end, can explain who leads next.
FLAGS = {"publish-service": "edge/lb", "election-ttl": "60s", "status-update-interval": "1"}


def ingress_class(name: str, controller: str) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": name},
        "spec": {"controller": controller},
    }


def ingress(name: str, *, of: str = "ingressd", host: str = "", status: Any = None) -> dict[str, Any]:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    value: dict[str, Any] = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"ingressClassName": of, "rules": [{"host": host or f"{name}.example", "http": {"paths": paths}}]},
    }
    if status is not None:
        value["status"] = {"loadBalancer": {"ingress": status}}
    return value


def load_balancer(*addresses: str) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80}, {"name": "https", "port": 443}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "lb", "namespace": "edge"},
        "spec": {"type": "LoadBalancer", "ports": ports},
        "status": {"loadBalancer": {"ingress": [{"ip": one} for one in addresses]}},
    }


def pod(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "edge", "labels": {"app": "ingressd"}},
        "spec": {"nodeName": "node"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


class Cluster:
    """A fake cluster with our class, another's, and our Service; replicas of ours are pods in it."""

    def __init__(self, server: FakeApiServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = server
        self.folder = folder
        self.replicas: list[Ingressd] = []
        self._environment = monkeypatch
        service = {"ports": [{"port": 80}], "clusterIP": "10.0.0.1"}
        web = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"}, "spec": service}
        classes = [ingress_class("ingressd", CONTROLLER), ingress_class("other", "example.com/other")]
        server.load([*classes, load_balancer("192.0.2.1", "2001:db8::1"), web])

    def replica(self, name: str, **flags: str) -> Ingressd:
        """Start one of our pods."""
        self.server.apply(pod(name))
        folder = self.folder / name
        folder.mkdir()
        kubeconfig = self.server.write_kubeconfig(folder)
        found = Ingressd(folder, kubernetes={"kubeconfig": str(kubeconfig)}, flags={**FLAGS, **flags})
        self.replicas.append(found)
        self._environment.setenv("POD_NAME", name)
        self._environment.setenv("POD_NAMESPACE", "edge")
        found.start()
        return found

    def lease(self) -> dict[str, Any]:
        """What stands in the Lease."""
        lease = self.server.object("Lease", "edge", "ingress-controller-leader")
        return {"holderIdentity": ""} if lease is None else lease["spec"]

    def leader(self) -> str:
        """Who holds the Lease."""
        return self.lease()["holderIdentity"]

    def addresses(self, name: str) -> list[Any]:
        """What stands in an Ingress's status."""
        found = self.server.object("Ingress", "shop", name)
        assert found is not None
        entries: list[Any] = found.get("status", {}).get("loadBalancer", {}).get("ingress", [])
        return entries

    def events(self, reason: str) -> list[dict[str, Any]]:
        """The Events of a reason."""
        return [event for event in self.server.objects("Event") if event["reason"] == reason]

    def status_writes(self, name: str) -> int:
        """How often the status of an Ingress was written."""
        path = f"/apis/networking.k8s.io/v1/namespaces/shop/ingresses/{name}/status"
        return sum(request.method == "PATCH" and request.path == path for request in self.server.requests)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    with FakeApiServer() as server:
        found = Cluster(server, tmp_path, monkeypatch)
        with contextlib.ExitStack() as ends:
            ends.callback(lambda: [ends.callback(one.stop) for one in found.replicas])
            yield found


def until(condition: Any, *, within_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"not within {within_s:g} s"
        time.sleep(0.01)


def never(condition: Any, *, for_s: float) -> None:
    end = time.monotonic() + for_s
    while time.monotonic() < end:
        assert not condition()
        time.sleep(0.02)


def test_addresses_of_the_service_reach_every_ingress_of_ours_and_follow_it(cluster):
    cluster.server.load([ingress("early"), ingress("foreign", of="other", status=[THEIRS])])
    cluster.replica("one")
    until(lambda: cluster.addresses("early") == OURS)
    cluster.server.apply(ingress("late"))
    until(lambda: cluster.addresses("late") == OURS)
    cluster.server.apply(load_balancer("192.0.2.7"))
    moved = [{"ip": "192.0.2.7", "ports": PORTS}]
    until(lambda: cluster.addresses("early") == cluster.addresses("late") == moved)
    assert cluster.addresses("foreign") == [THEIRS]
    assert cluster.status_writes("foreign") == 0
    time.sleep(2.5)  # Two looks at everything.
    assert cluster.status_writes("early") == 2, "what does not differ is not written"


def test_what_another_wrote_is_put_right(cluster):
    cluster.server.load([ingress("web")])
    cluster.replica("one")
    until(lambda: cluster.addresses("web") == OURS)
    cluster.server.apply(ingress("web", status=[THEIRS]))
    until(lambda: cluster.addresses("web") == OURS)


def test_no_status_before_every_worker_serves_it(cluster):
    one = cluster.replica("one")
    until(lambda: cluster.leader() == "one")
    stopped = worker_of(one)
    one.send_signal(signal.SIGSTOP)  # The supervisor would replace it.
    os.kill(stopped, signal.SIGSTOP)
    cluster.server.apply(ingress("web"))
    never(lambda: cluster.addresses("web"), for_s=0.6)
    one.send_signal(signal.SIGCONT)
    # It does, and its successor acknowledges.
    until(lambda: cluster.addresses("web") == OURS)


def worker_of(one: Ingressd) -> int:
    """The process that does not speak to the API server."""
    children = one.children()
    assert len(children) == 2
    workers = [pid for pid in children if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return workers[0]


def test_our_addresses_leave_an_ingress_that_changes_hands_and_nothing_else_does(cluster):
    cluster.server.load([ingress("web"), ingress("stays")])
    cluster.replica("one", **{"status-update-interval": "60"})
    until(lambda: cluster.addresses("web") == OURS == cluster.addresses("stays"))
    cluster.server.apply(ingress("web", of="other", status=[THEIRS, *OURS]))
    until(lambda: cluster.addresses("web") == [THEIRS])
    assert cluster.addresses("stays") == OURS


def test_a_class_that_is_deleted_takes_our_addresses_along_and_brings_them_back(cluster):
    cluster.server.load([ingress("a"), ingress("b")])
    cluster.replica("one")
    until(lambda: cluster.addresses("a") == OURS == cluster.addresses("b"))
    cluster.server.delete("IngressClass", "", "ingressd")
    until(lambda: cluster.addresses("a") == [] == cluster.addresses("b"))
    cluster.server.apply(ingress_class("ingressd", CONTROLLER))
    until(lambda: cluster.addresses("a") == OURS == cluster.addresses("b"))


def test_a_follower_writes_nothing_and_takes_over_when_the_leader_ends(cluster):
    cluster.server.load([ingress("web")])
    one = cluster.replica("one")
    until(lambda: cluster.addresses("web") == OURS)
    cluster.replica("two")
    assert cluster.leader() == "one"
    one.stop()
    until(lambda: cluster.leader() == "two")
    assert cluster.addresses("web") == OURS, "another pod goes on"
    cluster.server.apply(ingress("next"))
    until(lambda: cluster.addresses("next") == OURS)


def test_a_hand_over_passes_the_lease_on_and_takes_nothing_back(cluster):
    cluster.server.load([ingress("web")])
    one = cluster.replica("one")
    until(lambda: cluster.addresses("web") == OURS)
    written = cluster.status_writes("web")
    one.send_signal(signal.SIGUSR2)
    until(lambda: cluster.leader().startswith("one_"))
    cluster.server.apply(ingress("next"))
    until(lambda: cluster.addresses("next") == OURS)
    assert cluster.status_writes("web") == written, "an address that stays is not written"
    one.stop()
    assert cluster.addresses("web") == cluster.addresses("next") == []
    assert cluster.leader() == ""


def test_a_leader_that_dies_is_followed_when_its_lease_has_run_out(cluster):
    lasts = {"election-ttl": "3s"}
    one = cluster.replica("one", **lasts)
    until(lambda: cluster.leader() == "one")
    cluster.replica("two", **lasts)
    until(lambda: cluster.leader() == "one")
    os.killpg(one.process.pid, signal.SIGKILL)
    seen = [cluster.lease()]

    def followed() -> bool:
        seen.append(cluster.lease())
        return seen[-1]["holderIdentity"] == "two"

    until(followed)
    last = next(lease for lease in reversed(seen) if lease["holderIdentity"] == "one")
    waited = datetime.fromisoformat(seen[-1]["acquireTime"]) - datetime.fromisoformat(last["renewTime"])
    assert waited >= timedelta(seconds=2.9), "the lease lasts 3 s from the last renewal"
    cluster.server.apply(ingress("next"))
    until(lambda: cluster.addresses("next") == OURS)


def test_a_lease_of_somebody_else_keeps_us_from_writing(cluster):
    spec = {"holderIdentity": "stranger", "leaseDurationSeconds": 3600}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec}
    cluster.server.load([{**lease, "metadata": {"name": "mine", "namespace": "edge"}}, ingress("web")])
    cluster.replica("one", **{"election-id": "mine"})
    never(lambda: cluster.addresses("web"), for_s=2)
    assert cluster.server.objects("Event") == []


def test_without_an_election_it_writes_at_once(cluster):
    cluster.server.load([ingress("web")])
    cluster.replica("one", **{"disable-leader-election": "true"})
    until(lambda: cluster.addresses("web") == OURS)
    assert cluster.server.objects("Lease") == []


@pytest.mark.parametrize("flag", ["true", "false"])
def test_the_last_pod_takes_its_addresses_back_unless_told_otherwise(cluster, flag):
    names = [f"i{number}" for number in range(30)]
    cluster.server.load([ingress(name) for name in names])
    one = cluster.replica("one", **{"update-status-on-shutdown": flag})
    until(lambda: all(cluster.addresses(name) == OURS for name in names))
    one.stop()
    left = [] if flag == "true" else OURS
    assert all(cluster.addresses(name) == left for name in names)
    assert cluster.leader() == ""


def test_a_problem_is_one_event_whoever_leads(cluster):
    broken = ingress("web")
    broken["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = "nowhere"
    cluster.server.load([broken])
    one = cluster.replica("one")
    until(lambda: cluster.events("ServiceNotFound"))
    (event,) = cluster.events("ServiceNotFound")
    web = cluster.server.object("Ingress", "shop", "web")
    assert event["involvedObject"]["uid"] == web["metadata"]["uid"]
    assert (event["type"], event["count"]) == ("Warning", 1)
    assert event["message"].startswith(
        "spec.rules[0].http.paths[0].backend.service: Service shop/nowhere does not exist"
    )
    cluster.replica("two")
    one.stop()
    until(lambda: cluster.leader() == "two")
    time.sleep(2.5)  # Longer than a new problem waits.
    assert [again["count"] for again in cluster.events("ServiceNotFound")] == [1]


def test_a_change_that_is_served_is_a_sync_event(cluster):
    cluster.replica("one")
    until(lambda: cluster.leader() == "one")
    cluster.server.apply(ingress("web"))
    until(lambda: cluster.events("Sync"))
    (event,) = cluster.events("Sync")
    assert (event["type"], event["message"]) == ("Normal", "Scheduled for sync")
    assert event["involvedObject"]["name"] == "web"


def test_no_sync_events_when_they_are_switched_off(cluster):
    cluster.replica("one", **{"disable-sync-events": "true"})
    cluster.server.apply(ingress("web"))
    until(lambda: cluster.addresses("web") == OURS)
    never(lambda: cluster.events("Sync"), for_s=0.5)


def test_writes_that_fail_are_made_up_for(cluster):
    cluster.replica("one")
    until(lambda: cluster.leader() == "one")
    with cluster.server.fault(Answer(500), "/apis/networking.k8s.io/v1/namespaces/shop/ingresses", verbs={"patch"}):
        cluster.server.apply(ingress("web"))
        until(lambda: cluster.status_writes("web") >= 2)
        assert cluster.addresses("web") == []
    until(lambda: cluster.addresses("web") == OURS, within_s=2 * PATIENCE_S)
