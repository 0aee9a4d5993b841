"""List and watch: what goes wrong, and that nothing is missed, told twice, or asked for too often."""

import asyncio
import logging

import pytest
from control.sources.cluster.following import Following
from control.sources.cluster.played_api import PlayedApi
from stage.fast_loop import run_fast

from ingressd.control.sources.cluster import reflector as rules
from ingressd.control.sources.cluster.api import ApiError


def follow(scenario, **options):
    """Run a scenario with a server that has two Ingresses, and a reflector that has seen them."""

    async def run():
        api = PlayedApi()
        api.put("Ingress", "a")
        api.put("Ingress", "b")
        async with Following(api, **options) as following:
            await asyncio.sleep(0.1)
            assert following.in_step()
            following.told.puts.clear()
            following.changes = 0
            await scenario(api, following)

    run_fast(run(), within_s=10_000)


async def soon(condition, within_s=5.0):
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    while not condition():
        assert loop.time() - began_s < within_s, f"not within {within_s} s"
        await asyncio.sleep(0.01)
    return loop.time() - began_s


def lists(api):
    return [query for path, query, _ in api.requests if path.endswith("ingresses") and "watch" not in query]


def watches(api):
    return [query for path, query, _ in api.requests if "watch" in query]


def test_what_changes_is_told_once_and_what_goes_is_gone():
    async def scenario(api, following):
        api.put("Ingress", "a", spec={"x": 1})
        api.put("Service", "a")
        api.delete("Ingress", "b")
        api.put("Ingress", "c")
        await asyncio.sleep(0.01)
        assert following.in_step()
        assert following.told.puts == ["a", "c"]
        assert following.told.deleted == ["b"]

    follow(scenario)


def test_a_watch_asks_for_bookmarks_and_lasts_five_to_ten_minutes_by_chance():
    async def scenario(api, following):
        await asyncio.sleep(6000)
        found = watches(api)
        assert {query["allowWatchBookmarks"] for query in found} == {"true"}
        lasts = {int(query["timeoutSeconds"]) for query in found}
        assert len(lasts) > 3
        assert min(lasts) >= 300
        assert max(lasts) <= 600
        assert len(lists(api)) == 1
        assert following.reflector.restarts["ended"] == len(found) - 1

    follow(scenario)


def test_a_list_comes_in_pages_and_begins_again_when_its_token_expires():
    async def scenario():
        api = PlayedApi()
        for number in range(1200):
            api.put("Ingress", f"i{number}")
        taken = []

        async def request(*args, query=None, **more):
            taken.append(dict(query or {}))
            if len(taken) == 2:
                api.compact()
            return await PlayedApi.request(api, *args, query=query, **more)

        api.request = request
        async with Following(api, pulse=False) as following:
            await asyncio.sleep(1)
            assert following.in_step()
        assert [query.get("limit") for query in taken] == ["500"] * 5
        assert ["continue" in query for query in taken] == [False, True, False, True, True]

    run_fast(scenario())


def test_a_list_whose_tokens_always_expire_is_asked_for_whole():
    async def scenario():
        api = PlayedApi()
        for number in range(1200):
            api.put("Ingress", f"i{number}")
        taken = []

        async def request(*args, query=None, **more):
            taken.append(dict(query or {}))
            if query and "continue" in query:
                api.compact()
            return await PlayedApi.request(api, *args, query=query, **more)

        api.request = request
        async with Following(api, pulse=False) as following:
            await asyncio.sleep(1)
            assert following.in_step()
        assert "limit" not in taken[-1]
        assert len(taken) == 5

    run_fast(scenario())


