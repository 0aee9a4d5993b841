"""The attempts of an exchange: over which connection, and whether there is another one after a failure.

The retry law itself is `retry.may_retry`; here is what it is asked with, and what follows from its answer.
"""

from __future__ import annotations

import asyncio
import ssl

from ingressd.observe.shared_table import FAILURES, REQUESTS
from ingressd.proxy.drain.linger import has_unread
from ingressd.proxy.http.errors import STATUS
from ingressd.proxy.http.placing import Placing
from ingressd.proxy.http.retry import IDEMPOTENT, REPLAY_BYTES, may_retry
from ingressd.proxy.runtime.memory import EXCHANGE_BYTES
from ingressd.proxy.runtime.runtime import CompiledRoute, Runtime
from ingressd.proxy.upstream.connection import UpstreamConnection
from ingressd.proxy.upstream.endpoint import EndpointState
from ingressd.proxy.upstream.evidence import is_deaf, is_unacknowledged
from ingressd.proxy.upstream.failure import FAULTS, TIMEOUTS, UNREACHABLE, Failure
from ingressd.proxy.upstream.group import UpstreamGroup
from ingressd.proxy.upstream.opening import OUT_OF_RESOURCES


class Attempts(Placing):
    """The upstream's side of an exchange. `Exchange` sets every attribute, and is the only class made of it."""

    __slots__ = (
        "_connect",
        "_connection",
        "_fresh",
        "_message",
        "_replay",
        "_replay_bytes",
        "_request_ended",
        "_sent",
        "_tries",
        "answering",
        "error",
        "runtime",
        "started_s",
        "tunnelling",
        "upstream_addr",
        "upstream_s",
        "upstream_started_s",
        "upstream_status",
    )

    runtime: Runtime
    error: str | None  # why, when the answer is ours or was cut
    answering: bool  # the head of an answer has gone out: the only failure left is to cut it short
    tunnelling: bool
    started_s: float
    upstream_addr: str  # every endpoint that was tried
    upstream_status: int
    upstream_started_s: float  # when the request left, in this attempt
    upstream_s: float  # until the response's head came; below 0 without one
    _connection: UpstreamConnection | None
    _connect: asyncio.Task[None] | None
    _fresh: bool  # no pooled connection any more
    _message: bytes  # the request's head as it is sent
    _replay: list[bytes] | None  # what came of the body, framed, as long as it may have to be sent again
    _replay_bytes: int
    _request_ended: bool
    _sent: bool
    _tries: int

    def _cut(self, reason: str) -> None:
        raise NotImplementedError

    def _end_tunnel(self, reason: str) -> None:
        raise NotImplementedError

    @property
    def connecting(self) -> bool:
        """Whether an endpoint is waited for, so that the deadline is that of the endpoint, not of the client."""
        return self._connect is not None or self._queue is not None

    def _replayable(self) -> bool:
        """Whether everything of the body that has come is still here."""
        return self._replay_bytes <= REPLAY_BYTES

    def held_bytes(self) -> int:
        """What this holds of our memory, the connection to its endpoint included."""
        held = EXCHANGE_BYTES + 2 * len(self._message) + self._replay_bytes
        connection = self._connection
        if connection is not None and connection.transport is not None:
            held += int(connection.transport.get_write_buffer_size())
        return held

    # ------------------------------------------------------------------------------------------------ attempts
    def _attempt(self, now: float) -> None:
        """Send the request to the next endpoint: over a pooled connection if there is one, else over a new one."""
        route = self.route
        head = self.head
        if route is None or route.group is None or head is None:
            return
        group = route.group
        if group.queue is not None:
            self._attempt_within_cap(group, group.queue, now)
            return
        endpoint = self._next_endpoint(now)
        if endpoint is None:
            self.refuse(STATUS[Failure.NO_ENDPOINT], Failure.NO_ENDPOINT.value)
            return
        self._take(endpoint)
        self._begin(group, endpoint, now)

    def _begin(self, group: UpstreamGroup, endpoint: EndpointState, now: float) -> None:
        """Go, to an endpoint that counts this request already."""
        self._tries += 1
        if self._tries == 1:
            group.budget.count_request(now)
        self.worker.column[self._base + REQUESTS] += 1
        self.upstream_addr = self.upstream_addr + ", " + endpoint.name if self.upstream_addr else endpoint.name
        self._over_next_connection(endpoint, now)

    def _over_next_connection(self, endpoint: EndpointState, now: float) -> None:
        route = self.route
        head = self.head
        if route is None or route.group is None or head is None:
            return
        group = route.group
        server_name = group.server_name(self.host.decode("latin-1")) if group.context is not None else ""
        if not self._fresh:
            connection = endpoint.pool.take(server_name)
            if group.context is not None and head.method not in IDEMPOTENT:
                # Over TLS the connection cannot tell what waits in its receive queue; what is in doubt is not used.
                while connection is not None and has_unread(connection.transport):
                    connection.close()
                    connection = endpoint.pool.take(server_name)
            if connection is not None:
                self.worker.counters.pool_reused += 1
                self._send(connection, now)
                return
        self.worker.counters.pool_opened += 1
        self.worker.outbox.note_opening()
        self.client.set_deadline(now + route.connect_timeout_s)
        self._connect = self.worker.loop.create_task(self._open(endpoint, server_name, now), name="upstream connect")

    async def _open(self, endpoint: EndpointState, server_name: str, now: float) -> None:
        """Connect, then send. Cancelled when the deadline passes or the client goes away."""
        route = self.route
        if route is None or route.group is None:
            return
        group = route.group
        failure = Failure.CONNECT
        detail = ""
        ours = False
        connection = None
        try:
            connection = await group.connect(endpoint, server_name, self.runtime.response_limits, now)
        except (ssl.SSLError, ValueError) as error:
            failure, detail = Failure.TLS, str(error)
        except OSError as error:
            detail = error.strerror or str(error)
            ours = error.errno in OUT_OF_RESOURCES
        self._connect = None
        now = self.worker.clock()
        if connection is None or connection.transport is None:
            self._connect_failed(failure, detail, now, ours)
            return
        endpoint.pool.opened(connection)
        if not connection.reusable:
            # It spoke before it was asked, or left already: whatever that was, it is not our answer.
            connection.close()
            self._sent = False
            self._failed(Failure.STALE, "")
            return
        if self._endpoint is endpoint and not self.answering:
            self._send(connection, now)
        else:
            endpoint.pool.release(connection, now)

    def _connect_failed(self, failure: Failure, detail: str, now: float, ours: bool) -> None:
        """`ours` says that it is we who lacked something: no reason to shun the endpoint."""
        self.worker.counters.connect_failures += 1
        self._failed(failure, detail, ours=ours)

    def _send(self, connection: UpstreamConnection, now: float) -> None:
        route = self.route
        head = self.head
        if route is None or head is None:
            return
        self._connection = connection
        self._sent = True
        self.upstream_started_s = now
        ended = self._request_ended
        replay = self._replay
        client = self.client
        message = self._message
        if replay is not None:
            message = message + b"".join(replay)
            if self._replay_bytes > REPLAY_BYTES:
                self._replay = None
                client.resume_reading()
        if ended:
            client.set_deadline(now + route.unheard_s)
        else:
            client.set_deadline(now + self.runtime.body_timeout_s)
        if route.closes_upstream:
            connection.retire()
        connection.send(self, head.method, message, ended)

    def _unheard(self, connection: UpstreamConnection, now: float) -> bool:
        """At the deadline of a sent request: whether the read time-out is still to come, and this was but a look.

        A peer that has gone without a word (its node died, a firewall forgot the connection) acknowledges nothing. For
        `proxy-connect-timeout` that is believed to be loss; then the law for a connection that died holds.
        """
        route = self.route
        if route is None or not self._request_ended or self.answering:
            return False
        until_s = self.upstream_started_s + route.read_timeout_s
        if now >= until_s or route.unheard_s >= route.read_timeout_s:
            return False
        endpoint = self._endpoint
        if (
            endpoint is not None
            and is_deaf(connection.transport, route.connect_timeout_s)
            and self._retry(Failure.CLOSED)
        ):
            endpoint.pool.drop_idle()
            self._connection = None
            connection.close()
            self._fresh = True
            self._failed(Failure.CLOSED, "does not acknowledge what is sent")
        else:
            self.client.set_deadline(until_s)
        return True

    def _crossed(self, connection: UpstreamConnection) -> bool:
        """Whether an answer that came too soon had left before the request came: on the wire, the two have crossed.

        With a body that cannot be told: a server may well answer before the last of it has arrived.
        """
        if self._replay_bytes or not self._request_ended or not is_unacknowledged(connection.transport):
            return False
        self._connection = None
        connection.faulty = True
        connection.close()
        self._fresh = True
        self._failed(Failure.CLOSED, "answered before the request came")
        return True

    # ------------------------------------------------------------------------------------------------ failures
    def on_upstream_failed(self, connection: UpstreamConnection, failure: Failure, detail: str) -> None:
        """The connection that carried the request is gone."""
        if connection is not self._connection:
            return
        self._connection = None
        if failure is Failure.STALE and self._replayable():
            # The retry law: discarded silently, and the next one taken. Nothing of the request has left.
            self._sent = False
            endpoint = self._endpoint
            if connection.reused and endpoint is not None:
                self._over_next_connection(endpoint, self.worker.clock())
                return
        if failure is Failure.CLOSED and connection.reused and connection.requests > 1 and not self.answering:
            self._fresh = True
        self._failed(failure, detail)

    def _judge(self, endpoint: EndpointState, now: float, failure: Failure | None) -> None:
        """What an attempt says of its endpoint: outlier detection. None for an answer below 500."""
        route = self.route
        if route is None or route.group is None:
            return
        if failure is None:
            route.group.balancer.succeeded(endpoint, now)
            return
        self.worker.counters.ejections += route.group.balancer.failed(
            endpoint, now, at_once=failure is Failure.CONNECT_TIMEOUT, asked=failure not in UNREACHABLE
        )

    def _failed(self, failure: Failure, detail: str, *, ours: bool = False) -> None:
        """An attempt failed: another one, or the end. `ours` says that the endpoint has nothing to do with it."""
        endpoint = self._endpoint
        if endpoint is not None:
            self.worker.column[self._base + FAILURES] += 1
            if self._tried is None:
                self._tried = []
            self._tried.append(endpoint)
        self._note_attempt()
        self._leave()
        reason = f"{failure.value}: {detail}" if detail else failure.value
        if self.tunnelling:
            self._end_tunnel(reason)
            return
        again = not self.answering and self._retry(failure)
        # A pooled connection that had just ended is nobody's fault, unless it cost a request.
        excused = ours or (again and (failure is Failure.STALE or (self._fresh and failure is Failure.CLOSED)))
        if endpoint is not None and not excused and failure in FAULTS:
            self._judge(endpoint, self.worker.clock(), failure)
        if self.answering:
            self._cut(reason)
            return
        if again:
            self.worker.counters.retries += 1
            self._attempt(self.worker.clock())
            return
        self.refuse(STATUS[failure], reason, close=not self._request_ended)

    def _retry(self, failure: Failure) -> bool:
        route = self.route
        head = self.head
        if route is None or route.group is None or head is None:
            return False
        now = self.worker.clock()
        allowed = may_retry(
            failure,
            route.policy,
            method=head.method,
            replayable=not self._sent or (self._request_ended and self._replayable()),
            tries=self._tries,
            elapsed_s=now - self.started_s,
        )
        if allowed and failure in TIMEOUTS and self._alone(route):
            return False  # Who has just let a time-out pass is not asked to do it again.
        if allowed and (failure in TIMEOUTS or failure is Failure.STATUS) and failure is not Failure.CONNECT_TIMEOUT:
            allowed = route.group.budget.take(now)
            if not allowed:
                self.worker.counters.retries_refused += 1
        return allowed

    def _alone(self, route: CompiledRoute) -> bool:
        """Whether every endpoint there is has been tried."""
        group = route.group
        tried = self._tried or ()
        return group is None or all(endpoint in tried for endpoint in group.endpoints.values())

    def _note_attempt(self) -> None:
        if self.upstream_started_s:
            self.upstream_s = self.worker.clock() - self.upstream_started_s

    def _abandon_upstream(self) -> None:
        """Stop whatever is under way towards an endpoint; a connection with half a message is never pooled."""
        connect, self._connect = self._connect, None
        if connect is not None:
            connect.cancel()
        self._wait_no_more()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._leave()
