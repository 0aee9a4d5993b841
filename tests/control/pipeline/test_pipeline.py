"""The loop: nothing before every source is complete, statuses after acknowledgement, sockets before deltas."""

from __future__ import annotations

import asyncio
import logging

import msgspec
import pytest

from ingressd.control.objects.event import ObjectEvent, ObjectKey, Position
from ingressd.control.objects.kubernetes import (
    HTTPIngressPath,
    HTTPIngressRuleValue,
    Ingress,
    IngressBackend,
    IngressClass,
    IngressClassSpec,
    IngressRule,
    IngressServiceBackend,
    IngressSpec,
    IngressTLS,
    Metadata,
    ServiceBackendPort,
)
from ingressd.control.objects.static import ProcessSettings, StaticEndpoint, StaticListener, StaticRoute, StaticUpstream
from ingressd.control.pipeline.pipeline import HOLD_S, LONGEST_PAUSE_S, UNSERVED, Pipeline
from ingressd.control.pipeline.places import Places, key_of_origin
from ingressd.control.pipeline.problems import ProblemBoard
from ingressd.control.pipeline.publisher import Publisher
from ingressd.control.pipeline.slots import Slots
from ingressd.control.sources.batch import SourceBatch
from ingressd.ipc import orders
from ingressd.model.problem import Origin, Problem
from ingressd.observe.shared_table import SharedTable
from ingressd.observe.totals import Totals


class Spans:
    def translated(self, seconds: float) -> None:
        pass

    def published(self, seconds: float) -> None:
        pass


class Stage:
    def __init__(self, table: SharedTable, sources=("local",), *, answer=lambda keys: True, recall=tuple) -> None:
        self.now_s = 100.0
        self.wanted = []
        self.real = None
        self.told = []
        publisher = Publisher(
            slots=Slots(table, self.clock),
            totals=Totals(),
            clock=self.clock,
            applied=lambda *_: None,
            acknowledged=lambda version: self.pipeline.acknowledged(version),
        )
        self.pipeline = Pipeline(
            sources,
            publisher=publisher,
            board=ProblemBoard(logging.getLogger("test.pipeline")),
            places=lambda store: Places(store.position, lambda position, fields: [7] * len(fields)),
            tell=self.told.append,
            clock=self.clock,
            spans=Spans(),
            own={},
            want=lambda keys: self.wanted.append(keys) or answer(keys),
            recall=recall,
        )

    def clock(self) -> float:
        return self.now_s if self.real is None else self.real()

    def clock_of_loop(self) -> None:
        """From here on time passes."""
        self.real = asyncio.get_running_loop().time

    @property
    def version(self) -> int:
        return self.pipeline.publisher.fleet.version


@pytest.fixture
def table():
    table = SharedTable.create(1)
    yield table
    table.close()


@pytest.fixture
def stage(table):
    return Stage(table)


def event(value, kind=None, name="") -> ObjectEvent:
    kind = kind or type(value).__name__
    return ObjectEvent(ObjectKey(kind, "", name or value.name), value, Position("/x.yaml", 1))


LISTENER = StaticListener("http", "127.0.0.1", 8080, "HTTP")
SETTINGS = event(ProcessSettings(values={"shutdown-grace-period": "3"}), name="settings")
API = StaticUpstream("api", (StaticEndpoint("127.0.0.1", 80, addresses=("127.0.0.1",)),))
ROUTE = StaticRoute("a.test", "/", "Prefix", "api")


def route_event(route=ROUTE) -> ObjectEvent:
    return event(route, name=f"Prefix {route.host}{route.path}")


def test_nothing_goes_out_before_every_source_is_complete(table):
    stage = Stage(table, ("local", "cluster"))
    stage.pipeline.take([SourceBatch("local", (event(LISTENER),))])
    stage.pipeline.take([SourceBatch("cluster", (event(API),), complete=False)])
    assert (stage.version, stage.told) == (0, [])
    stage.pipeline.take([SourceBatch("cluster", (route_event(),))])
    assert stage.version == 1
    assert "host/a.test" in stage.pipeline.publisher.fleet.units


def ingress(name, secret, *, host="a.test"):
    spec = IngressSpec(
        ingress_class_name="ingressd",
        rules=(IngressRule(host, HTTPIngressRuleValue((HTTPIngressPath("/", "Prefix", IngressBackend(BACKEND)),))),),
        tls=(IngressTLS((host,), secret),) if secret else (),
    )
    return ObjectEvent(ObjectKey("Ingress", "ns", name), Ingress(Metadata(name, "ns"), spec))


BACKEND = IngressServiceBackend("s", ServiceBackendPort(number=80))
CLASS = ObjectEvent(
    ObjectKey("IngressClass", "", "ingressd"),
    IngressClass(Metadata("ingressd"), IngressClassSpec("ingressd.dev/ingress-controller")),
)


