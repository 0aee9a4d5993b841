"""SIGTERM: what runs finishes, clients are told to go, and the exit code is 0."""

from __future__ import annotations

import signal
import socket
import threading
import time

import pytest
from stage.load import Load, fetch, upstream
from stage.running import Ingressd, route_to
from stage.wire import Client, client_tls, request_bytes

pytestmark = pytest.mark.process


@pytest.fixture
def serving(tmp_path):
    with upstream() as address:

        def start(**settings: str) -> Ingressd:
            config = route_to({"api": [address]}, workers=2, settings={"ssl-redirect": "false", **settings})
            ingressd = Ingressd(tmp_path, **config)
            started.append(ingressd)
            ingressd.start()
            return ingressd

        started: list[Ingressd] = []
        yield start
        for ingressd in started:
            ingressd.stop()


def ended_within(ingressd: Ingressd, seconds: float) -> int:
    return ingressd.process.wait(seconds)


def test_an_idle_proxy_ends_at_once_with_0(serving):
    ingressd = serving()
    ingressd.send_signal(signal.SIGTERM)
    assert ended_within(ingressd, 1.5) == 0


def test_requests_in_flight_finish(serving):
    ingressd = serving()
    outcomes = []
    threads = [threading.Thread(target=lambda: outcomes.append(fetch(ingressd.http, "/sleep/1"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(0.4)
    ingressd.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    assert fetch(ingressd.http).error, "nothing listens any more"
    for thread in threads:
        thread.join()
    assert [(one.status, one.error) for one in outcomes] == [(200, "")] * 6
    assert ended_within(ingressd, 2.0) == 0


def test_the_grace_period_accepts_and_says_goodbye(serving):
    ingressd = serving(**{"shutdown-grace-period": "1"})
    with Client(ingressd.http) as kept:
        kept.send(request_bytes("/", host="api.test", keep_alive=True))
        assert kept.reply().one("Connection") != "close"
        ingressd.send_signal(signal.SIGTERM)
        ingressd.wait_until(lambda: ingressd.ask_admin("/readyz") == 503, within_s=0.5)
        kept.send(request_bytes("/", host="api.test", keep_alive=True))
        assert (kept.reply().one("Connection") or "").lower() == "close"
    with Client(ingressd.http) as late:
        late.send(request_bytes("/", host="api.test", keep_alive=True))
        answer = late.reply()
    assert answer.status == 200
    assert (answer.one("Connection") or "").lower() == "close"
    assert ended_within(ingressd, 2.5) == 0


def test_no_request_is_lost_while_the_grace_period_lasts(serving):
    ingressd = serving(**{"shutdown-grace-period": "1"})
    with Load(ingressd.http) as load:
        time.sleep(0.2)
        ingressd.send_signal(signal.SIGTERM)
        time.sleep(0.7)
    assert load.bad() == []
    assert ended_within(ingressd, 2.5) == 0


def test_load_that_goes_on_to_the_end_is_answered_or_refused_and_nothing_else(serving):
    ingressd = serving(**{"shutdown-grace-period": "1"})
    with Load(ingressd.http, path="/sleep/0.02", threads=8) as load:
        time.sleep(0.3)
        drained_s = time.monotonic()
        ingressd.send_signal(signal.SIGTERM)
        assert ended_within(ingressd, 3.0) == 0
    assert [one for one in load.bad() if "Refused" not in one.error or one.began_s < drained_s + 1.0] == []
    assert len([one for one in load.outcomes if one.status == 200 and one.began_s > drained_s]) > 20


def test_what_does_not_end_is_cut_at_the_timeout(serving):
    ingressd = serving(**{"worker-shutdown-timeout": "1s"})
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(fetch(ingressd.http, "/sleep/5")))
    thread.start()
    time.sleep(0.3)
    ingressd.send_signal(signal.SIGTERM)
    assert ended_within(ingressd, 3.0) == 0
    thread.join()
    assert outcome[0].status != 200


def test_a_second_signal_ends_everything_at_once(serving):
    ingressd = serving()
    thread = threading.Thread(target=lambda: fetch(ingressd.http, "/sleep/3"))
    thread.start()
    time.sleep(0.3)
    children = ingressd.children()
    ingressd.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert not ingressd.ended()
    ingressd.send_signal(signal.SIGTERM)
    assert ended_within(ingressd, 1.0) == 128 + signal.SIGTERM
    assert len(children) == 3
    thread.join()


@pytest.mark.parametrize("proxied", [False, True], ids=["tls", "proxy header and tls"])
def test_who_was_accepted_before_the_end_is_served(serving, proxied):
    """A connection whose PROXY header and ClientHello are on their way when nobody listens any more."""
    ingressd = serving(**({"use-proxy-protocol": "true"} if proxied else {}))
    with socket.create_connection(ingressd.https, 5) as plain:
        time.sleep(0.2)
        ingressd.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        if proxied:
            plain.sendall(b"PROXY TCP4 9.9.9.9 8.8.8.8 1111 443\r\n")
        with client_tls().wrap_socket(plain, server_hostname="api.test") as secure:
            secure.sendall(request_bytes("/late", host="api.test"))
            assert secure.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert ended_within(ingressd, 2.5) == 0


def test_who_says_nothing_does_not_hold_the_end_up(serving):
    ingressd = serving()
    with socket.create_connection(ingressd.https, 5), socket.create_connection(ingressd.https, 5):
        time.sleep(0.2)
        ingressd.send_signal(signal.SIGTERM)
        assert ended_within(ingressd, 2.5) == 0
