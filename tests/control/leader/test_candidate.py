"""The driver: requests as the API server wants them, word of every change, a clean end."""

from __future__ import annotations

import asyncio

import msgspec
from stage.fast_loop import run_fast

from ingressd.control.leader.candidate import Candidate, Clocks, Terms
from ingressd.control.sources.cluster.api import ApiError

PATH = "/apis/coordination.k8s.io/v1/namespaces/ns/leases"


class Api:
    """Leases by path, as the API server keeps them; `down` answers nothing."""

    def __init__(self):
        self.leases = {}
        self.version = 0
        self.asked = []
        self.down = False

    async def request(self, method, path, *, body=None, timeout_s=30.0):
        self.asked.append((method, path))
        await asyncio.sleep(0)
        if self.down:
            raise ApiError(0, "Unreachable", "refused")
        lease = msgspec.json.decode(body) if body else None
        if method == "POST":
            path = f"{path}/{lease['metadata']['name']}"
        present = self.leases.get(path)
        if method != "POST" and present is None:
            raise ApiError(404, "NotFound", "no lease")
        if method == "GET":
            return msgspec.json.encode(present)
        versions = [one["metadata"].get("resourceVersion") for one in (lease, present) if one]
        if (method == "POST" and present) or (method == "PUT" and versions[0] != versions[1]):
            raise ApiError(409, "Conflict", "somebody was faster")
        self.version += 1
        lease["metadata"]["resourceVersion"] = str(self.version)
        self.leases[path] = lease
        return msgspec.json.encode(lease)


def candidate(api, identity, heard):
    clocks = Clocks(asyncio.get_running_loop().time, lambda: 0.0, lambda: 0.5)
    return Candidate(
        api, namespace="ns", identity=identity, clocks=clocks, changed=lambda leads: heard.append((identity, leads))
    )


async def until(condition):
    while not condition():
        await asyncio.sleep(0.1)


async def end(*tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_the_second_takes_over_as_soon_as_the_first_lets_go():
    async def scenario():
        api, heard = Api(), []
        one, two = candidate(api, "one", heard), candidate(api, "two", heard)
        one.run_for(Terms("leader", 30.0))
        two.run_for(Terms("leader", 30.0))
        first = asyncio.create_task(one.run())
        await until(one.leads)
        second = asyncio.create_task(two.run())
        await asyncio.sleep(120)
        assert heard == [("one", True)]
        assert one.leads() and not two.leads()
        assert api.leases[f"{PATH}/leader"]["spec"]["holderIdentity"] == "one"
        await end(first)
        released_s = asyncio.get_running_loop().time()
        await one.release()
        assert not one.leads()
        assert api.leases[f"{PATH}/leader"]["spec"]["holderIdentity"] == ""
        await until(two.leads)
        assert asyncio.get_running_loop().time() - released_s < 3.0
        assert heard == [("one", True), ("one", False), ("two", True)]
        await end(second)

    run_fast(scenario())


def test_a_renewal_that_arrives_after_our_end_does_not_keep_the_lease():
    class Late(Api):
        """Whatever was under way for so long arrives when somebody has read the Lease."""

        late = 0

        async def request(self, method, path, **more):
            answer = await super().request(method, path, **more)
            if method == "GET" and self.late:
                self.late -= 1
                self.version += 1
                self.leases[path]["metadata"]["resourceVersion"] = str(self.version)
            return answer

    async def scenario():
        api, heard = Late(), []
        one = candidate(api, "one", heard)
        one.run_for(Terms("leader", 30.0))
        first = asyncio.create_task(one.run())
        await until(one.leads)
        await end(first)
        api.late = 2
        await one.release()
        assert api.leases[f"{PATH}/leader"]["spec"]["holderIdentity"] == ""

    run_fast(scenario())


def test_an_api_server_that_is_away_ends_leadership_in_time_and_word_of_it_comes():
    async def scenario():
        api, heard = Api(), []
        one = candidate(api, "one", heard)
        one.run_for(Terms("leader", 30.0))
        task = asyncio.create_task(one.run())
        await until(one.leads)
        api.down = True
        began_s = asyncio.get_running_loop().time()
        await until(lambda: ("one", False) in heard)
        assert 14.0 < asyncio.get_running_loop().time() - began_s < 21.0
        asked = len(api.asked)
        await asyncio.sleep(60)
        assert len(api.asked) - asked < 40, "asks without a pause"
        api.down = False
        await until(one.leads)
        await end(task)

    run_fast(scenario())


def test_without_an_election_it_leads_at_once_and_asks_nothing():
    async def scenario():
        api, heard = Api(), []
        one = candidate(api, "one", heard)
        assert not one.leads(), "nobody said what to run for"
        one.run_for(Terms("", 30.0))
        task = asyncio.create_task(one.run())
        await asyncio.sleep(60)
        assert one.leads() and heard == [("one", True)] and api.asked == []
        await end(task)
        await one.release()
        assert not one.leads() and api.asked == []

    run_fast(scenario())


def test_another_lease_lets_go_of_the_one_before():
    async def scenario():
        api, heard = Api(), []
        one = candidate(api, "one", heard)
        one.run_for(Terms("a", 30.0))
        task = asyncio.create_task(one.run())
        await until(one.leads)
        one.run_for(Terms("b", 10.0))
        await until(lambda: f"{PATH}/b" in api.leases)
        assert api.leases[f"{PATH}/a"]["spec"]["holderIdentity"] == ""
        assert api.leases[f"{PATH}/b"]["spec"]["leaseDurationSeconds"] == 10
        await until(one.leads)
        assert one.lease() == "b"
        await end(task)

    run_fast(scenario())


def test_a_lease_of_another_is_left_alone_at_the_end():
    async def scenario():
        api, heard = Api(), []
        one, two = candidate(api, "one", heard), candidate(api, "two", heard)
        for each in (one, two):
            each.run_for(Terms("leader", 30.0))
        first = asyncio.create_task(one.run())
        await until(one.leads)
        second = asyncio.create_task(two.run())
        await asyncio.sleep(10)
        await end(first, second)
        before = len(api.asked)
        await two.release()
        assert len(api.asked) == before
        assert api.leases[f"{PATH}/leader"]["spec"]["holderIdentity"] == "one"

    run_fast(scenario())
