"""The keys of the cap on requests of an endpoint, for an entry of `upstreams` and for a Service's annotations."""

from __future__ import annotations

from typing import Final

from ingressd.settings.values import Parser, integer, some_seconds

MAX_REQUESTS: Final = 1_000_000
MAX_PENDING: Final = 10_000
"""Of the pod. Each holds its client's connection, and of a body up to 64 KiB."""
MAX_PENDING_S: Final = 60.0
"""An endpoint's place in the shared table is kept so long after it left."""


def _pending_seconds(text: str) -> float:
    value = some_seconds(text)
    if value > MAX_PENDING_S:
        raise ValueError(f"expected a time of 60s at most, got {text!r}")
    return value


REQUEST_CAP: Final[dict[str, tuple[str, Parser]]] = {
    "maxRequests": ("max_requests", integer(1, MAX_REQUESTS)),
    "maxPending": ("max_pending", integer(0, MAX_PENDING)),
    "pendingTimeout": ("pending_timeout_s", _pending_seconds),
}
"""As the configuration file spells them: the field of `RequestCap`, and how to read it from text."""

ANNOTATIONS: Final[dict[str, str]] = {
    "maxRequests": "ingressd.dev/max-requests",
    "maxPending": "ingressd.dev/max-pending",
    "pendingTimeout": "ingressd.dev/pending-timeout",
}
"""The same as annotations of a Service."""
