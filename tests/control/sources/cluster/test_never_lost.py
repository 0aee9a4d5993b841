"""Whatever happens to lists and watches, in any order: when it is over, we know what the server knows."""

import asyncio

from control.sources.cluster.following import Sourced
from control.sources.cluster.played_api import PlayedApi
from hypothesis import example, given, settings
from hypothesis import strategies as st
from stage.fast_loop import run_fast

from ingressd.control.objects.event import ObjectKey
from ingressd.control.sources.cluster import reflector
from ingressd.control.sources.cluster.api import ApiError

KINDS = ("Ingress", "Service", "Secret")
NAMES = st.sampled_from(["a", "b", "c", "d"])
WANTED = frozenset(ObjectKey("Secret", "ns", name) for name in "abc")
ERRORS = [ApiError(status, "Injected", "no") for status in (0, 401, 403, 404, 410, 429, 500, 504)]

STEP = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(KINDS), NAMES),
    st.tuples(st.just("delete"), st.sampled_from(KINDS), NAMES),
    st.tuples(st.just("wait"), st.sampled_from([0.001, 0.05, 0.5, 4.0, 30.0, 700.0])),
    st.tuples(st.just("fault"), st.one_of(st.sampled_from(ERRORS), st.integers(1, 400), st.just("hang"))),
    st.tuples(st.sampled_from(["compact", "break", "end", "deafen", "bookmark", "away", "back"])),
)
SHORTEST_HOLE_S = 6
"""A watch that falls silent for good in a shorter one is found by its bookmarks, or when it ends."""


def play(api, step):
    match step:
        case ("put", kind, name):
            api.put(kind, name, data={"n": "eA=="}) if kind == "Secret" else api.put(kind, name)
        case ("delete", kind, name):
            api.delete(kind, name)
        case ("fault", fault):
            api.faults.append(fault)
        case ("compact",):
            api.compact()
        case ("break",):
            api.break_streams()
        case ("end",):
            api.end_streams()
        case ("deafen",):
            api.deafen_streams()
            api.away = True
        case ("bookmark",):
            api.bookmark()
        case ("away",):
            api.away = True
        case ("back",):
            api.away = False


OVERTAKEN = [
    ("put", "Secret", "a"),
    ("wait", 0.001),
    ("put", "Secret", "a"),
    ("fault", "hang"),
    ("wait", 0.5),
    ("deafen",),
]
"""A second fetch of a Secret succeeds while the first hangs, fails later, and is mended by what is known already."""


@given(st.lists(STEP, max_size=40), st.integers(0, 5))
@example(OVERTAKEN, 0)
@settings(max_examples=200, deadline=None)
def test_in_the_end_we_know_what_the_server_knows(steps, seed):
    async def scenario():
        api = PlayedApi()
        api.put("Ingress", "a")
        async with Sourced(api, seed=seed) as sourced:
            asked = False
            for step in steps:
                if step[0] == "wait":
                    await asyncio.sleep(step[1])
                else:
                    play(api, step)
                if step[0] == "deafen":
                    await asyncio.sleep(SHORTEST_HOLE_S)
                if not asked and sourced.batches and sourced.last.listed:
                    asked = True
                    sourced.source.want(WANTED)
            api.away = False
            api.faults.clear()
            await sourced.until(lambda: sourced.batches and sourced.last.listed, within_s=30)
            sourced.source.want(WANTED)
            for _ in range(10):
                await asyncio.sleep(3)
                api.bookmark()  # As a server does, if not as often.
            await sourced.until(lambda: told(sourced) == truth(api), within_s=1)
            await sourced.until(lambda: sourced.last.complete and sourced.last.problems == (), within_s=1)

    run_fast(scenario(), within_s=100_000)


def told(sourced):
    return {tuple(key): value.metadata.resource_version for key, value in sourced.objects.items()}


def truth(api):
    return {
        key: value["metadata"]["resourceVersion"]
        for key, value in api.objects.items()
        if key[0] != "Secret" or ObjectKey(*key) in WANTED
    }


@given(st.binary(max_size=5), st.lists(st.integers(0, 300), max_size=8))
@settings(max_examples=50, deadline=None)
def test_events_are_the_same_however_they_are_cut_into_reads(seed, cuts):
    from ingressd.control.sources.cluster.wire import Lines

    events = [{"type": "ADDED", "object": {"name": "x" * (byte * 3)}} for byte in seed]
    import json

    data = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    lines, found, at = Lines(), [], 0
    for cut in [*sorted(cuts), len(data)]:
        found += lines.feed(data[at:cut])
        at = max(at, min(cut, len(data)))
    assert [json.loads(bytes(event.object)) for event in found] == [event["object"] for event in events]
    assert reflector.PAGE == 500
