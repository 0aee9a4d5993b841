"""Events as `kubectl describe` wants them, found again by whoever leads next, lost when nobody can be told."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import pytest
from stage.fast_loop import run_fast

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import Ingress, IngressClass, Metadata
from ingressd.control.sources.cluster.api import ApiError
from ingressd.control.status.event_rules import REPEAT_S, SETTLE_S, Saying
from ingressd.control.status.events import EventWriter, Reporter, event_name
from ingressd.model.problem import Origin, Problem

WEB = ObjectKey("Ingress", "shop", "web")
PROBLEM = Problem("error", Origin("Ingress", "shop", "web"), "InvalidIngress", "spec.rules[0].host", "is no host")
WALL_S = 1_767_225_600.0 - SETTLE_S  # What is wrong at first is said at 2026-01-01T00:00:00Z.


class Api:
    """Events by path; `failures` are raised first. `forget` is what Kubernetes does after an hour."""

    def __init__(self):
        self.events = {}
        self.failures = []
        self.asked = []

    async def request(self, method, path, *, body=None, content_type="application/json", timeout_s=30.0):
        self.asked.append((method, path))
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        value = msgspec.json.decode(body)
        if method == "POST":
            assert content_type == "application/json"
            path = f"{path}/{value['metadata']['name']}"
            if path in self.events:
                raise ApiError(409, "AlreadyExists", path)
            self.events[path] = value
        else:
            assert (method, content_type) == ("PATCH", "application/merge-patch+json")
            if path not in self.events:
                raise ApiError(404, "NotFound", path)
            self.events[path] |= value
        return msgspec.json.encode(self.events[path])

    def all(self):
        return list(self.events.values())


class Stage:
    def __init__(self, api=None):
        self.api = api or Api()
        self.leads = True
        self.objects = {WEB: Ingress(Metadata(name="web", namespace="shop", uid="u1", resource_version="7"))}
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        self.writer = EventWriter(
            self.api,
            current=self.objects.get,
            leads=lambda: self.leads,
            clock=loop.time,
            wall=lambda: WALL_S + loop.time() - began_s,
            reporter=Reporter("ingressd.dev/ingress-controller", "pod-1"),
        )

    def lead(self, leads):
        self.leads = leads
        self.writer.leading(leads)


@contextlib.asynccontextmanager
async def running(stage):
    task = asyncio.create_task(stage.writer.run())
    try:
        yield stage
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def scenario(body):
    def test():
        async def whole():
            async with running(Stage()) as stage:
                await body(stage)

        run_fast(whole(), within_s=100 * 3600)

    test.__name__ = body.__name__
    return test


@scenario
async def test_a_problem_becomes_a_warning_on_its_object(stage):
    stage.writer.problems([PROBLEM], [])
    await asyncio.sleep(SETTLE_S + 1)
    (path,) = stage.api.events
    assert path == f"/api/v1/namespaces/shop/events/{stage.api.all()[0]['metadata']['name']}"
    event = stage.api.all()[0]
    assert event.pop("metadata")["namespace"] == "shop"
    assert event == {
        "apiVersion": "v1",
        "kind": "Event",
        "involvedObject": {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "namespace": "shop",
            "name": "web",
            "uid": "u1",
            "resourceVersion": "7",
        },
        "type": "Warning",
        "reason": "InvalidIngress",
        "message": "spec.rules[0].host: is no host",
        "count": 1,
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "source": {"component": "ingressd"},
        "reportingComponent": "ingressd.dev/ingress-controller",
        "reportingInstance": "pod-1",
    }


@scenario
async def test_an_event_on_a_cluster_scoped_object_is_in_the_default_namespace(stage):
    key = ObjectKey("IngressClass", "", "c")
    stage.objects[key] = IngressClass(Metadata(name="c", uid="u2"))
    problem = Problem("warning", Origin("IngressClass", "", "c"), "SeveralDefaultClasses", "", "another is too")
    stage.writer.problems([problem], [])
    await asyncio.sleep(SETTLE_S + 1)
    (event,) = stage.api.all()
    assert event["metadata"]["namespace"] == "default"
    assert "namespace" not in event["involvedObject"]
    assert event["message"] == "another is too"


@scenario
async def test_while_it_lasts_it_is_counted_on_twice_an_hour(stage):
    stage.writer.problems([PROBLEM], [])
    await asyncio.sleep(2 * REPEAT_S + 10)
    (event,) = stage.api.all()
    assert event["count"] == 3
    assert event["firstTimestamp"] == "2026-01-01T00:00:00Z"
    assert event["lastTimestamp"] == "2026-01-01T01:00:00Z"
    stage.writer.problems([], [PROBLEM])
    await asyncio.sleep(10 * REPEAT_S)
    assert event["count"] == 3


@scenario
async def test_one_that_kubernetes_has_forgotten_is_made_anew(stage):
    stage.writer.problems([PROBLEM], [])
    await asyncio.sleep(10)
    stage.api.events.clear()
    await asyncio.sleep(REPEAT_S)
    (event,) = stage.api.all()
    assert event["count"] == 1 and event["firstTimestamp"] == "2026-01-01T00:30:00Z"


@scenario
async def test_problems_of_what_is_not_in_the_cluster_are_no_events(stage):
    stage.writer.problems(
        [
            Problem("error", Origin("Config", "", "settings"), "InvalidValue", "x", "y"),
            Problem("error", Origin("Ingress", "shop", "in-a-file"), "InvalidIngress", "x", "y"),
            Problem("error", Origin("Unit", "", "host/x"), "Quarantined", "x", "y"),
        ],
        [],
    )
    await asyncio.sleep(60)
    assert stage.api.asked == []


def test_the_next_leader_finds_what_was_said_and_does_not_repeat_it():
    async def body():
        async with running(Stage()) as one:
            two = Stage(one.api)
            two.lead(False)
            async with running(two):
                for stage in (one, two):
                    stage.writer.problems([PROBLEM], [])
                await asyncio.sleep(60)
                assert len(one.api.asked) == 1
                one.lead(False)
                two.lead(True)
                await asyncio.sleep(60)
                (event,) = one.api.all()
                assert event["count"] == 1
                await asyncio.sleep(REPEAT_S)
                assert event["count"] == 2

    run_fast(body())


def test_a_restarted_controller_counts_on_when_the_last_time_is_long_ago():
    async def body():
        async with running(Stage()) as one:
            one.writer.problems([PROBLEM], [])
            await asyncio.sleep(SETTLE_S + 1)
        event = one.api.all()[0]
        event["lastTimestamp"], event["count"] = "2025-12-31T23:00:00Z", 4
        async with running(Stage(one.api)) as again:
            again.writer.problems([PROBLEM], [])
            await asyncio.sleep(SETTLE_S + 1)
        assert event["count"] == 5

    run_fast(body())


@scenario
async def test_a_change_that_is_served_is_a_normal_event_and_the_next_one_counts(stage):
    stage.writer.synced([WEB])
    await asyncio.sleep(60)
    stage.writer.synced([WEB])
    await asyncio.sleep(60)
    (event,) = stage.api.all()
    assert (event["type"], event["reason"], event["message"]) == ("Normal", "Sync", "Scheduled for sync")
    assert event["count"] == 2


@scenario
async def test_a_follower_says_nothing(stage):
    stage.lead(False)
    stage.writer.problems([PROBLEM], [])
    stage.writer.synced([WEB])
    await asyncio.sleep(60)
    assert stage.api.asked == []
    stage.lead(True)
    await asyncio.sleep(60)
    assert [event["reason"] for event in stage.api.all()] == ["InvalidIngress"]


@pytest.mark.parametrize(
    "failure", [(0, "Unreachable"), (429, "TooManyRequests"), (503, "Unavailable"), (403, "Forbidden")]
)
def test_while_the_api_server_is_away_what_happened_is_dropped_and_what_lasts_waits(failure, caplog):
    @scenario
    async def body(stage):
        stage.api.failures = [ApiError(*failure, "no")] * 6
        stage.writer.problems([PROBLEM], [])
        for number in range(10):
            key = ObjectKey("Ingress", "shop", f"i{number}")
            stage.objects[key] = Ingress(Metadata(name=key.name, namespace="shop", uid=key.name))
            stage.writer.synced([key])
        await asyncio.sleep(20)
        assert len(stage.api.asked) < 6, "asks all the time"
        await asyncio.sleep(1200)
        assert [event["reason"] for event in stage.api.all()] == ["InvalidIngress"]
        assert stage.writer.rules.dropped == 10
        assert (stage.writer.sent, stage.writer.failed) == (1, 6)

    body()
    assert len(caplog.records) <= 4


@scenario
async def test_an_object_whose_namespace_is_gone_holds_no_other_up(stage):
    stage.api.failures = [ApiError(404, "NotFound", "namespaces shop not found")]
    other = ObjectKey("Ingress", "shop", "web2")
    stage.objects[other] = Ingress(Metadata(name="web2", namespace="shop", uid="u3"))
    second = Problem("error", Origin("Ingress", "shop", "web2"), "InvalidIngress", "", "x")
    stage.writer.problems([PROBLEM, second], [])
    await asyncio.sleep(SETTLE_S + 1)
    assert [event["involvedObject"]["name"] for event in stage.api.all()] == ["web2"]


def test_names_are_valid_and_differ_by_object_and_by_words():
    long = ObjectKey("Ingress", "shop", "a" * 199 + "." + "b" * 53)
    one = Saying(long, "Warning", "R", "f", "m")
    names = {event_name(one, "u1"), event_name(one, "u2"), event_name(one._replace(message="n"), "u1")}
    assert len(names) == 3
    assert all(len(name) <= 253 and ".." not in name for name in names)


@scenario
async def test_a_long_message_is_cut_between_characters(stage):
    stage.writer.problems([msgspec.structs.replace(PROBLEM, field="", message="ü" * 2000)], [])
    await asyncio.sleep(SETTLE_S + 1)
    message = stage.api.all()[0]["message"]
    assert len(message.encode()) <= 1024 and message.endswith("ü…")
