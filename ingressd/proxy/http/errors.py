"""The one table from what went wrong to the answer, where errors from any hop meet."""

from __future__ import annotations

from typing import Final

from ingressd.proxy.upstream.failure import Failure

STATUS: Final[dict[Failure, int]] = {
    Failure.CONNECT: 502,
    Failure.CONNECT_TIMEOUT: 504,
    Failure.TLS: 502,
    Failure.CLOSED: 502,
    Failure.STALE: 502,
    Failure.BAD_RESPONSE: 502,
    Failure.TRUNCATED: 502,
    Failure.READ_TIMEOUT: 504,
    Failure.SEND_TIMEOUT: 504,
    Failure.STATUS: 502,
    Failure.NO_ENDPOINT: 503,
    Failure.QUEUE_FULL: 503,
    Failure.QUEUE_TIMEOUT: 503,
}
"""Answer of a failure that was not retried, or whose retries failed too."""

OVERLOADED: Final = "overloaded"
"""Why a request that waited was refused (`proxy/runtime/overload.py`)."""

CLIENT_GONE: Final = 499
"""nginx's NGX_HTTP_CLIENT_CLOSED_REQUEST: logged, never sent."""
