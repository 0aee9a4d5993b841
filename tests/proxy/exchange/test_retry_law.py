"""The retry law, row by row (design, "The retry law")."""

from __future__ import annotations

import msgspec
import pytest

from ingressd.model.units import RoutePolicy
from ingressd.proxy.http.retry import may_retry
from ingressd.proxy.upstream.failure import Failure

POLICY = RoutePolicy()


def allowed(
    failure: Failure,
    *,
    method: bytes = b"GET",
    replayable: bool = True,
    tries: int = 1,
    elapsed_s: float = 0.0,
    **policy: object,
) -> bool:
    return may_retry(
        failure,
        msgspec.structs.replace(POLICY, **policy),
        method=method,
        replayable=replayable,
        tries=tries,
        elapsed_s=elapsed_s,
    )


@pytest.mark.parametrize("failure", [Failure.CONNECT, Failure.CONNECT_TIMEOUT, Failure.TLS])
@pytest.mark.parametrize("method", [b"GET", b"POST", b"PATCH"])
def test_when_no_byte_left_any_method_goes_again(failure: Failure, method: bytes) -> None:
    assert allowed(failure, method=method)


@pytest.mark.parametrize(("method", "again"), [(b"GET", True), (b"PUT", True), (b"POST", False), (b"PATCH", False)])
def test_after_request_bytes_only_idempotent_methods_go_again(method: bytes, again: bool) -> None:
    assert allowed(Failure.CLOSED, method=method) is again
    assert allowed(Failure.CLOSED, method=method, next_upstream=frozenset({"error", "non_idempotent"}))


def test_a_body_that_is_gone_cannot_go_again() -> None:
    assert not allowed(Failure.CLOSED, replayable=False)
    assert not allowed(Failure.CONNECT, replayable=False)


@pytest.mark.parametrize(("tries", "again"), [(1, True), (2, True), (3, False), (4, False)])
def test_tries_are_counted_in_all(tries: int, again: bool) -> None:
    assert allowed(Failure.CONNECT, tries=tries) is again


def test_zero_tries_means_no_limit() -> None:
    assert allowed(Failure.CONNECT, tries=50, next_upstream_tries=0)


@pytest.mark.parametrize("failure", [Failure.CONNECT, Failure.CLOSED, Failure.READ_TIMEOUT, Failure.STATUS])
def test_off_is_off(failure: Failure) -> None:
    assert not allowed(failure, next_upstream=frozenset({"off"}))


def test_conditions_are_asked_by_kind() -> None:
    assert not allowed(Failure.CONNECT, next_upstream=frozenset({"timeout"}))
    assert not allowed(Failure.READ_TIMEOUT, next_upstream=frozenset({"error"}))
    assert not allowed(Failure.BAD_RESPONSE)
    assert allowed(Failure.BAD_RESPONSE, next_upstream=frozenset({"invalid_header"}))


@pytest.mark.parametrize(("elapsed_s", "again"), [(1.9, True), (2.0, False), (9.0, False)])
def test_next_upstream_timeout_bounds_the_whole(elapsed_s: float, again: bool) -> None:
    assert allowed(Failure.CONNECT, elapsed_s=elapsed_s, next_upstream_timeout_s=2.0) is again
