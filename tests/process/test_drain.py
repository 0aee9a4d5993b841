"""SIGTERM: what runs finishes, clients are told to go, and the exit code is 0."""

from __future__ import annotations

import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stage.load import Load, Outcome, Upstream, fetch, upstream
from stage.running import PATIENCE_S, Ingressd, route_to
from stage.secure import connect_tls, send_plain
from stage.wire import Client, client_tls, request_bytes

pytestmark = pytest.mark.process

Serving = Callable[..., Ingressd]


@pytest.fixture
def api() -> Iterator[Upstream]:
    with upstream() as found:
        yield found


@pytest.fixture
def serving(tmp_path: Path, api: Upstream) -> Iterator[Serving]:
    def start(**settings: str) -> Ingressd:
        config = route_to({"api": [api]}, workers=2, settings={"ssl-redirect": "false", **settings})
        ingressd = Ingressd(tmp_path, **config)
        started.append(ingressd)
        ingressd.start()
        return ingressd

    started: list[Ingressd] = []
    yield start
    api.go.set()
    for ingressd in started:
        ingressd.stop()


def exit_code(ingressd: Ingressd) -> int:
    """Of a process that ends: what it might wait for in vain takes longer (a client 60 s, the whole drain 240 s)."""
    return ingressd.process.wait(PATIENCE_S)


def held(ingressd: Ingressd, api: Upstream, count: int = 1) -> tuple[list[threading.Thread], list[Outcome]]:
    """Requests that are with the upstream, which answers when it is told to."""
    outcomes: list[Outcome] = []
    threads = [threading.Thread(target=lambda: outcomes.append(fetch(ingressd.http, "/hold"))) for _ in range(count)]
    for thread in threads:
        thread.start()
    ingressd.wait_until(lambda: api.asked.count("/hold") == count)
    return threads, outcomes


def nothing_listens(ingressd: Ingressd) -> bool:
    return "Refused" in fetch(ingressd.http).error


def test_an_idle_proxy_ends_at_once_with_0(serving):
    ingressd = serving()
    ingressd.send_signal(signal.SIGTERM)
    assert exit_code(ingressd) == 0


def test_requests_in_flight_finish(serving, api):
    ingressd = serving()
    threads, outcomes = held(ingressd, api, 6)
    ingressd.send_signal(signal.SIGTERM)
    ingressd.wait_until(lambda: nothing_listens(ingressd))
    api.go.set()
    for thread in threads:
        thread.join()
    assert [(one.status, one.error) for one in outcomes] == [(200, "")] * 6
    assert exit_code(ingressd) == 0


def test_the_grace_period_accepts_and_says_goodbye(serving):
    ingressd = serving(**{"shutdown-grace-period": "60"})
    with Client(ingressd.http) as kept:
        kept.send(request_bytes("/", host="api.test", keep_alive=True))
        assert kept.reply().one("Connection") != "close"
        ingressd.send_signal(signal.SIGTERM)
        ingressd.wait_until(lambda: ingressd.ask_admin("/readyz") == 503)
        kept.send(request_bytes("/", host="api.test", keep_alive=True))
        assert (kept.reply().one("Connection") or "").lower() == "close"
    with Client(ingressd.http) as late:
        late.send(request_bytes("/", host="api.test", keep_alive=True))
        answer = late.reply()
    assert answer.status == 200
    assert (answer.one("Connection") or "").lower() == "close"
    ingressd.send_signal(signal.SIGTERM)
    assert exit_code(ingressd) == 128 + signal.SIGTERM


def test_no_request_is_lost_while_the_grace_period_lasts(serving):
    ingressd = serving(**{"shutdown-grace-period": "60"})
    with Load(ingressd.http) as load:
        load.wait_for(50)
        ingressd.send_signal(signal.SIGTERM)
        ingressd.wait_until(lambda: ingressd.ask_admin("/readyz") == 503)
        load.wait_for(200)
    assert load.bad() == []
    ingressd.send_signal(signal.SIGTERM)
    assert exit_code(ingressd) == 128 + signal.SIGTERM


