"""The admin listener over a real socket: what each path answers, and that nothing of a user's is trusted."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from ingressd.control.admin import facts
from ingressd.control.admin.listener import AdminListener
from ingressd.control.admin.page import MAX_ROWS, PageFacts, Table, render
from ingressd.control.health.checks import EndpointView
from ingressd.control.objects.event import ObjectKey
from ingressd.model.codec import units_from_json
from ingressd.model.problem import Origin, Problem
from ingressd.model.secret import PrivateBytes
from ingressd.model.units import (
    Certificate,
    Endpoint,
    Endpoints,
    Listener,
    Route,
    TlsHost,
    Upstream,
    VirtualHost,
)
from ingressd.supervise.sockets import open_listener

ORIGIN = Origin("Ingress", "shop", "<script>alert(1)</script>")
SECRET = Origin("Secret", "shop", "tls")
UNITS = {
    "certificate/shop/tls": Certificate(
        "shop/tls", SECRET, b"PEM", PrivateBytes(b"hunter2"), ("a.test",), 1_000_000.0 + 86400 * 3, "0F", "ca"
    ),
    "endpoints/shop/cart:80": Endpoints("shop/cart:80", (Endpoint("10.0.0.1", 80), Endpoint("10.0.0.2", 80))),
    "host/a.test": VirtualHost(
        "a.test", (Route(ORIGIN, "Prefix", "/", "shop/cart:80"),), Route(ORIGIN, "Prefix", "/", None)
    ),
    "listener/http": Listener("http", "127.0.0.1", 80, "HTTP", 80),
    "tls/a.test": TlsHost("a.test", "shop/tls"),
    "upstream/shop/cart:80": Upstream("shop/cart:80", ORIGIN),
}


HEALTH = [
    EndpointView("/api", "10.0.0.1:80", False, False, 0, 3, "answered <503>"),
    EndpointView("/api", "10.0.0.2:80", True, True, 9, 0, ""),
    EndpointView("/api", "10.0.0.3:80", True, False, 9, 0, ""),
]


class View:
    def __init__(self) -> None:
        self.is_ready = True

    def ready(self):
        return self.is_ready

    def live_units(self):
        return 3, UNITS

    def statuses(self):
        return {
            ObjectKey("Ingress", "shop", "b"): {"loadBalancer": {}},
            ObjectKey("Ingress", "shop", "a"): {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
        }

    def problems(self):
        return [Problem("error", ORIGIN, "Bad", "spec", "no <b>", "/a.yaml", 3)]

    async def metrics(self, accept):
        return f"metrics for {accept}".encode(), "text/plain; version=0.0.4; charset=utf-8"

    def endpoint_health(self):
        return HEALTH

    def facts(self):
        return PageFacts(
            version="1.2.3",
            python="3.11",
            ready=self.is_ready,
            config_path="/etc/<x>.yaml",
            snapshot_version=3,
            counts=facts.counts(UNITS, 2),
            problems=self.problems(),
            tables=[
                *facts.tables(UNITS, workers=(), listeners=[(UNITS["listener/http"], "in use")], now_s=1_000_000.0),
                facts.health_table(HEALTH),
            ],
        )


@pytest.fixture
def view():
    return View()


def get(view, path, **headers):
    async def run():
        with open_listener("127.0.0.1", 0) as listening:
            port = listening.getsockname()[1]
            admin = AdminListener(view)
            await admin.start(listening)
            try:
                async with (
                    aiohttp.ClientSession() as session,
                    session.get(f"http://127.0.0.1:{port}{path}", headers=headers) as answer,
                ):
                    return answer.status, answer.headers, await answer.text()
            finally:
                await admin.close()

    return asyncio.run(run())


async def say(view, *requests):
    """The status lines of the answers, each on a connection of its own."""
    with open_listener("127.0.0.1", 0) as listening:
        admin = AdminListener(view)
        await admin.start(listening)
        try:
            lines = []
            for request in requests:
                reader, writer = await asyncio.open_connection(*listening.getsockname()[:2])
                writer.write(request)
                lines.append(await reader.readline())
                writer.close()
                await writer.wait_closed()
            return lines
        finally:
            await admin.close()


def test_a_monitor_without_a_host_is_answered(view):
    bare = b"GET /healthz HTTP/1.1\r\n\r\n"
    other = b"HEAD /healthz HTTP/1.1\r\nX-Host: a\r\nAccept: */*\r\n\r\n"
    named = b"GET /healthz HTTP/1.1\r\nAccept: */*\r\nhost: a\r\n\r\n"
    assert asyncio.run(say(view, bare, other, named)) == [b"HTTP/1.1 200 OK\r\n"] * 3


def test_what_is_no_http_is_refused_without_a_traceback(view, caplog):
    statuses = asyncio.run(say(view, b"GET /healthz HTTP/1.1\r\nA : b\r\n\r\n", b"\x16\x03\x01\r\n\r\n"))
    assert [line.split()[1] for line in statuses] == [b"400", b"400"]
    assert not caplog.records


def test_an_error_of_ours_is_logged(view, caplog):
    view.ready = None
    assert asyncio.run(say(view, b"GET /readyz HTTP/1.1\r\n\r\n"))[0].split()[1] == b"500"
    assert [(record.name, record.exc_info[0]) for record in caplog.records] == [("ingressd.admin", TypeError)]


def test_who_was_accepted_is_answered_when_another_process_has_taken_over(view):
    async def run():
        with open_listener("127.0.0.1", 0) as listening, listening.dup() as taken_over:
            admin = AdminListener(view)
            await admin.start(listening)
            try:
                reader, writer = await asyncio.open_connection(*taken_over.getsockname()[:2])
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
                admin.leave()
                _, other = await asyncio.open_connection(*taken_over.getsockname()[:2])
                other.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
                accepted, _ = await asyncio.get_running_loop().run_in_executor(None, _accept, taken_over)
                accepted.close()
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                assert b"HTTP/1.1 200 " in await reader.read()
                writer.close()
                other.close()
            finally:
                await admin.close()

    asyncio.run(run())


def _accept(listening):
    listening.setblocking(True)
    listening.settimeout(30)
    return listening.accept()


def test_healthz_is_alive_and_readyz_follows(view):
    view.is_ready = False
    assert get(view, "/healthz")[0] == 200
    assert get(view, "/readyz")[0] == 503
    view.is_ready = True
    assert get(view, "/readyz")[0] == 200


def test_metrics_in_the_format_that_was_asked_for(view):
    status, headers, body = get(view, "/metrics", Accept="application/openmetrics-text")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert body == "metrics for application/openmetrics-text"


def test_the_snapshot_is_json_that_explain_can_read_and_names_no_secret(view):
    status, headers, body = get(view, "/debug/snapshot")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert "hunter2" not in body
    assert json.loads(body)["version"] == 3
    assert units_from_json(body.encode())["host/a.test"] == UNITS["host/a.test"]


def test_statuses_are_a_list_of_objects(view):
    listed = json.loads(get(view, "/debug/statuses")[2])
    assert (listed["apiVersion"], listed["kind"]) == ("v1", "List")
    assert [one["metadata"] for one in listed["items"]] == [
        {"name": "a", "namespace": "shop"},
        {"name": "b", "namespace": "shop"},
    ]
    assert listed["items"][0]["apiVersion"] == "networking.k8s.io/v1"
    assert listed["items"][0]["status"] == {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}


def test_the_health_of_endpoints_is_json_and_the_page_names_those_that_are_kept_out(view):
    listed = json.loads(get(view, "/debug/health")[2])["endpoints"]
    assert [(one["upstream"], one["address"], one["healthy"], one["ejected"]) for one in listed] == [
        ("/api", "10.0.0.1:80", False, False),
        ("/api", "10.0.0.2:80", True, True),
        ("/api", "10.0.0.3:80", True, False),
    ]
    assert listed[0]["said"] == "answered <503>"
    page = get(view, "/")[2]
    assert "answered &lt;503&gt;" in page
    assert "10.0.0.2:80" in page
    assert "10.0.0.3:80" not in page


def test_problems_are_json(view):
    (problem,) = json.loads(get(view, "/debug/problems")[2])["problems"]
    assert (problem["severity"], problem["file"], problem["line"]) == ("error", "/a.yaml", 3)


def test_the_page_escapes_everything_and_loads_nothing(view):
    status, headers, body = get(view, "/")
    assert status == 200
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "<script" not in body
    assert "&lt;script&gt;" in body
    assert "no &lt;b&gt;" in body
    for shown in ("1.2.3", "10.0.0.1:80, 10.0.0.2:80", "answers 503", "(3 days)", "in use", "2 routes", "2 endpoints"):
        assert shown in body, shown


def test_a_table_that_is_too_long_says_so():
    table = Table("Many", ("n",), [(str(number),) for number in range(MAX_ROWS + 5)], "None.")
    body = render(PageFacts("1", "3", True, "", 1, (), (), (table,)))
    assert "and 5 more" in body
    assert f"<td>{MAX_ROWS}</td>" not in body


@pytest.mark.parametrize("path", ["/nothing", "/debug", "/metrics/x"])
def test_other_paths_are_not_found(view, path):
    assert get(view, path)[0] == 404
