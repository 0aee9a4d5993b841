"""Where an attempt of an exchange goes: which endpoint, counted there as long as it lasts, and within its cap."""

from __future__ import annotations

from ingressd.observe.shared_table import IN_FLIGHT
from ingressd.protocol.h1 import RequestHead
from ingressd.proxy.http.downstream import Downstream
from ingressd.proxy.http.errors import STATUS
from ingressd.proxy.runtime.forwarded import Forwarded
from ingressd.proxy.runtime.runtime import CompiledRoute
from ingressd.proxy.runtime.worker import Worker
from ingressd.proxy.upstream.connection import ResponseHandler
from ingressd.proxy.upstream.endpoint import EndpointState
from ingressd.proxy.upstream.failure import Failure
from ingressd.proxy.upstream.group import UpstreamGroup
from ingressd.proxy.upstream.request_queue import RequestQueue


class Placing(ResponseHandler):
    """The choice of an endpoint. `Exchange` sets every attribute, and is the only class made of it.

    Where there is a cap it is the `Waiter` of a `RequestQueue`.
    """

    __slots__ = (
        "_base",
        "_endpoint",
        "_queue",
        "_tried",
        "client",
        "forwarded",
        "head",
        "host",
        "route",
        "worker",
    )

    client: Downstream
    worker: Worker
    head: RequestHead | None
    route: CompiledRoute | None
    forwarded: Forwarded | None
    host: bytes  # in its normal form
    _base: int  # of the endpoint's cells, while an attempt counts there
    _endpoint: EndpointState | None
    _queue: RequestQueue | None  # in which this waits for an endpoint
    _tried: list[EndpointState] | None

    def refuse(self, status: int, reason: str, *, close: bool = False) -> None:
        """End the exchange with one of our own answers; after the first byte of another one, cut that short instead."""
        raise NotImplementedError

    def _attempt(self, now: float) -> None:
        raise NotImplementedError

    def _begin(self, group: UpstreamGroup, endpoint: EndpointState, now: float) -> None:
        """Go, to an endpoint that counts this request already."""
        raise NotImplementedError

    def _next_endpoint(self, now: float) -> EndpointState | None:
        route = self.route
        if route is None or route.group is None:
            return None
        balancer = route.group.balancer
        key = self._hash_key(route.group.unit.hash_by)
        tried = self._tried
        if tried is None:
            return balancer.pick(key, now)
        first = None
        for candidate in balancer.candidates(key, now):
            if candidate not in tried:
                return candidate
            first = first or candidate
        return first

    def _hash_key(self, hash_by: str) -> bytes | None:
        if not hash_by:
            return None
        head = self.head
        forwarded = self.forwarded
        if head is None or forwarded is None:
            return None
        if hash_by == "client_ip":
            return forwarded.client_ip.encode("latin-1")
        if hash_by == "uri":
            return head.target
        if hash_by == "host":
            return self.host
        return self._field(hash_by.removeprefix("header:").lower().encode("latin-1"))

    def _take(self, endpoint: EndpointState) -> None:
        self._endpoint = endpoint
        self._base = endpoint.base
        self.worker.column[self._base + IN_FLIGHT] += 1

    def _leave(self) -> None:
        """This attempt is over, however it went."""
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            self.worker.column[self._base + IN_FLIGHT] -= 1
            if endpoint.queue is not None:
                endpoint.queue.left(endpoint)

    # ------------------------------------------------------------------------------------------------ the cap
    def _attempt_within_cap(self, group: UpstreamGroup, queue: RequestQueue, now: float) -> None:
        """Go to an endpoint that may have one more, or wait for one, or be refused."""
        if not len(queue) and self._go(group, queue, now):
            return
        if queue.is_full():
            self.worker.counters.queue_full += 1
            self.refuse(STATUS[Failure.QUEUE_FULL], Failure.QUEUE_FULL.value)
            return
        self._queue = queue
        queue.join(self, now)
        self.client.set_deadline(now + queue.cap.pending_timeout_s)

    def _go(self, group: UpstreamGroup, queue: RequestQueue, now: float) -> bool:
        """Begin with the first endpoint that has a place; true when that, or the end, has come."""
        candidates = list(group.balancer.candidates(self._hash_key(group.unit.hash_by), now))
        if not candidates:
            self.refuse(STATUS[Failure.NO_ENDPOINT], Failure.NO_ENDPOINT.value)
            return True
        if self._tried is not None:
            tried = self._tried
            candidates = [endpoint for endpoint in candidates if endpoint not in tried] or candidates
        endpoint = queue.choose(candidates, now)
        return endpoint is not None and self._go_to(group, queue, endpoint, now)

    def _go_to(self, group: UpstreamGroup, queue: RequestQueue, endpoint: EndpointState, now: float) -> bool:
        """Begin with this endpoint, unless another worker was quicker."""
        self._take(endpoint)
        if queue.is_over(endpoint):
            self._endpoint = None
            self.worker.column[self._base + IN_FLIGHT] -= 1
            return False
        self._wait_no_more()
        self._begin(group, endpoint, now)
        return True

    def _wait_no_more(self) -> None:
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.leave(self)

    @property
    def picky(self) -> bool:
        """As in `Waiter`."""
        return self._tried is not None

    def offer(self, endpoint: EndpointState, now: float) -> bool:
        """As in `Waiter`."""
        queue = self._queue
        group = self.route.group if self.route is not None else None
        if queue is None or group is None:
            return False
        usable = group.balancer.usable
        tried = self._tried
        if endpoint not in usable or (tried is not None and endpoint in tried and any(e not in tried for e in usable)):
            return False
        return self._go_to(group, queue, endpoint, now)

    def look(self, now: float) -> bool:
        """As in `Waiter`."""
        queue = self._queue
        group = self.route.group if self.route is not None else None
        if queue is None or group is None:
            return False
        if group.queue is queue:
            return self._go(group, queue, now)
        self._wait_no_more()
        self._attempt(now)
        return True

    def _field(self, name: bytes) -> bytes | None:
        """The first value of a request field, by its lowercase name; None when it is not there."""
        head = self.head
        if head is None:
            return None
        if name == b"host":
            return head.host
        if head.special is not None and name in head.special:
            return head.special[name][0]
        for line in head.fields:
            field, _, value = line.partition(b":")
            if field.lower() == name:
                return value.strip(b" \t")
        return None