def test_load_that_goes_on_to_the_end_is_answered_or_refused_after_it_and_nothing_else(serving):
    """But for a connection made in the microseconds between the last accept and the close, which the kernel resets:
    it is tried until there is none.
    """
    for _ in range(4):
        ingressd = serving(**{"shutdown-grace-period": "1"})
        with Load(ingressd.http, path="/sleep/0.02", threads=8) as load:
            load.wait_for(50)
            told_s = time.monotonic()
            ingressd.send_signal(signal.SIGTERM)
            assert exit_code(ingressd) == 0
        ended = [(one.error, one.began_s + one.took_s - told_s) for one in load.bad()]
        assert [(error, after_s) for error, after_s in ended if after_s < 1.0] == []
        wrong = [(error, after_s) for error, after_s in ended if "Refused" not in error]
        if not wrong:
            break
        assert len(wrong) == 1 and "reset" in wrong[0][0], wrong
    assert wrong == []


def test_what_does_not_end_is_cut_at_the_timeout(serving, api):
    ingressd = serving(**{"worker-shutdown-timeout": "1s"})
    threads, outcomes = held(ingressd, api)
    ingressd.send_signal(signal.SIGTERM)
    assert exit_code(ingressd) == 0
    threads[0].join()
    assert outcomes[0].status != 200


def test_a_second_signal_ends_everything_at_once(serving, api):
    ingressd = serving()
    threads, _ = held(ingressd, api)
    children = ingressd.children()
    ingressd.send_signal(signal.SIGTERM)
    ingressd.wait_until(lambda: nothing_listens(ingressd))
    assert not ingressd.ended()
    ingressd.send_signal(signal.SIGTERM)
    assert exit_code(ingressd) == 128 + signal.SIGTERM
    assert len(children) == 3
    threads[0].join()


@pytest.mark.parametrize("proxied", [False, True], ids=["tls", "proxy header and tls"])
def test_who_was_accepted_before_the_end_is_served(serving, proxied):
    """A connection whose PROXY header and ClientHello are on their way when nobody listens any more.

    They have a second for it. Where this machine took longer, nothing was tried, and it is tried again.
    """
    for _ in range(5):
        ingressd = serving(**({"use-proxy-protocol": "true"} if proxied else {}))
        with connect_tls(
            ingressd.https, client_tls(), server_name="api.test", timeout_s=PATIENCE_S, handshake=False
        ) as secure:
            ingressd.wait_until(lambda ingressd=ingressd: accepted(ingressd) == 1)
            told_s = time.monotonic()
            ingressd.send_signal(signal.SIGTERM)
            ingressd.wait_until(lambda ingressd=ingressd: nothing_listens(ingressd))
            answer = late_answer(secure, b"PROXY TCP4 9.9.9.9 8.8.8.8 1111 443\r\n" if proxied else b"")
            took_s = time.monotonic() - told_s
        assert exit_code(ingressd) == 0
        if answer or took_s < FRESH_S:
            break
    assert answer.startswith(b"HTTP/1.1 200 "), (answer, took_s)


FRESH_S = 1.0
"""As in `proxy/http/client.py`."""


def late_answer(secure: ssl.SSLSocket, before: bytes) -> bytes:
    try:
        send_plain(secure, before)
        secure.do_handshake()
        secure.sendall(request_bytes("/late", host="api.test"))
        return secure.recv(4096)
    except OSError:
        return b""


def test_who_says_nothing_does_not_hold_the_end_up(serving):
    ingressd = serving()
    with socket.create_connection(ingressd.https, PATIENCE_S), socket.create_connection(ingressd.https, PATIENCE_S):
        ingressd.wait_until(lambda: accepted(ingressd) == 2)
        ingressd.send_signal(signal.SIGTERM)
        assert exit_code(ingressd) == 0


def accepted(ingressd: Ingressd) -> float:
    return ingressd.metric("nginx_ingress_controller_nginx_process_connections_total", 'state="accepted"')
