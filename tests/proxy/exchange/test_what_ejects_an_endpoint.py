"""What an exchange tells outlier detection of its endpoint: whole answers below 500 are good; what counts as bad."""

from __future__ import annotations

import pytest
from stage.played import Stage, play

from ingressd.model.units import RoutePolicy

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NO_RETRIES = RoutePolicy(ssl_redirect=False, next_upstream=frozenset({"off"}))


def counting(stage: Stage, failures: int = 0) -> None:
    """As if there were another endpoint, to which requests could go; this one has failed so often."""
    balancer = stage.dataplane._builder.group("/u").balancer
    balancer._only = None
    balancer._eligible = balancer.usable = [stage.endpoint] * 2
    stage.endpoint.failures = failures


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
def test_statuses_from_500_on_are_failures(status: int) -> None:
    def scene(stage: Stage) -> None:
        counting(stage, 1)
        upstream, client = stage.pooled(), stage.client()
        client.data_received(GET)
        upstream.data_received(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
        assert stage.sent(client).startswith(b"HTTP/1.1 %d " % status)
        assert stage.endpoint.failures == 2

    play(scene, policy=NO_RETRIES)


@pytest.mark.parametrize("status", [200, 304, 404, 429, 499])
def test_a_whole_answer_below_500_forgets_failures(status: int) -> None:
    def scene(stage: Stage) -> None:
        counting(stage, 4)
        upstream, client = stage.pooled(), stage.client()
        client.data_received(GET)
        upstream.data_received(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
        assert stage.endpoint.failures == 0

    play(scene, policy=NO_RETRIES)


def test_a_head_alone_says_nothing_good_and_an_answer_that_ends_early_is_a_failure() -> None:
    def scene(stage: Stage) -> None:
        counting(stage, 1)
        upstream, client = stage.pooled(), stage.client()
        client.data_received(GET)
        upstream.data_received(OK[:-1])
        assert stage.endpoint.failures == 1
        upstream.connection_lost(None)
        assert stage.endpoint.failures == 2

    play(scene, policy=NO_RETRIES)


def test_an_upgrade_is_a_success() -> None:
    def scene(stage: Stage) -> None:
        counting(stage, 4)
        upstream, client = stage.pooled(), stage.client()
        client.data_received(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        upstream.data_received(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert stage.endpoint.failures == 0

    play(scene, policy=NO_RETRIES)


def test_a_tunnel_that_breaks_and_a_client_that_leaves_say_nothing() -> None:
    def scene(stage: Stage) -> None:
        counting(stage)
        upstream, client = stage.pooled(), stage.client()
        client.data_received(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        upstream.data_received(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        upstream.connection_lost(ConnectionResetError())
        assert stage.endpoint.failures == 0
        counting(stage, 1)
        stage.pooled()
        other = stage.client()
        other.data_received(GET)
        other.connection_lost(None)
        assert stage.endpoint.failures == 1

    play(scene, policy=NO_RETRIES)


@pytest.mark.parametrize(("policy", "failures"), [(RoutePolicy(ssl_redirect=False), 0), (NO_RETRIES, 1)])
def test_a_pooled_connection_that_has_just_ended_is_a_failure_only_when_it_costs_a_request(
    policy: RoutePolicy, failures: int
) -> None:
    def scene(stage: Stage) -> None:
        counting(stage)
        upstream, client = stage.pooled(), stage.client()
        client.data_received(GET)
        upstream.data_received(OK)
        client.data_received(GET)
        stage.worker.outbox.flush()
        upstream.connection_lost(None)
        assert stage.worker.counters.retries == 1 - failures
        assert stage.endpoint.failures == failures

    play(scene, policy=policy)


def test_bad_answers_are_failures() -> None:
    def scene(stage: Stage) -> None:
        counting(stage)
        upstream, client = stage.pooled(), stage.client()
        client.data_received(GET)
        upstream.data_received(b"what?\r\n\r\n")
        assert stage.sent(client).startswith(b"HTTP/1.1 502 ")
        assert stage.endpoint.failures == 1

    play(scene, policy=NO_RETRIES)