def secret_key(name):
    return ObjectKey("Secret", "ns", name)


def test_what_is_listed_is_translated_to_learn_what_is_wanted_and_nothing_is_said_of_it(table):
    stage = Stage(table, ("local", "cluster"), answer=lambda keys: False)
    take = stage.pipeline.take
    take([SourceBatch("local")])
    take([SourceBatch("cluster", (CLASS, ingress("a", "one")), complete=False)])
    assert stage.wanted == []
    take([SourceBatch("cluster", (ingress("b", "two", host="b.test"),), complete=False, listed=True)])
    assert stage.wanted == [{secret_key("one"), secret_key("two")}]
    assert (stage.version, stage.told, stage.pipeline.board.all()) == (0, [], [])
    take([SourceBatch("cluster", (ingress("c", "two", host="c.test"),), complete=False, listed=True)])
    assert len(stage.wanted) == 1
    assert stage.version == 0
    take([SourceBatch("cluster")])
    assert stage.version == 1
    units = stage.pipeline.publisher.fleet.units
    assert {"host/a.test", "host/b.test", "host/c.test"} <= units.keys()
    assert "CertificateNotFound" in [problem.reason for problem in stage.pipeline.board.all()]


def test_a_cluster_whose_objects_want_nothing_is_complete_when_it_is_listed(table):
    stage = Stage(table, ("local", "cluster"))
    stage.pipeline.take([SourceBatch("local")])
    stage.pipeline.take([SourceBatch("cluster", (CLASS, ingress("a", "")), complete=False, listed=True)])
    assert (stage.wanted, stage.version) == ([set()], 1)


def test_a_change_waits_for_a_secret_that_is_new_but_not_for_long(table):
    known = {secret_key("one")}
    stage = Stage(table, ("cluster",), answer=lambda keys: keys <= known)
    take = stage.pipeline.take
    take([SourceBatch("cluster", (CLASS, ingress("a", "one")))])
    assert stage.version == 1
    take([SourceBatch("cluster", (ingress("b", "two", host="b.test"),), complete=False)])
    assert stage.version == 1
    take([SourceBatch("cluster", (ingress("c", "", host="c.test"),), complete=False)])
    stage.now_s += HOLD_S - 0.01
    take([])
    assert stage.version == 1
    stage.now_s += 0.01
    take([])  # As `run` does when nothing comes.
    assert stage.version == 2
    assert {"host/b.test", "host/c.test"} <= stage.pipeline.publisher.fleet.units.keys()
    take([SourceBatch("cluster", (ingress("d", "", host="d.test"),), complete=False)])
    assert stage.version == 3  # It waited once; an API server that does not answer holds up nothing else.


def test_what_came_and_went_while_it_was_held_is_not_published(table):
    stage = Stage(table, ("cluster",), answer=lambda keys: len(keys) < 2)
    take = stage.pipeline.take
    take([SourceBatch("cluster", (CLASS, ingress("a", "one")))])
    take([SourceBatch("cluster", (ingress("b", "two", host="b.test"), ingress("a", "one", host="x.test")))])
    take([SourceBatch("cluster", (ObjectEvent(ObjectKey("Ingress", "ns", "b"), None),), complete=False)])
    assert stage.version == 2
    hosts = {key for key in stage.pipeline.publisher.fleet.units if key.startswith("host/")}
    assert hosts == {"host/x.test"}


def test_an_object_of_a_file_hides_that_of_the_cluster_and_says_so(table):
    stage = Stage(table, ("local", "cluster"))
    take, key = stage.pipeline.take, ObjectKey("Ingress", "ns", "a")
    of_file, of_cluster, newer = (ingress("a", "", host=f"{name}.test") for name in ("file", "cluster", "newer"))
    of_file = of_file._replace(position=Position("/m.yaml", 3))

    def hosts():
        return {key for key in stage.pipeline.publisher.fleet.units if key.startswith("host/")}

    def told():
        return [str(problem) for problem in stage.pipeline.board.all() if problem.reason == "DuplicateObject"]

    take([SourceBatch("local", (of_file,)), SourceBatch("cluster", (CLASS, of_cluster))])
    assert hosts() == {"host/file.test"}
    assert told() == [
        "/m.yaml:3: warning: Ingress ns/a: is in the cluster too: the version of the file counts, "
        "that of the cluster has no effect [DuplicateObject]"
    ]
    take([SourceBatch("cluster", (newer,))])
    assert hosts() == {"host/file.test"}
    take([SourceBatch("local", (ObjectEvent(key, None),))])
    assert (hosts(), told(), stage.pipeline.store.position(key)) == ({"host/newer.test"}, [], None)
    take([SourceBatch("local", (of_file,))])
    assert (hosts(), len(told())) == ({"host/file.test"}, 1)
    take([SourceBatch("cluster", (ObjectEvent(key, None),))])
    assert (hosts(), told()) == ({"host/file.test"}, [])
    take([SourceBatch("local", (ObjectEvent(key, None),))])
    assert hosts() == set()


