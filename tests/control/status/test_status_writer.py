"""The writer: only as leader, only what differs, again after failures, and back at the end."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import pytest
from stage.fast_loop import run_fast

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import (
    AddressStatus,
    Ingress,
    LoadBalancerIngress,
    LoadBalancerStatus,
    Metadata,
)
from ingressd.control.sources.cluster.api import ApiError
from ingressd.control.status.addresses import SLICE
from ingressd.control.status.queue import IN_FLIGHT
from ingressd.control.status.writer import StatusWriter

STATUS = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
MANAGER = "ingressd.dev/ingress-controller"
LIST = "/apis/networking.k8s.io/v1/namespaces/default/ingresses"
OURS = (LoadBalancerIngress(ip="192.0.2.1"),)


def key(number):
    return ObjectKey("Ingress", "default", f"i{number}")


class Api:
    """Ingresses with versions. `failures` are raised first, one a request; the watch is as late as `lag_s`."""

    def __init__(self):
        self.objects = {}
        self.seen = {}
        self.version = 0
        self.failures = []
        self.requests = []
        self.asked = []
        self.owners = {}
        self.at_once = self.most_at_once = 0
        self.lag_s = 0.01

    def put(self, number, entries=()):
        self._store(key(number), tuple(entries))
        self.seen[key(number)] = self.objects[key(number)]

    def _store(self, at, entries):
        self.version += 1
        metadata = Metadata(name=at.name, namespace=at.namespace, resource_version=str(self.version))
        self.objects[at] = Ingress(metadata, status=AddressStatus(LoadBalancerStatus(entries)))

    async def request(self, method, path, *, query=None, body=None, content_type="application/json", timeout_s=30.0):
        if method == "GET":
            return self._list(path, **query)
        assert (method, content_type) == ("PATCH", "application/merge-patch+json")
        assert query == {"fieldManager": MANAGER}
        prefix = f"{LIST}/"
        assert path.startswith(prefix) and path.endswith("/status")
        at = ObjectKey("Ingress", "default", path.removeprefix(prefix).removesuffix("/status"))
        self.requests.append((at.name, asyncio.get_running_loop().time()))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0.01)
            if self.failures and (failure := self.failures.pop(0)) is not None:
                raise failure
            return self._patch(at, msgspec.json.decode(body))
        finally:
            self.at_once -= 1

    def _list(self, path, fieldSelector):  # noqa: N803
        """As a real API server answers: the list says who set the addresses last."""
        assert path == LIST
        at = ObjectKey("Ingress", "default", fieldSelector.removeprefix("metadata.name="))
        self.asked.append(at.name)
        fields = {"f:status": {"f:loadBalancer": {"f:ingress": {}}}}
        owners = [{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}}]
        owners.append(
            {"manager": self.owners.get(at), "operation": "Update", "subresource": "status", "fieldsV1": fields}
        )
        found = self.objects.get(at)
        metadata = found and {"resourceVersion": found.metadata.resource_version, "managedFields": owners}
        return msgspec.json.encode({"items": [{"metadata": metadata}] if found else None})

    def _patch(self, at, patch):
        present = self.objects.get(at)
        if present is None:
            raise ApiError(404, "NotFound", "no such Ingress")
        if patch["metadata"]["resourceVersion"] != present.metadata.resource_version:
            raise ApiError(409, "Conflict", "the object has been modified")
        entries = patch["status"]["loadBalancer"]["ingress"] or ()
        self._store(at, msgspec.convert(entries, tuple[LoadBalancerIngress, ...]))
        now = self.objects[at]
        asyncio.get_running_loop().call_later(self.lag_s, self.seen.__setitem__, at, now)
        return msgspec.json.encode({"metadata": {"resourceVersion": now.metadata.resource_version, "name": at.name}})

    def addresses(self, number):
        return self.objects[key(number)].status.load_balancer.ingress


class Stage:
    def __init__(self):
        self.api = Api()
        self.leads = True
        self.first = []
        loop = asyncio.get_running_loop()
        self.writer = StatusWriter(
            self.api,
            current=self.api.seen.get,
            leads=lambda: self.leads,
            clock=loop.time,
            chance=lambda: 0.0,
            manager=MANAGER,
            everything=lambda: list(self.api.seen),
            first=self.first.append,
        )

    def lead(self, leads):
        self.leads = leads
        self.writer.leading(leads)

    async def until(self, condition, *, within_s=600.0):
        async with asyncio.timeout(within_s):
            while not condition():
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def running(stage):
    task = asyncio.create_task(stage.writer.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def scenario(body):
    """A test whose body is a coroutine over a running writer."""

    def test():
        async def whole():
            stage = Stage()
            async with running(stage):
                await body(stage)

        run_fast(whole())

    test.__name__ = body.__name__
    test.__doc__ = body.__doc__
    return test


@scenario
async def test_a_status_that_differs_is_written_once(stage):
    stage.api.put(1)
    stage.api.put(2, OURS)
    stage.writer.served({key(1): STATUS, key(2): STATUS})
    await stage.until(lambda: stage.api.addresses(1) == OURS)
    await asyncio.sleep(300)
    assert [name for name, _ in stage.api.requests] == ["i1"]
    assert stage.writer.results == {"written": 1, "removed": 0, "conflict": 0, "failed": 0}
    assert stage.first == [key(1)]


@scenario
async def test_a_follower_writes_nothing_and_everything_once_it_leads(stage):
    stage.lead(False)
    for number in range(20):
        stage.api.put(number)
    stage.writer.served({key(number): STATUS for number in range(20)})
    await asyncio.sleep(300)
    assert stage.api.requests == []
    stage.lead(True)
    await stage.until(lambda: all(stage.api.addresses(number) == OURS for number in range(20)), within_s=2)
    assert stage.api.most_at_once <= IN_FLIGHT


@scenario
async def test_a_change_of_every_object_is_looked_at_in_slices(stage):
    for number in range(3 * SLICE):
        stage.api.put(number, OURS)
    looks = []
    current = stage.api.seen.get
    stage.writer._book._current = lambda at: looks.append(asyncio.get_running_loop().time()) or current(at)
    stage.writer.served({key(number): {"loadBalancer": {}} for number in range(3 * SLICE)})
    assert looks == [], "not before the pipeline goes on"
    await stage.until(lambda: all(stage.api.addresses(number) == () for number in range(3 * SLICE)))


@scenario
async def test_leadership_that_ends_stops_what_waits(stage):
    for number in range(200):
        stage.api.put(number)
    stage.writer.served({key(number): STATUS for number in range(200)})
    await stage.until(lambda: len(stage.api.requests) > 20)
    stage.lead(False)
    asked = len(stage.api.requests)
    await asyncio.sleep(300)
    assert len(stage.api.requests) == asked
    assert stage.writer.pending() == 0


@scenario
async def test_a_conflict_is_written_over_the_newer_version(stage):
    stage.api.put(1)
    stage.api._store(key(1), (LoadBalancerIngress(ip="198.51.100.1"),))
    now = stage.api.objects[key(1)]
    asyncio.get_running_loop().call_later(0.2, stage.api.seen.__setitem__, key(1), now)
    stage.writer.served({key(1): STATUS})
    await stage.until(lambda: stage.api.addresses(1) == OURS)
    assert stage.writer.results["conflict"] == 1
    assert len(stage.api.requests) == 2


@scenario
async def test_what_another_wrote_is_put_right_at_the_interval(stage):
    stage.writer.interval_s = 7.0
    stage.writer.leading(True)
    stage.api.put(1, OURS)
    stage.writer.served({key(1): STATUS})
    await asyncio.sleep(3)
    stage.api.put(1, (LoadBalancerIngress(ip="198.51.100.1"),))
    await asyncio.sleep(3)
    assert stage.api.requests == [], "two controllers must not fight at full speed"
    await stage.until(lambda: stage.api.addresses(1) == OURS, within_s=6)


@scenario
async def test_our_addresses_are_removed_when_the_object_is_not_ours_any_more(stage):
    theirs = LoadBalancerIngress(hostname="other.example")
    stage.api.put(1, (*OURS, theirs))
    stage.api.put(2, OURS)
    stage.writer.served({key(1): {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "other.example"}]}}})
    stage.writer.served({key(2): STATUS})
    stage.writer.served({key(2): None})
    await stage.until(lambda: stage.api.addresses(2) == ())
    assert stage.api.addresses(1) == (*OURS, theirs)
    assert stage.writer.results["removed"] == 1


@scenario
async def test_a_new_leader_removes_what_was_left_while_it_followed(stage):
    stage.lead(False)
    stage.api.put(1, OURS)
    stage.writer.served({key(1): STATUS})
    stage.writer.served({key(1): None})
    await asyncio.sleep(1)
    stage.lead(True)
    await stage.until(lambda: stage.api.addresses(1) == ())


@scenario
async def test_a_deleted_object_is_let_go(stage):
    stage.api.put(1)
    del stage.api.objects[key(1)]
    stage.writer.served({key(1): STATUS})
    await stage.until(lambda: len(stage.api.requests) == 1)
    await asyncio.sleep(20)
    assert stage.writer.pending() == 0
    assert stage.writer.results["failed"] == 0


@pytest.mark.parametrize(
    "failure", [(0, "Timeout"), (500, "InternalError"), (429, "TooManyRequests"), (403, "Forbidden")]
)
def test_failures_are_tried_again_ever_more_slowly(failure, caplog):
    @scenario
    async def body(stage):
        stage.api.failures = [ApiError(*failure, "no")] * 30
        for number in range(5):
            stage.api.put(number)
        stage.writer.served({key(number): STATUS for number in range(5)})
        await stage.until(lambda: all(stage.api.addresses(number) == OURS for number in range(5)))
        times = sorted(at_s for _, at_s in stage.api.requests)
        assert len(times) == 35
        assert times[-1] - times[0] > 15, "30 failures in no time"
        assert stage.writer.results["failed"] == 30

    body()
    assert 1 <= len(caplog.records) < 15, "not a line for every failure"


@scenario
async def test_retry_after_holds_every_write(stage):
    stage.api.failures = [ApiError(429, "TooManyRequests", "slow down", retry_after_s=30)]
    stage.api.put(1)
    stage.writer.served({key(1): STATUS})
    await stage.until(lambda: stage.api.requests)
    await asyncio.sleep(1)
    stage.api.put(2)
    stage.writer.served({key(2): STATUS})
    await stage.until(lambda: stage.api.addresses(2) == OURS)
    assert stage.api.requests[1][1] - stage.api.requests[0][1] >= 30


@scenario
async def test_at_the_end_our_addresses_are_taken_back_quickly(stage):
    for number in range(400):
        stage.api.put(number, OURS)
    stage.writer.served({key(number): STATUS for number in range(400)})
    began_s = asyncio.get_running_loop().time()
    await stage.writer.take_back(within_s=30)
    assert asyncio.get_running_loop().time() - began_s < 5
    assert all(stage.api.addresses(number) == () for number in range(400))
    stage.api.put(500)
    stage.writer.served({key(500): STATUS})
    await asyncio.sleep(5)
    assert stage.api.addresses(500) == (), "nothing is given any more"


@scenario
async def test_the_end_does_not_wait_for_a_server_that_is_away(stage):
    stage.api.failures = [ApiError(0, "Unreachable", "refused")] * 1000
    stage.api.put(1, OURS)
    stage.writer.served({key(1): STATUS})
    began_s = asyncio.get_running_loop().time()
    await stage.writer.take_back(within_s=10)
    assert asyncio.get_running_loop().time() - began_s < 10.5


OTHER = LoadBalancerIngress(ip="198.51.100.7")


@scenario
async def test_what_we_gave_before_a_restart_is_taken_from_what_is_not_ours_any_more(stage):
    """Who wrote it is proven by the API server; an address alone proves nothing."""
    for number, owner in ((1, MANAGER), (2, "another-controller"), (3, None), (4, MANAGER)):
        stage.api.put(number, OURS)
        stage.api.owners[key(number)] = owner
    stage.api.put(5, (OTHER,))
    stage.api.owners[key(5)] = MANAGER
    stage.writer.served({key(4): STATUS})
    stage.lead(True)
    await stage.until(lambda: stage.api.addresses(1) == ())
    await asyncio.sleep(200)
    assert [stage.api.addresses(number) for number in (2, 3, 4, 5)] == [OURS, OURS, OURS, (OTHER,)]
    assert sorted(stage.api.asked) == ["i1", "i2", "i3"], "once each, and nobody without an address of ours"
    assert stage.writer.results == {"written": 0, "removed": 1, "conflict": 0, "failed": 0}


@scenario
async def test_nothing_is_taken_by_who_does_not_lead_or_knows_no_address(stage):
    stage.api.put(1, OURS)
    stage.api.owners[key(1)] = MANAGER
    stage.writer.served({key(2): {}})
    stage.lead(True)
    await asyncio.sleep(200)
    stage.lead(False)
    stage.writer.served({key(2): STATUS})
    await asyncio.sleep(200)
    assert (stage.api.asked, stage.api.addresses(1)) == ([], OURS)
    stage.lead(True)
    await stage.until(lambda: stage.api.addresses(1) == ())


@scenario
async def test_an_object_that_becomes_ours_while_it_is_asked_about_keeps_its_address(stage):
    stage.api.put(1, OURS)
    stage.api.put(2, OURS)
    stage.api.owners[key(1)] = MANAGER
    asked = stage.api._list

    def given(path, **query):
        stage.writer.served({key(1): STATUS})
        return asked(path, **query)

    stage.api._list = given
    stage.writer.served({key(2): STATUS})
    stage.lead(True)
    await stage.until(lambda: stage.api.asked)
    await asyncio.sleep(1)
    assert (stage.api.addresses(1), stage.writer.results["removed"]) == (OURS, 0)


@scenario
async def test_a_version_that_came_after_the_proof_is_not_touched(stage):
    stage.api.put(1, OURS)
    stage.api.put(2, OURS)
    stage.api.owners[key(1)] = MANAGER
    asked = stage.api._list

    def overtaken(path, **query):
        answer = asked(path, **query)
        stage.api.put(1, (OTHER, *OURS))
        stage.api.owners[key(1)] = "another-controller"
        return answer

    stage.api._list = overtaken
    stage.writer.served({key(2): STATUS})
    stage.lead(True)
    await stage.until(lambda: len(stage.api.asked) == 2)
    await asyncio.sleep(200)
    assert stage.api.addresses(1) == (OTHER, *OURS)
    assert stage.writer.results["removed"] == 0
