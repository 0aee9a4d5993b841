"""What can go wrong between us and an endpoint, named where it is born.

Whether a failure may be retried follows from its kind, from what has left us and from what has come back: the retry law
in `proxy/http/retry.py`. Which answer the client gets is the table in `proxy/http/errors.py`.
"""

from __future__ import annotations

from enum import Enum


class Failure(Enum):
    """The kinds of failure of one attempt."""

    CONNECT = "upstream refused the connection"
    CONNECT_TIMEOUT = "upstream did not accept the connection in time"
    TLS = "TLS handshake with upstream failed"
    CLOSED = "upstream closed the connection before it answered"
    STALE = "upstream closed the connection, or spoke, before the request was sent"
    BAD_RESPONSE = "upstream sent an invalid response"
    TRUNCATED = "upstream ended its response early"
    READ_TIMEOUT = "upstream did not answer in time"
    SEND_TIMEOUT = "upstream did not take the request in time"
    STATUS = "upstream answered a status that is retried"
    NO_ENDPOINT = "no usable endpoint"
    QUEUE_FULL = "every endpoint has as many requests as it may, and as many wait as may"
    QUEUE_TIMEOUT = "every endpoint has had as many requests as it may for too long"


NOTHING_SENT = frozenset({Failure.CONNECT, Failure.CONNECT_TIMEOUT, Failure.TLS, Failure.STALE})
"""Kinds after which it is certain that no byte of the request was read by anybody."""

FAULTS = NOTHING_SENT | {
    Failure.CLOSED,
    Failure.BAD_RESPONSE,
    Failure.TRUNCATED,
    Failure.READ_TIMEOUT,
    Failure.SEND_TIMEOUT,
}
"""Kinds that outlier detection counts; of answers it counts statuses from 500 on, whether they are retried or not."""

UNREACHABLE = frozenset({Failure.CONNECT, Failure.CONNECT_TIMEOUT, Failure.TLS})
"""Kinds that no request can bring about: nobody was asked anything."""

TIMEOUTS = frozenset({Failure.CONNECT_TIMEOUT, Failure.READ_TIMEOUT, Failure.SEND_TIMEOUT})
"""Kinds that `proxy-next-upstream: timeout` speaks of; the others are `error`."""