def test_held_changes_go_out_by_themselves(table):
    async def scenario():
        stage = Stage(table, ("cluster",), answer=lambda keys: not keys)
        stage.pipeline.take([SourceBatch("cluster", (CLASS,))])
        await stage.pipeline.batches.put(SourceBatch("cluster", (ingress("a", "one"),), complete=False))
        stage.clock_of_loop()
        running = asyncio.create_task(stage.pipeline.run())
        async with asyncio.timeout(30):
            while stage.version < 2:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())


def test_an_empty_world_is_a_version_too(stage):
    stage.pipeline.take([SourceBatch("local")])
    assert stage.version == 1


def test_sockets_and_drain_are_ordered_before_workers_hear(stage):
    stage.pipeline.take([SourceBatch("local", (event(LISTENER), SETTINGS))])
    listeners, policy = stage.told
    assert (listeners.op, listeners.listeners) == (orders.LISTENERS, (("http", "127.0.0.1", 8080),))
    assert (policy.op, policy.grace_s, policy.timeout_s) == (orders.POLICY, 3.0, 240.0)
    stage.told.clear()
    stage.pipeline.take([SourceBatch("local", (event(API), route_event()))])
    assert stage.told == []
    gone = ObjectEvent(ObjectKey("StaticListener", "", "http"), None)
    stage.pipeline.take([SourceBatch("local", (gone,))])
    assert [order.listeners for order in stage.told] == [()]


def test_a_batch_that_changes_nothing_publishes_nothing(stage):
    stage.pipeline.take([SourceBatch("local", (event(API), route_event()))])
    stage.pipeline.take([SourceBatch("local", (event(API), route_event()))])
    assert stage.version == 1


def test_a_listener_that_is_not_bound_is_a_problem_until_it_is(stage):
    stage.pipeline.take([SourceBatch("local", (event(LISTENER),))])
    stage.pipeline.bound("http", "Address already in use")
    (problem,) = stage.pipeline.board.all()
    assert (problem.reason, problem.field, problem.message) == ("NotBound", "http", "Address already in use")
    assert stage.pipeline.listeners()[0][1] == "Address already in use"
    stage.pipeline.bound("http", "")
    assert stage.pipeline.board.all() == []


def test_problems_of_translation_say_where(stage):
    missing = StaticRoute("b.test", "/", "Prefix", "nowhere")
    stage.pipeline.take([SourceBatch("local", (route_event(missing),))])
    (problem,) = stage.pipeline.board.all()
    assert (problem.file, problem.line) == ("/x.yaml", 7)


def test_statuses_are_true_only_when_every_worker_serves_them(stage, monkeypatch):
    key = ObjectKey("Ingress", "default", "a")
    translate = stage.pipeline._translator.translate
    monkeypatch.setattr(
        stage.pipeline._translator,
        "translate",
        lambda *args: translate(*args)._replace(statuses={key: {"x": 1}}, told=frozenset({key})),
    )
    fleet = stage.pipeline.publisher.fleet
    fleet.add((0, 1), 0)
    stage.pipeline.take([SourceBatch("local", (event(API), route_event()))])
    assert stage.pipeline.statuses() == {}
    fleet.next((0, 1))
    fleet.acknowledge((0, 1), 1)
    stage.pipeline.acknowledged(1)
    assert stage.pipeline.statuses() == {key: {"x": 1}}


@pytest.fixture
def told(stage, monkeypatch):
    """Translations that give an object the status that stands in `status`, and what is heard of it as served."""
    heard = []
    key = ObjectKey("Ingress", "default", "a")
    stage.status = None
    stage.pipeline._served = heard.append
    translate = stage.pipeline._translator.translate

    def translated(*args):
        statuses = {} if stage.status is None else {key: stage.status}
        return translate(*args)._replace(statuses=statuses, told=frozenset({key}))

    monkeypatch.setattr(stage.pipeline._translator, "translate", translated)
    fleet = stage.pipeline.publisher.fleet
    fleet.add((0, 1), 0)

    def change(status, port):
        stage.status = status
        upstream = StaticUpstream("api", (StaticEndpoint("127.0.0.1", port, addresses=("127.0.0.1",)),))
        stage.pipeline.take([SourceBatch("local", (event(upstream), route_event()))])

    def acknowledge():
        sending = fleet.next((0, 1))
        fleet.acknowledge((0, 1), sending.version)
        stage.pipeline.acknowledged(sending.version)

    return key, change, acknowledge, heard