@pytest.mark.parametrize("how", ["event", "status"])
def test_410_lists_again_at_once_and_tells_only_the_difference(how, caplog):
    async def scenario(api, following):
        with caplog.at_level(logging.INFO, "ingressd.cluster"):
            following.told.puts.clear()
            api.deafen_streams()
            api.put("Ingress", "a", spec={"x": 1})
            api.delete("Ingress", "b")
            api.put("Ingress", "c")
            api.put("Ingress", "d")
            api.compact()
            if how == "status":
                api.faults.append(ApiError(410, "Expired", "too old resource version"))
            api.break_streams()
            assert await soon(following.in_step) < 1
        assert sorted(following.told.puts) == ["a", "c", "d"]
        assert following.told.deleted == ["b"]
        assert following.reflector.lists == {"first": 1, "expired": 1}
        assert "ingresses: listed again because the version that we had was too old" in caplog.text

    follow(scenario)


def test_what_did_not_change_is_not_told_again_by_a_list():
    async def scenario(api, following):
        api.compact()
        api.break_streams()
        await soon(lambda: following.reflector.lists["expired"] == 1)
        assert (following.told.puts, following.told.deleted) == ([], [])

    follow(scenario)


def test_a_server_whose_versions_are_always_too_old_is_not_asked_without_rest():
    async def scenario(api, following):
        api.requests.clear()
        real = api._list

        def list_then_compact(*args):
            found = real(*args)
            api.compact()
            return found

        api._list = list_then_compact
        api.compact()
        api.break_streams()
        await asyncio.sleep(60)
        assert 10 < len(lists(api)) < 60

    follow(scenario)


@pytest.mark.parametrize("cut", [1, 40, 170])
def test_an_event_that_is_cut_off_counts_for_nothing_and_comes_again(cut):
    async def scenario(api, following):
        api.faults.append(cut)
        api.break_streams()
        await asyncio.sleep(1)
        api.put("Ingress", "c", spec={"x": "y" * 100})
        api.put("Ingress", "d")
        assert await soon(following.in_step) < 1
        assert following.told.puts == ["c", "d"]
        assert len(lists(api)) == 1
        assert following.reflector.restarts["broken"] == 2

    follow(scenario)


def test_a_server_that_always_cuts_its_first_event_off_is_not_in_step_and_not_asked_without_rest():
    async def scenario(api, following):
        api.faults.extend([40] * 1000)
        api.break_streams()
        await asyncio.sleep(1)
        before = len(watches(api))
        api.put("Ingress", "c", spec={"x": "y" * 100})
        await asyncio.sleep(60)
        assert following.reflector.age_s(asyncio.get_running_loop().time()) > 55
        assert following.reflector.trouble is not None
        assert 15 < len(watches(api)) - before < 60
        api.faults.clear()
        assert await soon(following.in_step) < 5

    follow(scenario)


def test_an_event_of_any_size():
    async def scenario(api, following):
        api.put("Ingress", "large", spec={"x": "y" * 3_000_000})
        await asyncio.sleep(0.1)
        assert following.in_step()

    follow(scenario)


def test_a_silent_server_is_noticed_and_what_changed_is_there_soon_after_it_is_back():
    async def scenario(api, following):
        api.deafen_streams()
        api.away = True
        await asyncio.sleep(600)
        assert following.pulse.away is not None
        assert following.reflector.age_s(asyncio.get_running_loop().time()) > 590
        api.put("Ingress", "c")
        api.delete("Ingress", "a")
        api.away = False
        assert await soon(following.in_step) < 5
        assert len(lists(api)) == 1
        assert following.reflector.age_s(asyncio.get_running_loop().time()) < 5

    follow(scenario)


def test_connections_of_before_are_not_used_again_after_a_hole():
    async def scenario(api, following):
        api.away = True
        await asyncio.sleep(60)
        assert api.renewed == 1

    follow(scenario)


def test_a_hole_of_a_few_seconds_is_noticed_too():
    async def scenario(api, following):
        api.deafen_streams()
        api.away = True
        await asyncio.sleep(4)
        api.put("Ingress", "c")
        api.away = False
        assert await soon(following.in_step) < 5

    follow(scenario)


