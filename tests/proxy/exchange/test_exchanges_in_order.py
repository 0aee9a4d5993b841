"""Requests of one connection, their answers, and what each leaves behind."""

from __future__ import annotations

import pytest
from stage.played import Stage, play

from ingressd.model.units import ProcessPolicy, RoutePolicy

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_pipelined_requests_are_answered_one_after_the_other() -> None:
    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        client.data_received(GET + GET.replace(b"/a", b"/b"))
        assert stage.sent(upstream).startswith(b"GET /a HTTP/1.1\r\n")
        upstream.data_received(OK)
        assert stage.sent(client).count(b"200 OK") == 1
        assert stage.sent(upstream).startswith(b"GET /b HTTP/1.1\r\n")
        upstream.data_received(OK)
        assert stage.sent(client).endswith(b"\r\n\r\nok")

    play(scene)


@pytest.mark.parametrize("step", [1, 7])
def test_a_request_in_pieces_with_a_second_behind_it(step: int) -> None:
    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        message = b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + GET
        for at in range(0, len(message), step):
            client.data_received(message[at : at + step])
        first = stage.sent(upstream)
        assert first.startswith(b"POST /p HTTP/1.1\r\n")
        assert first.endswith(b"0\r\n\r\n")
        assert b"GET" not in first
        for at in range(len(OK)):
            upstream.data_received(OK[at : at + 1])
        assert stage.sent(client).endswith(b"ok")
        assert stage.sent(upstream).startswith(b"GET /a HTTP/1.1\r\n")

    play(scene)


def test_the_connection_goes_back_to_the_pool_before_the_client_is_told() -> None:
    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        client.data_received(GET)
        assert repr(stage.endpoint.pool) == "<IdlePool 0 idle>"
        upstream.data_received(OK)
        assert repr(stage.endpoint.pool) == "<IdlePool 1 idle>"
        assert repr(upstream) == "<UpstreamConnection idle, 1 requests>"

    play(scene)


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"x",
        OK + OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n!",
        b"HTTP/1.1 204 No Content\r\n\r\nbody",
    ],
)
def test_a_connection_with_a_surplus_byte_or_a_close_is_never_used_again(answer: bytes) -> None:
    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        client.data_received(GET)
        stage.sent(upstream)
        upstream.data_received(answer)
        assert b"HTTP/1.1 20" in stage.sent(client)
        assert upstream.transport.ended == "aborted"
        assert repr(stage.endpoint.pool) == "<IdlePool 0 idle>"

    play(scene)


