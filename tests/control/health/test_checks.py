"""Which endpoints are probed and when, and what workers read of it. A fake clock; a table as workers hold it."""

import asyncio
from random import Random

import pytest

from ingressd.control.health.checks import JITTER, MAX_PER_TURN, MAX_PROBES, Clocks, HealthChecks
from ingressd.control.health.verdicts import LEASE_MIN_S
from ingressd.control.objects.static import StaticEndpoint, StaticUpstream
from ingressd.control.translate.environment import UpstreamRules
from ingressd.control.translate.services import static_units
from ingressd.model.codec import Units
from ingressd.model.problem import Origin
from ingressd.model.units import Endpoint, Endpoints, Upstream
from ingressd.observe.shared_table import SharedTable
from ingressd.proxy.upstream.balancers.table import BALANCERS
from ingressd.proxy.upstream.endpoint import EndpointState
from ingressd.proxy.upstream.outlier import CONSECUTIVE, PodHealth
from ingressd.settings.config import HealthCheck

CHECK = HealthCheck("/healthz", interval_s=2.0, timeout_s=1.0, healthy_threshold=2, unhealthy_threshold=3)
ORIGIN = Origin("Config", "", "upstreams", "api")


class Pod:
    """A controller's health checks, two workers' balancers, endpoints that say what `answers` has for them."""

    def __init__(self, check=CHECK, *, endpoints=2):
        self.table = SharedTable.create(2)
        self.now = 1000.0
        self.answers = {}
        self.asked = []
        self.slots = {f"10.0.0.{index}:80": index for index in range(1, endpoints + 1)}
        self.start()
        self.follow(check)
        self.balancers = []
        for worker in range(2):
            balancer = BALANCERS["round_robin"](Random(1), health=PodHealth.of(self.table, worker))
            columns = self.table.columns()
            balancer.update(
                [
                    EndpointState(address.partition(":")[0], 80, base=self.table.base(slot), columns=columns)
                    for address, slot in self.slots.items()
                ]
            )
            self.balancers.append(balancer)

    def start(self):
        """A controller starts, perhaps in place of another."""
        clocks = Clocks(lambda: self.now, lambda: 0.5)
        self.checks = HealthChecks(self.table, self, slots_of=lambda _: self.slots, clocks=clocks)

    async def __call__(self, address, port, *, check, tls):
        self.asked.append(f"{address}:{port}")
        answer = self.answers.get(f"{address}:{port}", "")
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def follow(self, check, *, addresses=None):
        found = addresses if addresses is not None else self.slots
        endpoints = tuple(Endpoint(one.partition(":")[0], 80) for one in found)
        extra = {} if check is None else {"health_check": check}
        units = Units.of(
            {
                "upstream//api": Upstream("/api", ORIGIN, **extra),
                "endpoints//api": Endpoints("/api", endpoints),
                "upstream//other": Upstream("/other", ORIGIN),
            }
        )
        self.checks.follow(units, units, ())

    def turn(self, seconds=0.0):
        """Time passes; what is due is probed, and answers at once."""
        self.now += seconds
        due = self.checks.due()
        for subject in due:
            asyncio.run(self.checks.probe(subject))
        return [subject.name for subject in due]

    def turns(self, seconds):
        for _ in range(round(seconds * 10)):
            self.turn(0.1)

    def picked(self, worker):
        return {self.balancers[worker].pick(None, self.now).name for _ in range(20)}

    def fail(self, address, *, times, worker=0):
        balancer = self.balancers[worker]
        (endpoint,) = [one for one in balancer._eligible if one.name == address]
        for _ in range(times):
            balancer.failed(endpoint, self.now)


ONE, TWO = "10.0.0.1:80", "10.0.0.2:80"


@pytest.fixture
def pod():
    made = Pod()
    yield made
    made.balancers.clear()
    made.checks = None
    made.table.close()


def test_only_upstreams_that_ask_are_probed_and_soon(pod):
    pod.turns(1.0)
    assert sorted(pod.asked) == [ONE, TWO]
    assert pod.checks.numbers() == (2, 0, (("failure", 0), ("success", 2), ("unknown", 0)))