def test_a_list_that_was_asked_for_in_a_hole_is_asked_for_again():
    async def scenario(api, following):
        api.compact()
        api.faults.append(ApiError(410, "Expired", "too old"))
        api.break_streams()
        api.away = True
        await asyncio.sleep(18)
        api.away = False
        api.put("Ingress", "c")
        assert await soon(following.in_step) < 5

    follow(scenario)


def test_a_quiet_watch_is_in_step_as_long_as_the_server_answers():
    async def scenario(api, following):
        await asyncio.sleep(200)
        assert following.reflector.age_s(asyncio.get_running_loop().time()) < 6
        assert len(watches(api)) == 1

    follow(scenario)


def test_a_watch_that_sent_bookmarks_and_then_nothing_is_begun_anew():
    async def scenario(api, following):
        await asyncio.sleep(1)
        api.bookmark()
        await asyncio.sleep(1)
        api.deafen_streams()
        api.put("Ingress", "c")
        await asyncio.sleep(rules.SILENCE_S - 2)
        assert len(watches(api)) == 1
        assert await soon(following.in_step, 10) < 8
        assert following.reflector.restarts["silent"] == 1

    follow(scenario)


def test_after_a_bookmark_the_watch_goes_on_from_there():
    async def scenario(api, following):
        for _ in range(5):
            api.put("Service", "s")
        api.bookmark()
        await asyncio.sleep(0.1)
        api.compact()
        api.oldest = api.version - 1  # What the bookmark said is still there.
        api.break_streams()
        await soon(lambda: len(watches(api)) == 2)
        assert watches(api)[1]["resourceVersion"] == str(api.version - 1)
        assert len(lists(api)) == 1

    follow(scenario)


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_ten_minutes_of_refusals_then_in_step_within_five_seconds_without_a_list(status):
    async def scenario(api, following):
        api.faults.extend(ApiError(status, "Injected", "no") for _ in range(100_000))
        api.break_streams()
        began = len(api.requests)
        await asyncio.sleep(600)
        asked = [path for path, _, _ in api.requests[began:] if path != "/version"]
        assert 150 < len(asked) < 500
        assert following.reflector.trouble.status == status
        api.faults.clear()
        api.put("Ingress", "c")
        api.delete("Ingress", "a")
        assert await soon(following.in_step) < 5
        assert len(lists(api)) == 1
        await asyncio.sleep(10)
        assert following.reflector.trouble is None

    follow(scenario)


def test_what_a_server_asks_for_with_retry_after_is_waited_but_not_for_ever():
    async def scenario(api, following):
        api.faults.extend(ApiError(429, "TooManyRequests", "no", retry_after_s=2) for _ in range(3))
        api.break_streams()
        began_s = asyncio.get_running_loop().time()
        await soon(lambda: not api.faults and len(watches(api)) == 5, 20)
        assert 6 <= asyncio.get_running_loop().time() - began_s < 8
        api.faults.append(ApiError(429, "TooManyRequests", "no", retry_after_s=3600))
        api.break_streams()
        api.put("Ingress", "c")
        assert await soon(following.in_step) < 4.5

    follow(scenario)


def test_no_permission_is_said_and_asked_again_and_nothing_is_lost():
    async def scenario(api, following):
        api.faults.extend(ApiError(403, "Forbidden", "ingresses is forbidden") for _ in range(9))
        api.break_streams()
        await asyncio.sleep(20)
        assert following.reflector.refused
        assert following.in_step()
        api.put("Ingress", "c")
        await soon(following.in_step, 30)
        await asyncio.sleep(10)
        assert following.reflector.trouble is None

    follow(scenario)


