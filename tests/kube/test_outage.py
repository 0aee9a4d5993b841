"""The API server and etcd go away, hang, come back: traffic goes on, and what changed meanwhile is caught up with."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from stage.wire import ask

from kube.api import INGRESSES, NAMESPACES, Api
from kube.cluster import Cluster
from kube.installation import ADMIN_PORT, HTTP_PORT, Installation
from kube.mixed_load import MixedLoad
from kube.scenario import new_backend, new_ingress, new_namespace

HOST = "outage.test"
CAUGHT_UP_WITHIN_S = 30.0
AWAY_S = 3.0


@pytest.fixture(scope="module")
def namespace(api: Api, ingressd: Installation) -> Iterator[str]:
    name = new_namespace(api, "outage")
    new_backend(api, name, "echo", replicas=2)
    new_ingress(api, name, "web", host=HOST)
    ingressd.wait_everywhere(lambda at: ask(at, host=HOST).status == 200, "live")
    yield name
    api.delete(NAMESPACES, name)


def load_on(ingressd: Installation) -> MixedLoad:
    """Load on every replica."""
    return MixedLoad([(runner.pair[0], HTTP_PORT) for runner in ingressd.runners()], host=HOST)


def assert_served(load: MixedLoad) -> None:
    """Nothing failed, and there was something."""
    assert load.failed("GET") == load.failed("POST") == [], load.summary()
    assert len(load.sent) > 100, load.summary()


def assert_follows(api: Api, ingressd: Installation, namespace: str, host: str) -> None:
    """A change made now is live within the time that we promise after an outage."""
    new_ingress(api, namespace, host.partition(".")[0], host=host)
    ingressd.wait_everywhere(
        lambda at: ask(at, host=host).status == 200, "a change after the outage", within_s=CAUGHT_UP_WITHIN_S
    )


def test_the_api_server_is_killed_and_started_again(
    cluster: Cluster, api: Api, ingressd: Installation, namespace: str
) -> None:
    with load_on(ingressd) as load:
        cluster.control_plane.api_server.stop()
        try:
            time.sleep(AWAY_S)
            load.wait_for(100)
            assert {ask((runner.pair[0], ADMIN_PORT), "/readyz").status for runner in ingressd.runners_now()} == {200}
        finally:
            cluster.control_plane.restart_api_server()
        assert_follows(api, ingressd, namespace, "restarted.test")
    assert_served(load)


def test_the_api_server_hangs(cluster: Cluster, api: Api, ingressd: Installation, namespace: str) -> None:
    with load_on(ingressd) as load:
        cluster.control_plane.api_server.pause()
        try:
            time.sleep(AWAY_S)
            load.wait_for(100)
        finally:
            cluster.control_plane.api_server.resume()
        assert_follows(api, ingressd, namespace, "resumed.test")
    assert_served(load)


def test_etcd_is_stopped_and_started_again(cluster: Cluster, api: Api, ingressd: Installation, namespace: str) -> None:
    with load_on(ingressd) as load:
        cluster.control_plane.etcd.stop()
        time.sleep(AWAY_S)
        load.wait_for(100)
        cluster.control_plane.etcd.start()
        cluster.control_plane.wait_ready(within_s=60)
        assert_follows(api, ingressd, namespace, "etcd-is-back.test")
    assert_served(load)


def test_what_was_deleted_meanwhile_is_gone(cluster: Cluster, api: Api, ingressd: Installation, namespace: str) -> None:
    new_ingress(api, namespace, "doomed", host="doomed.test")
    ingressd.wait_everywhere(lambda at: ask(at, host="doomed.test").status == 200, "live")
    runners = list(ingressd.runners())
    # The controllers do not see it happen: they are stopped, then go on with what they last saw. Supervisors, who would
    # replace them, are stopped as well.
    stopped = [pid for runner in runners for pid in (runner.first_process(), runner.controller())]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        api.delete(INGRESSES, "doomed", namespace)
        cluster.control_plane.restart_api_server()
    finally:
        for pid in reversed(stopped):
            os.kill(pid, signal.SIGCONT)
    ingressd.wait_everywhere(lambda at: ask(at, host="doomed.test").status == 404, "gone", within_s=CAUGHT_UP_WITHIN_S)
    assert [ask((runner.pair[0], HTTP_PORT), host=HOST).status for runner in runners] == [200, 200]


def test_a_container_that_restarts_during_the_outage_serves_what_it_knew(
    cluster: Cluster, api: Api, ingressd: Installation, namespace: str
) -> None:
    runner = next(ingressd.runners())
    address = runner.pair[0], HTTP_PORT
    # The snapshot is written every few seconds: this change is in it when the file is newer.
    new_ingress(api, namespace, "kept", host="kept.test")
    ingressd.wait_everywhere(lambda at: ask(at, host="kept.test").status == 200, "live")
    changed_s = time.time()
    api.wait(
        lambda: any(path.stat().st_mtime > changed_s for path in runner.volume("snapshot").iterdir()), "a new snapshot"
    )
    cluster.control_plane.api_server.stop()
    try:
        restarts = runner.restarts
        runner.crash()
        until = time.monotonic() + 60
        while runner.restarts == restarts or ask(address, host="kept.test").status != 200:
            assert time.monotonic() < until, runner.output()[-5000:]
            time.sleep(0.1)
    finally:
        cluster.control_plane.restart_api_server()
    ingressd.wait_ready()
    assert_follows(api, ingressd, namespace, "after-the-snapshot.test")