def test_probes_come_once_in_an_interval(pod):
    pod.turns(20.0)
    assert pod.asked.count(ONE) == pytest.approx(10, abs=1)


def test_the_interval_varies_by_a_tenth():
    delays = []
    for chance in (0.0, 0.999):
        pod = Pod(endpoints=1)
        pod.checks._clocks = Clocks(lambda pod=pod: pod.now, lambda chance=chance: chance)
        assert pod.turn(1.0) == [ONE]
        began = pod.now
        while not pod.turn(0.01):
            pass
        delays.append((pod.now - began) / CHECK.interval_s)
    assert delays == [pytest.approx(1 - JITTER, abs=0.01), pytest.approx(1 + JITTER, abs=0.01)]


def test_an_endpoint_counts_as_healthy_until_enough_probes_have_failed(pod):
    pod.answers[ONE] = "refused"
    pod.turns(1.0)
    pod.turns(2.0)
    assert pod.picked(0) == pod.picked(1) == {ONE, TWO}
    pod.turns(2.0)
    assert pod.picked(0) == pod.picked(1) == {TWO}
    assert pod.checks.numbers().unhealthy == 1


def test_a_success_in_between_begins_anew(pod):
    for answer in ("refused", "refused", "", "refused", "refused"):
        pod.answers[ONE] = answer
        pod.turns(2.0)
    assert pod.picked(0) == {ONE, TWO}


def test_it_is_back_at_once_when_enough_probes_have_succeeded(pod):
    pod.answers[ONE] = "refused"
    pod.turns(6.0)
    assert pod.picked(1) == {TWO}
    pod.answers[ONE] = ""
    before = pod.asked.count(ONE)
    while pod.picked(1) == {TWO}:
        pod.turn(0.1)
    assert pod.asked.count(ONE) - before == CHECK.healthy_threshold


def test_a_success_lifts_the_ejection_of_a_worker_at_once(pod):
    pod.turns(1.0)
    pod.fail(ONE, times=CONSECUTIVE + 10)
    assert pod.picked(0) == pod.picked(1) == {TWO}
    asked = len(pod.asked)
    while len(pod.asked) == asked:
        assert pod.picked(0) == {TWO}
        pod.turn(0.1)
    assert pod.asked[-1] == ONE
    assert pod.picked(0) == pod.picked(1) == {ONE, TWO}


def test_what_workers_eject_and_the_next_probe_finds_bad_stays_out_without_a_trial(pod):
    pod.turns(1.0)
    pod.answers[ONE] = "refused"
    pod.fail(ONE, times=CONSECUTIVE)
    for _ in range(300):
        pod.turn(0.1)
        assert pod.picked(0) == pod.picked(1) == {TWO}
    assert pod.checks.numbers().unhealthy == 1


def test_an_ejected_endpoint_stays_out_while_its_probe_waits(pod):
    pod.turns(1.0)
    pod.fail(ONE, times=CONSECUTIVE)
    due = []
    while not due:
        pod.now += 0.1
        due = pod.checks.due()
    pod.now += CHECK.timeout_s  # Longer than the back-off, and nobody has answered.
    assert pod.picked(0) == {TWO}


def test_a_probe_that_lies_lets_clients_try_once_a_second_and_no_more(pod):
    pod.turns(1.0)
    failed = 0
    for _ in range(100):
        pod.turn(0.1)
        if ONE in pod.picked(0):
            pod.now += 0.001  # An answer takes its time.
            pod.fail(ONE, times=1)
            failed += 1
    assert failed <= CONSECUTIVE + 11


def test_when_all_are_unhealthy_all_are_asked(pod):
    pod.answers = {ONE: "refused", TWO: "refused"}
    pod.turns(10.0)
    assert pod.checks.numbers().unhealthy == 2
    assert pod.picked(0) == {ONE, TWO}