def test_a_server_that_has_just_started_and_knows_neither_roles_nor_old_versions_costs_no_five_seconds():
    """As a real one: no connection, then 403 until its roles are read, then 410 for what is older than its start."""

    async def scenario(api, following):
        api.faults.extend(ApiError(0, "Unreachable", "connection refused") for _ in range(30))
        api.break_streams()
        await soon(lambda: not api.faults, 120)
        api.put("Ingress", "c")
        api.delete("Ingress", "a")
        api.compact()
        api.faults.extend(ApiError(403, "Forbidden", "ingresses is forbidden") for _ in range(2))
        assert await soon(following.in_step) < 5
        assert following.reflector.lists == {"first": 1, "expired": 1}

    follow(scenario)


def test_a_watch_that_is_refused_again_and_again_lists():
    async def scenario(api, following):
        api.faults.extend(ApiError(504, "Timeout", "Too large resource version") for _ in range(3))
        api.break_streams()
        await soon(lambda: following.reflector.lists["refused"] == 1)

    follow(scenario)


def test_an_etcd_put_back_from_a_backup_is_noticed_by_its_versions():
    async def scenario(api, following):
        api.put("Ingress", "c")
        api.put("Service", "s")
        await asyncio.sleep(0.1)
        api.rewind(3)
        api.objects.pop(("Ingress", "ns", "c"))
        await asyncio.sleep(1)
        assert not following.in_step()
        api.bookmark()
        await soon(lambda: following.in_step() and following.reflector.lists["rewound"] == 1)

    follow(scenario)


def test_a_watch_that_ends_as_soon_as_it_begins_is_not_begun_without_rest():
    async def scenario(api, following):
        loop = asyncio.get_running_loop()

        async def end():
            while loop.time() < until_s:
                api.end_streams()
                await asyncio.sleep(0.001)

        before, until_s = len(watches(api)), loop.time() + 30
        await end()
        assert len(watches(api)) - before < 40

    follow(scenario)


def test_log_lines_are_one_a_change_of_state(caplog):
    async def scenario(api, following):
        with caplog.at_level(logging.INFO, "ingressd.cluster"):
            api.faults.extend(ApiError(500, "Injected", f"no {number}") for number in range(100))
            api.break_streams()
            await asyncio.sleep(600)
        lines = [record.getMessage() for record in caplog.records]
        assert lines == [
            "ingresses: 500 Injected: no 0; asking again until it works",
            "ingresses: in step again",
        ]
        assert following.changes == 2

    follow(scenario)


def test_a_watch_that_breaks_off_once_is_no_news(caplog):
    async def scenario(api, following):
        with caplog.at_level(logging.INFO, "ingressd.cluster"):
            api.break_streams()
            await asyncio.sleep(60)
        assert caplog.records == []
        assert following.changes == 0

    follow(scenario)


def test_the_selector_goes_with_lists_and_watches():
    async def scenario():
        api = PlayedApi()
        async with Following(api, selector="tier=web", namespace="shop"):
            await asyncio.sleep(0.1)
        path = "/apis/networking.k8s.io/v1/namespaces/shop/ingresses"
        asked = [(path, query["labelSelector"]) for path, query, _ in api.requests if path != "/version"]
        assert asked == [(path, "tier=web")] * 2

    run_fast(scenario())


def test_metadata_alone_is_asked_for_of_secrets():
    async def scenario():
        api = PlayedApi()
        async with Following(api, kind="Secret"):
            await asyncio.sleep(0.1)
        accepts = [accept for path, _, accept in api.requests if path != "/version"]
        assert accepts == [
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        ]

    run_fast(scenario())


def test_a_list_that_makes_no_sense_is_trouble_and_takes_nothing_away():
    async def scenario(api, following):
        real = api._list
        api._list = lambda *_: {"metadata": {"resourceVersion": "1"}, "items": [{"metadata": 7}]}
        api.compact()
        api.break_streams()
        await asyncio.sleep(10)
        assert following.reflector.trouble.reason == "Malformed"
        assert following.in_step()
        api._list = real
        await soon(lambda: following.reflector.lists["expired"] == 1)

    follow(scenario)