def test_a_change_is_heard_of_once_it_is_served_with_what_changed(stage, told):
    key, change, acknowledge, heard = told
    change({"n": 1}, 1)
    assert heard == []
    acknowledge()
    change(None, 2)
    acknowledge()
    assert [one.statuses for one in heard] == [{key: {"n": 1}}, {key: None}]
    assert {str(one) for one in heard[1].changed} == {"StaticUpstream api"}
    assert stage.pipeline.statuses() == {}


def test_changes_without_end_do_not_keep_the_first_from_being_told(stage, told):
    _, change, _, heard = told
    fleet = stage.pipeline.publisher.fleet
    change({"n": 0}, 1)
    for number in range(1, 200):
        # A worker that is always one version behind.
        sending = fleet.next((0, 1))
        change({"n": number}, number + 1)
        fleet.acknowledge((0, 1), sending.version)
        stage.pipeline.acknowledged(sending.version)
    assert len(heard) == 199
    assert next(iter(heard[-1].statuses.values())) == {"n": 198}


def test_while_workers_say_nothing_news_are_put_together(stage, told):
    key, change, acknowledge, heard = told
    for number in range(3 * UNSERVED):
        change({"n": number}, number + 1)
    assert len(stage.pipeline._unserved) == UNSERVED
    acknowledge()
    assert len(heard) == UNSERVED
    assert stage.pipeline.statuses() == {key: {"n": 3 * UNSERVED - 1}}


def test_the_first_change_after_a_rest_goes_at_once_and_a_burst_is_gathered(stage):
    async def body():
        taken = []
        stage.pipeline.take = lambda batches: taken.append(len(list(batches)))
        loop = asyncio.create_task(stage.pipeline.run())
        batches = [SourceBatch("local", (event(API),)) for _ in range(4)]
        await stage.pipeline.batches.put(batches[0])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert taken == [1]
        stage.pipeline._published_at_s = stage.now_s
        for batch in batches[1:]:
            await stage.pipeline.batches.put(batch)
        async with asyncio.timeout(30):
            while len(taken) < 2:
                await asyncio.sleep(LONGEST_PAUSE_S)
        assert taken == [1, 3]
        loop.cancel()

    asyncio.run(body())


@pytest.mark.parametrize(
    ("origin", "key"),
    [
        (Origin("Ingress", "shop", "a", "spec"), ObjectKey("Ingress", "shop", "a")),
        (Origin("Config", "", "routes", "Prefix a/"), ObjectKey("StaticRoute", "", "Prefix a/")),
        (Origin("Config", "", "upstreams", "api"), ObjectKey("StaticUpstream", "", "api")),
        (Origin("Config", "", "tls", "a.crt"), ObjectKey("StaticTls", "", "a.crt")),
        (Origin("Config", "", "flags"), ObjectKey("Flags", "", "flags")),
        (Origin("Config", "", "settings"), ObjectKey("ProcessSettings", "", "settings")),
    ],
)
def test_an_origin_leads_back_to_its_object(origin, key):
    assert key_of_origin(origin) == key


def test_a_place_is_looked_up_once_and_one_that_is_known_stays():
    looked = []

    def locate(position, fields):
        looked.append(fields)
        return [3 + len(field) for field in fields]

    places = Places(lambda key: Position("/a.yaml") if key.name == "a" else None, locate)
    problem = Problem("error", Origin("Ingress", "n", "a"), "Bad", "spec", "no")
    other = Problem("error", Origin("Ingress", "n", "elsewhere"), "Bad", "spec", "no")
    placed = Problem("error", Origin("Ingress", "n", "a"), "Bad", "spec", "no", "/b.yaml", 9)
    second = Problem("error", Origin("Ingress", "n", "a"), "Bad", "spec.tls", "no")
    for _ in range(2):
        found = places.add([problem, other, placed, second])
        assert [(one.file, one.line) for one in found] == [("/a.yaml", 7), ("", 0), ("/b.yaml", 9), ("/a.yaml", 11)]
    assert looked == [["spec", "spec.tls"]]  # One look for all problems of one object.


def test_what_was_good_before_a_restart_serves_while_the_present_version_is_refused(table):
    good = ingress("a", "")
    path = HTTPIngressPath("no-slash", "Prefix", IngressBackend(BACKEND))
    spec = msgspec.structs.replace(good.object.spec, rules=(IngressRule("a.test", HTTPIngressRuleValue((path,))),))
    refused = good._replace(object=msgspec.structs.replace(good.object, spec=spec))
    stage = Stage(table, recall=lambda: [(good.key, good.object)])
    stage.pipeline.take([SourceBatch("local", (CLASS, refused))])
    assert [route.path for route in stage.pipeline.units()["host/a.test"].routes] == ["/"]
    reasons = {problem.reason for problem in stage.pipeline.board.all()}
    assert "LastGoodKept" in reasons
