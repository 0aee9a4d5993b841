"""The retry law (design, "The retry law"): whether a failed attempt may be followed by another one."""

from __future__ import annotations

from typing import Final

from ingressd.model.units import RoutePolicy
from ingressd.proxy.upstream.failure import NOTHING_SENT, TIMEOUTS, Failure

IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})
"""RFC 9110 section 9.2.2."""

REPLAY_BYTES: Final = 65536
"""A request body up to this size is kept until the response begins, so that it can be sent again."""


def may_retry(
    failure: Failure, policy: RoutePolicy, *, method: bytes, replayable: bool, tries: int, elapsed_s: float
) -> bool:
    """Whether the law allows an attempt after `tries` of them. Asked only before the first response byte went out.

    The retry budget is asked besides, by the caller, for time-outs and statuses.
    """
    conditions = policy.next_upstream
    if tries >= policy.next_upstream_tries > 0 or "off" in conditions:
        return False
    if policy.next_upstream_timeout_s and elapsed_s >= policy.next_upstream_timeout_s:
        return False
    if failure is not Failure.STATUS:
        wanted = "timeout" if failure in TIMEOUTS else "error"
        if failure is Failure.BAD_RESPONSE:
            wanted = "invalid_header"
        if wanted not in conditions:
            return False
    if not replayable:
        return False
    if failure in NOTHING_SENT:
        return True
    return method in IDEMPOTENT or "non_idempotent" in conditions
