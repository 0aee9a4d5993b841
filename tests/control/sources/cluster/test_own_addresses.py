"""Nodes under our ready pods, a published Service that is not watched, and what happens while neither can be read."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import pytest
from stage.fast_loop import run_fast

from ingressd.control.objects.event import NODES_KEY, ObjectKey
from ingressd.control.objects.static import NodeAddress, NodeAddresses
from ingressd.control.sources.cluster.api import ApiError
from ingressd.control.sources.cluster.own_addresses import SERVICE_S, AddressSource
from ingressd.control.sources.cluster.pods import OwnPods
from ingressd.settings.flags import ProcessFlags

SERVICE = ObjectKey("Service", "edge", "lb")
PUBLISHED = ProcessFlags(publish_service="edge/lb")


def pod(name, *, node="n1", ready=True, labels=None, phase="Running", ending=False):
    metadata = {"name": name, "labels": {"app": "ingressd", "pod-template-hash": name, **(labels or {})}}
    if ending:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": {"phase": phase, "conditions": conditions}}


def node(*addresses):
    return {"status": {"addresses": [{"type": kind, "address": address} for kind, address in addresses]}}


class Api:
    def __init__(self):
        self.pods = {"p1": pod("p1")}
        self.others = {
            "/api/v1/nodes/n1": node(("Hostname", "n1"), ("InternalIP", "10.0.0.1"), ("ExternalIP", "192.0.2.1")),
            "/api/v1/nodes/n2": node(("InternalIP", "10.0.0.2"), ("InternalIP", "fd00::2")),
        }
        self.failure = None
        self.asked = []

    async def request(self, method, path, *, query=None, timeout_s=30.0):
        self.asked.append((path, dict(query or {})))
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        prefix = "/api/v1/namespaces/ns/pods"
        if path == prefix:
            assert query == {"labelSelector": "app=ingressd"}
            return msgspec.json.encode({"items": list(self.pods.values())})
        found = self.pods.get(path.removeprefix(f"{prefix}/")) or self.others.get(path)
        if found is None:
            raise ApiError(404, "NotFound", path)
        return msgspec.json.encode(found)


class Sink(list):
    async def put(self, item):
        self.append(item)


def pods_of(api, name="p1"):
    return OwnPods(api, namespace="ns", name=name)


def with_source(body, *, watches=lambda namespace: False, name="p1", flags=None):
    async def whole():
        api, sink = Api(), Sink()
        source = AddressSource(api, pods_of(api, name), watches=watches)
        source.follow(flags or ProcessFlags())
        task = asyncio.create_task(source.run(sink))
        try:
            await body(api, source, sink)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    run_fast(whole())


async def until(condition, within_s=300.0):
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.1)


def nodes_of(batch):
    return next(event.object for event in batch.events if event.key == NODES_KEY)


def test_nobody_knows_at_first_and_then_the_nodes_are_known():
    async def body(api, source, sink):
        await until(lambda: len(sink) == 2)
        assert nodes_of(sink[0]) == NodeAddresses(None)
        assert nodes_of(sink[1]) == NodeAddresses((NodeAddress("n1", ("192.0.2.1",), ("10.0.0.1",)),))
        api.pods["p2"] = pod("p2", node="n2")
        await until(lambda: len(sink) == 3)
        assert [one.name for one in nodes_of(sink[2]).nodes] == ["n1", "n2"]
        assert nodes_of(sink[2]).nodes[1].internal == ("10.0.0.2", "fd00::2")
        await asyncio.sleep(600)
        assert len(sink) == 3, "the same again is no news"
        assert all(batch.complete and batch.source == "addresses" for batch in sink)

    with_source(body)


def test_pods_that_are_not_ready_or_about_to_end_do_not_count_and_are_asked_for_again_soon():
    async def body(api, source, sink):
        api.pods = {"p1": pod("p1", ready=False), "p2": pod("p2", ending=True), "p3": pod("p3", phase="Failed")}
        await until(lambda: len(sink) == 2)
        assert nodes_of(sink[1]) == NodeAddresses(())
        api.pods["p1"] = pod("p1")
        await until(lambda: len(sink) == 3, within_s=5)

    with_source(body)


@pytest.mark.parametrize(
    "flags",
    [
        ProcessFlags(publish_status_address=("192.0.2.9",)),
        ProcessFlags(update_status=False),
        ProcessFlags(publish_service="watched/lb"),
    ],
)
def test_nothing_is_asked_for_that_is_not_needed(flags):
    async def body(api, source, sink):
        await asyncio.sleep(300)
        assert api.asked == [] and len(sink) == 1

    with_source(body, watches=lambda namespace: namespace == "watched", flags=flags)


def test_a_published_service_outside_the_namespaces_that_are_read_is_followed():
    async def body(api, source, sink):
        path = "/api/v1/namespaces/edge/services/lb"
        ingress = [{"ip": "192.0.2.5"}]
        api.others[path] = {"metadata": {"name": "lb", "namespace": "edge"}, "status": {"loadBalancer": {}}}
        await until(lambda: len(sink) == 2)
        assert sink[1].events[0].key == SERVICE
        api.others[path]["status"] = {"loadBalancer": {"ingress": ingress}}
        await until(lambda: len(sink) == 3, within_s=SERVICE_S + 1)
        assert sink[2].events[0].object.status.load_balancer.ingress[0].ip == "192.0.2.5"
        del api.others[path]
        await until(lambda: len(sink) == 4, within_s=SERVICE_S + 1)
        assert sink[3].events == ((SERVICE, None, None),)
        api.others[path] = {"metadata": {"name": "lb", "namespace": "edge"}}
        await until(lambda: len(sink) == 5)
        source.follow(ProcessFlags(publish_status_address=("192.0.2.9",)))
        await until(lambda: len(sink) == 6, within_s=1)
        assert sink[5].events == ((SERVICE, None, None),), "let go when it is not asked for any more"

    with_source(body, flags=PUBLISHED)


def test_what_was_known_stays_while_it_cannot_be_read_and_that_is_said_once():
    async def body(api, source, sink):
        await until(lambda: len(sink) == 2)
        api.failure = ApiError(403, "Forbidden", "nodes is forbidden")
        await until(lambda: len(sink) == 3)
        assert sink[2].events == ()
        (problem,) = sink[2].problems
        assert problem.reason == "NoAddresses" and "nodes is forbidden" in problem.message
        await asyncio.sleep(600)
        assert len(sink) == 3
        api.failure = None
        await until(lambda: len(sink) == 4)
        assert sink[3].problems == () and sink[3].events == ()

    with_source(body)


def test_without_a_name_of_our_own_nothing_is_known():
    async def body(api, source, sink):
        await until(lambda: len(sink) == 2)
        assert "POD_NAME is not set" in sink[1].problems[0].message
        assert api.asked == []

    with_source(body, name="")


@pytest.mark.parametrize(
    ("other", "stays"),
    [
        (None, False),
        (pod("p2"), True),
        (pod("p2", ready=False), True),
        (pod("p2", ending=True), False),
        (pod("p2", phase="Succeeded"), False),
    ],
)
def test_whether_another_pod_goes_on(other, stays):
    api = Api()
    if other is not None:
        api.pods["p2"] = other
    assert run_fast(pods_of(api).others_stay()) is stays


def test_pods_of_other_zones_are_ours_too():
    api = Api()
    api.pods = {name: pod(name, labels={"topology.kubernetes.io/zone": name}) for name in ("p1", "p2")}
    assert run_fast(pods_of(api).others_stay()) is True


def test_a_pod_without_labels_is_alone():
    api = Api()
    api.pods["p1"]["metadata"]["labels"] = {"pod-template-hash": "x"}
    assert run_fast(pods_of(api).others_stay()) is False
    assert len(api.asked) == 1
