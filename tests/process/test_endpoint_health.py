"""One bad endpoint of two: what it costs, what keeps it out, and when it is back. Retries are off throughout."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from stage.load import fetch, pid_of, role
from stage.ports import spelled
from stage.running import running
from stage.scripted import Played, scripted
from stage.wire import ask

from ingressd.cli.explain import explain_url

pytestmark = pytest.mark.process

ROUTES = 40
CLIENTS = 4
FAILURES = 5
HOURLY = {"interval": "1h"}
SETTINGS = {"ssl-redirect": "false", "proxy-next-upstream": "off", "proxy-body-size": "1m"}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n/"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


class Endpoint:
    """A script whose endpoint is `well` or not, in traffic and in the eyes of probes; it counts both."""

    def __init__(self, kind: str = "503") -> None:
        self.kind = kind
        self.serves = self.looks_well = True
        self.asked = 0
        self.probed: list[bool] = []
        """Of each probe whether it was answered well."""
        self._lock = threading.Lock()

    def __call__(self, connection: Played) -> None:
        while True:
            if self.kind == "garbage" and not self.serves:
                connection.send(b"what?\r\n\r\n")  # Whoever asks.
            head = connection.head()
            if not head:
                return
            if head.startswith(b"GET /healthz"):
                with self._lock:
                    self.probed.append(self.looks_well)
                connection.send(OK if self.looks_well else BUSY)
                return
            with self._lock:
                self.asked += 1
            if self.serves:
                connection.send(OK)
            elif self.kind == "503":
                connection.send(BUSY)
            elif self.kind == "reset":
                connection.reset()
                return
            else:
                return

    def breaks(self) -> None:
        """From now on."""
        self.serves = self.looks_well = False

    def recovers(self) -> None:
        """From now on."""
        self.serves = self.looks_well = True


def config(good, bad, **check):
    """Forty routes of forty hosts, to one upstream with these two endpoints."""
    upstream = {"endpoints": [f"{host}:{port}" for host, port in (good.address, bad.address)]}
    if check:
        upstream["healthCheck"] = {"path": "/healthz", **check}
    return {
        "workers": 3,
        "settings": SETTINGS,
        "routes": [{"host": f"r{number}.test", "path": "/", "upstream": "api"} for number in range(ROUTES)],
        "upstreams": {"api": upstream},
    }


def ask_all(ingressd, rounds):
    """Every route so many times, by a few clients at once, each request on a connection of its own; the statuses."""
    hosts = [f"r{number}.test" for number in range(ROUTES)] * rounds
    with ThreadPoolExecutor(CLIENTS) as clients:
        return list(clients.map(lambda host: fetch(ingressd.http, host=host).status, hosts))


@pytest.mark.parametrize(("kind", "check"), [("503", HOURLY), ("reset", HOURLY), ("garbage", {})], ids=str)
def test_a_bad_endpoint_costs_five_requests_over_all_routes_and_workers(tmp_path, kind, check):
    script = Endpoint(kind)
    with (
        scripted(Endpoint()) as good,
        scripted(script) as bad,
        running(tmp_path, **config(good, bad, **check)) as ingressd,
    ):
        # Nobody is probed in time within the test: the ejection brings the probe that fails, and its verdict lasts.
        ingressd.wait_until(lambda: len(script.probed) == len(check))
        assert ask_all(ingressd, 2) == [200] * 2 * ROUTES
        script.breaks()
        statuses = ask_all(ingressd, 5)
        failed = len(statuses) - statuses.count(200)
        ejections = ingressd.metric("ingressd_endpoint_ejections_total")
        assert ejections >= 1
        # Besides, those that were under way when it was ejected: each other client may have had one. And one at the end
        # of each back-off, where there are no checks, or the controller stood still for so long.
        assert FAILURES <= failed <= FAILURES + CLIENTS - 1 + ejections - 1


def test_it_is_back_with_the_first_probe_that_succeeds(tmp_path):
    script = Endpoint()
    with (
        scripted(Endpoint()) as good,
        scripted(script) as bad,
        running(tmp_path, **config(good, bad, interval="1s", unhealthyThreshold=1)) as ingressd,
    ):
        script.breaks()
        ingressd.wait_until(lambda: ingressd.metric("ingressd_endpoints_unhealthy") == 1)
        asked = script.asked
        assert ask_all(ingressd, 2) == [200] * 2 * ROUTES
        assert script.asked == asked
        (entry,) = [
            one for one in json.loads(ask(ingressd.admin, "/debug/health").text)["endpoints"] if not one["healthy"]
        ]
        assert entry["said"] == "answered 503"
        told = io.StringIO()
        url, admin = "http://r1.test/", spelled(ingressd.admin)
        assert explain_url(url, admin=admin, environ={}, flags={}, now_s=0.0, out=told) == 0
        assert f"  endpoint    {spelled(bad.address)} (unhealthy: answered 503)\n" in told.getvalue()
        script.recovers()
        failed = script.probed.count(False)
        before = len(script.probed)
        while script.asked == asked:
            assert set(ask_all(ingressd, 1)) == {200}
            assert len(script.probed) - before < 30, "probes succeed, and it is not back"
        # The round that found it had begun before, and the machine may have stood still in between.
        assert script.probed[before:].count(True) <= 5
        assert script.probed.count(False) == failed


def test_a_verdict_outlives_the_controller_and_is_taken_back_by_the_next_one(tmp_path):
    script = Endpoint()
    script.looks_well = False
    with (
        scripted(Endpoint()) as good,
        scripted(script) as bad,
        running(tmp_path, **config(good, bad, interval="1s", timeout="20s", unhealthyThreshold=1)) as ingressd,
    ):
        ingressd.wait_until(lambda: ingressd.metric("ingressd_endpoints_unhealthy") == 1)
        asked = script.asked
        old = pid_of(ingressd, "controller")
        os.kill(old, signal.SIGKILL)
        assert ask_all(ingressd, 1) == [200] * ROUTES
        probed = len(script.probed)
        ingressd.wait_until(lambda: any(role(one) == "controller" and one != old for one in ingressd.children()))
        ingressd.wait_until(lambda: len(script.probed) > probed)
        assert ask_all(ingressd, 1) == [200] * ROUTES
        assert script.asked == asked
        script.looks_well = True

        def is_back() -> bool:
            fetch(ingressd.http, host="r1.test")
            return script.asked > asked

        ingressd.wait_until(is_back)


def test_when_every_endpoint_looks_bad_all_are_asked(tmp_path):
    one, other = Endpoint(), Endpoint()
    one.looks_well = other.looks_well = False
    with (
        scripted(one) as first,
        scripted(other) as second,
        running(tmp_path, **config(first, second, interval="1s", unhealthyThreshold=1)) as ingressd,
    ):
        ingressd.wait_until(lambda: ingressd.metric("ingressd_endpoints_unhealthy") == 2)
        assert ask_all(ingressd, 1) == [200] * ROUTES
        assert one.asked > 0
        assert other.asked > 0
