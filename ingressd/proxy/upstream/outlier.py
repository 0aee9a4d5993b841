"""Outlier detection: an endpoint that nobody can connect to is passed over for a while. Passive, light, shared.

ingress-nginx sets `max_fails=0` and never ejects; but there every request finds a dead endpoint anew, and waits for the
connect timeout if the endpoint is a black hole. So: one connect timeout ejects, and so do `REFUSALS` refused
connections in a row (a refusal costs microseconds and is usually a pod that is just starting or leaving). Back-off is
1 s, doubled with each further failure up to 30 s; when it ends the endpoint is tried again, and one more failure ejects
it again. A successful connection forgets everything.

Every worker counts for itself and writes only its own column; an ejection by any worker counts for all.
"""

from __future__ import annotations

from typing import Final, Protocol

from ingressd.observe.shared_table import EJECTED_UNTIL_MS, SharedTable
from ingressd.proxy.upstream.endpoint import EndpointState

REFUSALS: Final = 5
"""Refused connections in a row that eject."""

BACKOFF_S: Final = 1.0
BACKOFF_MAX_S: Final = 30.0


_NO_SLOT: Final = SharedTable.base(0)
"""Base of slot 0, which all endpoints without a slot share: an ejection written there would eject them all."""


class Cells(Protocol):
    """A worker's column of the shared table."""

    def __getitem__(self, cell: int, /) -> int: ...
    def __setitem__(self, cell: int, value: int, /) -> None: ...


def failed(endpoint: EndpointState, now: float, *, timed_out: bool, own_column: Cells | None) -> bool:
    """Count a connect failure at `now` (monotonic seconds); true when it ejects the endpoint."""
    if endpoint.ejected_until > now:
        return False  # Tries that were under way when it was ejected must not double the back-off.
    endpoint.failures = max(endpoint.failures + 1, REFUSALS if timed_out else 0)
    excess = endpoint.failures - REFUSALS
    if excess < 0:
        return False
    endpoint.ejected_until = now + min(BACKOFF_S * 2.0 ** min(excess, 10), BACKOFF_MAX_S)
    if own_column is not None and endpoint.base > _NO_SLOT:
        own_column[endpoint.base + EJECTED_UNTIL_MS] = int(endpoint.ejected_until * 1000)
    return True


def succeeded(endpoint: EndpointState) -> None:
    """A connection was made. An ejection that runs is left to run out: the other workers' tries may still fail."""
    endpoint.failures = 0


def is_ejected(endpoint: EndpointState, now: float) -> bool:
    """Whether any worker's ejection of this endpoint runs at `now`; keeps `endpoint.ejected_until` up to date."""
    until = endpoint.ejected_until
    if endpoint.base > _NO_SLOT:
        cell = endpoint.base + EJECTED_UNTIL_MS
        for column in endpoint.columns:
            until = max(until, column[cell] / 1000)
    endpoint.ejected_until = until if until > now else 0.0
    return until > now
