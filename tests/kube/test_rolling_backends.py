"""Rolling a Deployment of backends whose pods exit at once on SIGTERM, under GET and POST mixed."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from stage.wire import ask

from kube.api import DEPLOYMENTS, NAMESPACES, Api
from kube.cluster import Cluster
from kube.installation import HTTP_PORT, Installation
from kube.mixed_load import MixedLoad, Sent
from kube.scenario import new_backend, new_ingress, new_namespace

REPLICAS, ROLLOUTS = 4, 3
HOST = "rolling.test"


@pytest.fixture(scope="module")
def namespace(api: Api, ingressd: Installation) -> Iterator[str]:
    name = new_namespace(api, "rolling")
    new_backend(api, name, "echo", replicas=REPLICAS)
    new_ingress(api, name, "web", host=HOST)
    ingressd.wait_everywhere(lambda at: ask(at, host=HOST).status == 200, "live")
    yield name
    api.delete(NAMESPACES, name)


def roll(api: Api, namespace: str, number: int) -> None:
    """`kubectl rollout restart`, and wait for its end."""
    template = {"metadata": {"annotations": {"stage/rolled": str(number)}}}
    api.patch(DEPLOYMENTS, "echo", namespace, change={"spec": {"template": template}})

    def done() -> bool:
        deployment = api.get(DEPLOYMENTS, "echo", namespace)
        status = deployment["status"]
        return bool(
            status.get("observedGeneration") == deployment["metadata"]["generation"]
            and status.get("updatedReplicas") == status.get("availableReplicas") == status["replicas"] == REPLICAS
        )

    api.wait(done, "the rollout", within_s=60)


def logged(ingressd: Installation, sent: Sent) -> dict[str, object]:
    """The access log's line of a request."""
    for line in ingressd.output().splitlines():
        if f"/{sent.mark}" in line and line.startswith("{"):
            entry: dict[str, object] = json.loads(line)
            return entry
    return {}


def test_no_get_fails_and_no_post_is_sent_twice(
    cluster: Cluster, api: Api, ingressd: Installation, namespace: str
) -> None:
    with MixedLoad([(runner.pair[0], HTTP_PORT) for runner in ingressd.runners()], host=HOST, threads=6) as load:
        for number in range(ROLLOUTS):
            roll(api, namespace, number)
            time.sleep(0.3)
            load.wait_for(170)
    print(f"{ROLLOUTS} rollouts of {REPLICAS} pods: {dict(load.summary())}")  # pytest -s shows it
    assert len(load.sent) > 500, load.summary()
    assert load.failed("GET") == [], load.summary()
    echoes = cluster.kubelet.echoes(namespace)
    assert len(echoes) == REPLICAS * (ROLLOUTS + 1)
    arrived = Counter(seen.mark for echo in echoes for seen in echo.seen if seen.method == "POST")
    assert [mark for mark, times in arrived.items() if times > 1] == []
    # A POST may fail only when its bytes had left on a connection that the pod then reset.
    for failed in load.failed("POST"):
        line = api.wait(lambda failed=failed: logged(ingressd, failed), f"the access log's line of {failed}")  # type: ignore[misc]
        print(failed, line)
        assert (failed.status, line.get("status")) == (502, 502), (failed, line)
        assert str(line["error"]).startswith("upstream closed the connection before it answered"), line