def test_bytes_on_an_idle_connection_end_it() -> None:
    def scene(stage: Stage) -> None:
        upstream = stage.pooled()
        upstream.data_received(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        assert upstream.transport.ended == "aborted"
        assert stage.endpoint.pool.take("") is None

    play(scene)


def test_a_truncated_answer_is_cut_not_finished() -> None:
    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        client.data_received(GET)
        upstream.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        upstream.eof_received()
        sent = stage.sent(client)
        assert sent.endswith(b"3\r\nabc\r\n")
        assert client.transport.ended == "closed"

    play(scene)


def test_an_answer_without_length_is_dechunked_for_http10_and_closed() -> None:
    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        client.data_received(b"GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n")
        upstream.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
        sent = stage.sent(client)
        assert sent.endswith(b"Connection: close\r\n\r\nok")
        assert b"Transfer-Encoding" not in sent

    play(scene)


def test_head_has_the_length_and_no_body() -> None:
    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        client.data_received(GET.replace(b"GET", b"HEAD"))
        upstream.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
        assert stage.sent(client).endswith(b"Content-Length: 99\r\n\r\n")
        assert client.transport.ended == ""

    play(scene)


def test_keep_alive_requests_ends_the_connection_after_its_last_answer() -> None:
    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        for last in (False, True):
            client.data_received(GET)
            upstream.data_received(OK)
            assert (b"Connection: close" in stage.sent(client)) is last
        assert client.transport.ended == "eof"

    play(scene, process=ProcessPolicy(keep_alive_requests=2))


@pytest.mark.parametrize(("length", "status"), [(9, b"200"), (10, b"200"), (11, b"413")])
def test_body_size_at_the_limit(length: int, status: bytes) -> None:
    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        client.data_received(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length + b"b" * length)
        if status == b"200":
            assert stage.sent(upstream).endswith(b"\r\n\r\n" + b"b" * length)
            upstream.data_received(OK)
        assert stage.sent(client).startswith(b"HTTP/1.1 " + status)

    play(scene, policy=RoutePolicy(ssl_redirect=False, body_bytes=10))


def test_a_broken_security_policy_closes_its_routes() -> None:
    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        client.data_received(GET)
        assert stage.sent(client).startswith(b"HTTP/1.1 503 ")
        assert stage.sent(upstream) == b""

    play(scene, policy=RoutePolicy(failed_closed="whitelist-source-range"))


def test_a_route_whose_policy_was_refused_is_closed_and_not_given_the_process_wide_one() -> None:
    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        client.data_received(GET)
        assert stage.sent(client).startswith(b"HTTP/1.1 503 ")
        assert stage.sent(upstream) == b""

    play(scene, route_policy="default/web")


@pytest.mark.parametrize(("allowed", "status"), [("192.0.2.0/24", b"200"), ("198.51.100.0/24", b"403")])
def test_the_address_of_the_client_decides_and_the_connection_lives_on(allowed: str, status: bytes) -> None:
    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        for _ in range(2):
            client.data_received(GET)
            if status == b"200":
                upstream.data_received(OK)
            assert stage.sent(client).startswith(b"HTTP/1.1 " + status)
        assert bool(stage.sent(upstream)) == (status == b"200")
        assert not client.transport.ended

    play(scene, policy=RoutePolicy(ssl_redirect=False, allowed_sources=(allowed,)))


def test_a_client_that_goes_away_takes_its_upstream_request_with_it() -> None:
    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        client.data_received(GET)
        client.connection_lost(ConnectionResetError())
        assert upstream.transport.ended == "aborted"
        assert stage.worker.column[stage.endpoint.base] == 0

    play(scene)


def test_a_stalled_client_stops_the_reading_of_its_upstream() -> None:
    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        client.data_received(GET)
        upstream.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
        client.pause_writing()
        assert not upstream.transport.reading
        client.resume_writing()
        assert upstream.transport.reading

    play(scene)


def test_time_outs_of_client_and_upstream() -> None:
    def scene(stage: Stage) -> None:
        wheel, now = stage.worker.wheel, stage.now
        quiet, slow, upstream, waiting = stage.client(), stage.client(), stage.pooled(), stage.client()
        slow.data_received(b"GET / HT")
        waiting.data_received(GET)
        assert stage.sent(upstream)
        now[0] += 9.8
        wheel.advance(now[0])
        assert quiet.transport.ended == slow.transport.ended == ""
        now[0] += 0.4
        wheel.advance(now[0])
        assert (quiet.transport.ended, stage.sent(quiet)) == ("closed", b"")
        assert stage.sent(slow).startswith(b"HTTP/1.1 408 ")
        assert stage.sent(waiting) == b""
        now[0] += 10.0
        wheel.advance(now[0])
        assert stage.sent(waiting).startswith(b"HTTP/1.1 504 ")
        assert upstream.transport.ended == "aborted"

    play(
        scene,
        process=ProcessPolicy(client_header_timeout_s=10.0),
        policy=RoutePolicy(ssl_redirect=False, read_timeout_s=20.0),
    )


def test_a_101_nobody_asked_for_is_a_bad_answer() -> None:
    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        client.data_received(GET)
        stage.sent(upstream)
        upstream.data_received(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nevil")
        sent = stage.sent(client)
        assert sent.startswith(b"HTTP/1.1 502 ")
        assert b"evil" not in sent

    play(scene)


def test_half_a_response_head_is_the_end_of_all_tries() -> None:
    def scene(stage: Stage) -> None:
        upstream, client = stage.pooled(), stage.client()
        client.data_received(GET)
        stage.sent(upstream)
        upstream.data_received(b"HTTP/1.1 200 OK\r\nContent-")
        upstream.eof_received()
        assert stage.sent(client).startswith(b"HTTP/1.1 502 ")
        assert stage.worker.counters.retries == 0

    play(scene)


def test_a_connect_time_out_is_the_endpoints_while_the_body_is_still_coming() -> None:
    def scene(stage: Stage) -> None:
        client = stage.client()
        client.data_received(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\nslow")
        stage.now[0] += 5.2
        stage.worker.wheel.advance(stage.now[0])
        assert stage.sent(client).startswith(b"HTTP/1.1 504 ")

    play(scene)