def test_a_verdict_that_nobody_renews_runs_out(pod):
    pod.answers[ONE] = "refused"
    pod.turns(10.0)
    assert pod.picked(0) == {TWO}
    pod.now += LEASE_MIN_S - 3.0
    assert pod.picked(0) == {TWO}
    pod.now += 5.0
    assert pod.picked(0) == pod.picked(1) == {ONE, TWO}


def test_a_controller_that_starts_again_goes_on_from_what_its_predecessor_said(pod):
    pod.answers[ONE] = "refused"
    pod.turns(10.0)
    pod.start()
    pod.follow(CHECK)
    assert pod.picked(0) == {TWO}
    assert pod.checks.numbers().unhealthy == 1
    pod.answers[ONE] = ""
    pod.turns(5.0)
    assert pod.picked(0) == {ONE, TWO}


def test_no_verdict_stays_when_the_checks_go_or_the_endpoint_does(pod):
    pod.answers[ONE] = "refused"
    pod.turns(10.0)
    pod.follow(None)
    assert pod.picked(0) == {ONE, TWO}
    pod.follow(CHECK)
    pod.turns(10.0)
    assert pod.picked(0) == {TWO}
    pod.follow(CHECK, addresses=[TWO])
    assert pod.picked(0) == {ONE, TWO}
    asked = pod.asked.count(ONE)
    pod.turns(10.0)
    assert pod.asked.count(ONE) == asked


def test_an_endpoint_keeps_its_verdict_when_others_come_or_thresholds_change(pod):
    pod.answers[ONE] = "refused"
    pod.turns(10.0)
    pod.slots["10.0.0.3:80"] = 3
    pod.follow(HealthCheck("/other", interval_s=0.5))
    assert pod.picked(0) == {TWO}
    pod.turns(1.0)
    assert {ONE, TWO, "10.0.0.3:80"} <= set(pod.asked)


def test_every_address_of_a_name_is_probed(pod):
    name = StaticEndpoint("api.internal", 80, addresses=("10.0.0.1", "10.0.0.2"))
    found = static_units(StaticUpstream("api", (name,), health_check=CHECK), rules=UpstreamRules())
    units = Units.of({"upstream//api": found.upstream, "endpoints//api": found.endpoints})
    pod.start()
    pod.checks.follow(units, units, ())
    pod.answers[TWO] = "refused"
    pod.turns(10.0)
    assert pod.picked(0) == {ONE}


def test_who_could_not_be_asked_is_not_judged(pod):
    pod.answers[ONE] = None
    pod.turns(20.0)
    assert pod.picked(0) == {ONE, TWO}
    assert dict(pod.checks.numbers().probes)["unknown"] >= 8


def test_a_probe_that_breaks_is_a_failure_and_nothing_else(pod):
    pod.answers[ONE] = RuntimeError("broken")
    pod.turns(10.0)
    assert pod.picked(0) == {TWO}
    assert [one.said for one in pod.checks.view()] == ["RuntimeError: broken", ""]


def test_a_time_out_is_a_failure():
    pod = Pod(HealthCheck("/", interval_s=0.1, timeout_s=0.01, unhealthy_threshold=1), endpoints=1)

    async def never(*_, **__):
        await asyncio.Event().wait()

    pod.checks._probe = never
    assert pod.turn(1.0) == [ONE]
    assert [one.said for one in pod.checks.view()] == ["no answer within 0.01 s"]


def test_no_more_probes_begin_in_a_turn_or_are_under_way_than_may():
    pod = Pod(endpoints=MAX_PROBES + 5)
    pod.now += 1.0
    begun = [len(pod.checks.due()) for _ in range(MAX_PROBES // MAX_PER_TURN + 2)]
    assert max(begun) == MAX_PER_TURN
    assert sum(begun) == MAX_PROBES
    assert pod.checks.due() == []


def test_verdicts_outlast_intervals_that_are_longer_than_was_asked_for(pod):
    pod.answers[ONE] = "refused"
    pod.turns(10.0)
    pod.turn(LEASE_MIN_S + 20.0)
    assert pod.picked(0) == {TWO}
    pod.now += 3 * LEASE_MIN_S
    assert pod.picked(0) == {TWO}
