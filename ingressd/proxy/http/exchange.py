"""One request and its response: route, filters, attempts under the retry law, relay, and always one log record.

The exchange takes `runtime.current` once and keeps it. It knows nothing of HTTP versions: the client's connection and
the upstream's connection do. No Task is made for an exchange but to connect.
"""

from __future__ import annotations

from typing import Any, Final

from ingressd.filters.base import Answer
from ingressd.protocol.chunked import LAST_CHUNK, chunk
from ingressd.protocol.fields import MAX_FORWARDS, STRICT_TRANSPORT_SECURITY, VIA
from ingressd.protocol.h1 import NO_BODY, RequestHead, ResponseHead
from ingressd.proxy.http.answers import status_line
from ingressd.proxy.http.client_certificates import judge
from ingressd.proxy.http.downstream import BODILESS, END, UNKNOWN_LENGTH, Downstream
from ingressd.proxy.http.errors import CLIENT_GONE, OVERLOADED, STATUS
from ingressd.proxy.http.retry import IDEMPOTENT, REPLAY_BYTES
from ingressd.proxy.http.tunnel import Tunnel
from ingressd.proxy.routing.normalise import normalise_path
from ingressd.proxy.runtime.forwarded import Forwarded
from ingressd.proxy.runtime.runtime import CompiledRoute, Runtime
from ingressd.proxy.tls.clients import ClientGuards
from ingressd.proxy.upstream.connection import UpstreamConnection
from ingressd.proxy.upstream.failure import Failure

_VERSION: Final = b" HTTP/1.1\r\n"

MAX_VIA: Final = 10
"""Proxies a request may have passed; an upstream whose address is our own would make it pass for ever."""

RETRY_STATUSES: Final = {
    403: "http_403",
    404: "http_404",
    429: "http_429",
    500: "http_500",
    502: "http_502",
    503: "http_503",
    504: "http_504",
}


RETRY_LATER: Final = frozenset(
    {Failure.NO_ENDPOINT.value, Failure.QUEUE_FULL.value, Failure.QUEUE_TIMEOUT.value, OVERLOADED}
)
"""Why we answer 503 although the same request may well be served in a moment."""

OK_LINE: Final = b"HTTP/1.1 200 OK\r\n"


class Exchange(Tunnel):
    """The state of one exchange; made for every request, so plain slots."""

    __slots__ = (
        "_body_seen",
        "_transform",
        "framed",
        "path",
    )

    def __init__(self, client: Downstream, runtime: Runtime, head: RequestHead | None, now: float) -> None:
        self.client = client
        self.worker = client.worker
        self.runtime = runtime
        self.head = head
        self.started_s = now
        self.route = None
        self.forwarded = None
        self.host = b""
        self.path = b""
        self.status = 0
        self.error = None
        self.answering = False
        self.framed = True
        """The client can see by the framing where the answer ends."""
        self.tunnelling = False
        self.bytes_received = 0
        self.upstream_addr = ""
        self.upstream_status = 0
        self.upstream_started_s = 0.0
        self.upstream_s = -1.0
        self._base = 0
        self._connection = None
        self._endpoint = None
        self._connect = None
        self._message = b""
        self._replay = None
        self._replay_bytes = 0
        self._body_seen = 0
        self._request_ended = False
        self._sent = False
        self._transform: Any = None
        self._tries = 0
        self._tried = None
        self._fresh = False
        self._queue = None

    @property
    def speaks_11(self) -> bool:
        """Whether the client may be sent interim responses (RFC 9110 section 15.2)."""
        return self.head is not None and self.head.version >= 11

    # ------------------------------------------------------------------------------------------------ request
    def begin(self, payload: bytes, ended: bool) -> None:
        """Route the request and make the first attempt. `payload` is what has come of the body, decoded."""
        head = self.head
        client = self.client
        runtime = self.runtime
        if head is None:
            return
        self.worker.counters.requests += 1
        self.bytes_received += len(payload)
        self._request_ended = ended
        forwarded = self.forwarded = runtime.forwarder.forward(head, client.peer_ip, client.tls, client.port)
        if head.special is not None and self._hops_answered(head):
            return
        try:
            host = self.host = runtime.host_of(head.host)
            path = self.path = normalise_path(head.path)
        except ValueError as error:
            if head.path == b"*":
                # RFC 9110, 9.3.7: "the OPTIONS request applies to the server in general", whose part no route plays.
                self._answer_options()
            else:
                self.refuse(400, str(error), close=True)
            return
        route = self.route = runtime.table.match(host, path)
        if runtime.guards is not None and self._stopped(runtime.guards, forwarded):
            return
        if route is None:
            self._unrouted()
            return
        if route.failed_closed is not None:
            self.refuse(503, f"security policy cannot be read: {route.failed_closed}")
            return
        for request_filter in route.request_filters:
            answer = request_filter.on_request(forwarded)
            if answer is not None:
                self._answer(answer)
                return
        if route.group is None:
            self.refuse(route.status, "no upstream")
            return
        limit = route.body_bytes
        if limit is not None and (
            (head.content_length is not None and head.content_length > limit)
            or (head.chunked and len(payload) + client.announced_bytes() > limit)
        ):
            self.refuse(413, "request body is larger than proxy-body-size", close=True)
            return
        upgrade = self._upgrade(head, route)
        if upgrade is None:
            return
        self._message = self._request_message(head, forwarded.lines, upgrade)
        if payload or (ended and head.chunked):
            self._keep_body(self._frame(payload, ended))
        if not ended:
            self._body_seen = len(payload)
            if head.expect_continue and not payload:
                client.write_continue()
        self._attempt(self.started_s)

    def _hops_answered(self, head: RequestHead) -> bool:
        """Fields that count hops: whether the request ends here because of them (RFC 9110 sections 7.6.2 and 7.6.3)."""
        special = head.special or {}
        if sum(value.count(b",") + 1 for value in special.get(VIA, ())) > MAX_VIA:
            self.refuse(508, "request has passed too many proxies")
            return True
        hops = special.get(MAX_FORWARDS)
        if hops is None or not hops[0].isdigit():
            return False
        left = int(hops[0][:9])
        if left == 0:
            self._answer_options()
            return True
        head.fields.append(b"Max-Forwards: %d" % (left - 1))
        return False

    def _answer_options(self) -> None:
        self._answer(Answer(200, ((b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),), b""))

    def _stopped(self, guards: ClientGuards, forwarded: Forwarded) -> bool:
        """Whether the request ends here because of the certificates that its host asks of clients."""
        client = self.client
        identity = client.transport.get_extra_info("client_identity") if client.tls else None
        answer = judge(guards, self.host, identity, self.route, forwarded, self.path, tls=client.tls)
        if answer is not None:
            self._answer(answer, close=True)
        return answer is not None

    def _unrouted(self) -> None:
        if self.path == self.runtime.health_path:
            self._answer(Answer(200, (), b"", ""))
        else:
            self.refuse(404, "no route")

    def _upgrade(self, head: RequestHead, route: CompiledRoute) -> bytes | None:
        """The header lines that ask the upstream for an upgrade: none, or None when the request was refused."""
        token = head.upgrade
        if token is None or head.version < 11 or token not in route.upgrades:
            return b""
        if head.content_length or head.chunked:
            # RFC 9110 section 7.8: the body belongs to the old protocol; nobody sends one, attackers do.
            self.refuse(400, "upgrade request with a body", close=True)
            return None
        return b"Connection: upgrade\r\nUpgrade: " + token + b"\r\n"

    def _request_message(self, head: RequestHead, forwarding: bytes, upgrade: bytes) -> bytes:
        """The head as it is sent upstream: canonical framing, fields we do not touch as the bytes that came."""
        if head.chunked:
            framing = b"Transfer-Encoding: chunked\r\n\r\n"
        elif head.content_length is not None:
            framing = b"Content-Length: %d\r\n\r\n" % head.content_length
        else:
            framing = b"\r\n"
        if upgrade:
            framing = upgrade + framing
        fields = head.fields
        if fields:
            lines = b"\r\n".join(fields)
            return b"".join((head.method, b" ", head.target, _VERSION, forwarding, lines, b"\r\n", framing))
        return b"".join((head.method, b" ", head.target, _VERSION, forwarding, framing))

    def _frame(self, payload: bytes, ended: bool) -> bytes:
        head = self.head
        if head is None or not head.chunked:
            return payload
        if ended:
            return chunk(payload) + LAST_CHUNK if payload else LAST_CHUNK
        return chunk(payload)

    def _keep_body(self, framed: bytes) -> None:
        if self._replay is None:
            self._replay = []
        self._replay.append(framed)
        self._replay_bytes += len(framed)

    def on_request_body(self, payload: bytes, ended: bool) -> None:
        """More of the request's body."""
        self.bytes_received += len(payload)
        self._body_seen += len(payload)
        if ended:
            self._request_ended = True
        route = self.route
        if (
            route is not None
            and route.body_bytes is not None
            and self._body_seen + self.client.announced_bytes() > route.body_bytes
        ):
            self.refuse(413, "request body is larger than proxy-body-size", close=True)
            return
        framed = self._frame(payload, ended) if payload or ended else b""
        connection = self._connection
        if self._replayable() or connection is None:
            if framed:
                self._keep_body(framed)
            if self._replay_bytes > REPLAY_BYTES:
                if connection is None:
                    self.client.pause_reading()
                else:
                    self._replay = None
        if connection is not None:
            connection.send_body(framed, ended)
            if ended and not self.answering:
                now = self.worker.clock()
                self.upstream_started_s = now
                if route is not None:
                    self.client.set_deadline(now + route.read_timeout_s)

    def refuse(self, status: int, reason: str, *, close: bool = False) -> None:
        """End the exchange with one of our own answers; after the first byte of another one, cut that short instead."""
        if self.answering:
            self._cut(reason)
            return
        self._abandon_upstream()
        self.error = reason
        self.status = status
        self.answering = True
        lines = b"Retry-After: 1\r\n" if status == 503 and reason in RETRY_LATER else b""
        self.client.refuse(status, lines + self._own_lines(), body=None, close=close, head=self.head)

    def _answer(self, answer: Answer, *, close: bool = False) -> None:
        """End the exchange with the answer of a filter."""
        self.status = answer.status
        self.error = answer.reason or None
        self.answering = True
        lines = b"".join([b"%b: %b\r\n" % pair for pair in answer.headers]) + self._own_lines()
        self.client.refuse(answer.status, lines, body=answer.body, close=close, head=self.head)

    def _own_lines(self) -> bytes:
        """Lines that filters want on every answer, ours included (HSTS, add-headers)."""
        if self.forwarded is None:
            return b""
        route = self.route
        filters = route.response_filters if route is not None else self.runtime.own_filters
        return b"".join([response_filter.own_lines(self.forwarded) for response_filter in filters])

    def _cut(self, reason: str) -> None:
        self.error = reason
        self._abandon_upstream()
        self.client.truncate(self.framed)
        self.finish(self.worker.clock())

    def on_client_gone(self) -> None:
        """The client's connection is lost: nobody is left to answer."""
        self._abandon_upstream()
        if not self.tunnelling:
            if not self.answering:
                self.status = CLIENT_GONE
            self.error = self.error or "client closed the connection"
        self.finish(self.worker.clock())

    def on_deadline(self, now: float) -> None:
        """Nothing has moved for too long, and it is not the request's body that is missing."""
        client = self.client
        if self._queue is not None:
            self.worker.counters.queue_timeouts += 1
            self.refuse(STATUS[Failure.QUEUE_TIMEOUT], Failure.QUEUE_TIMEOUT.value)
            return
        if self._connect is not None:
            connect, self._connect = self._connect, None
            connect.cancel()
            self._connect_failed(Failure.CONNECT_TIMEOUT, "", now, False)
            return
        if self.answering and client.writing_paused:
            self.error = "client reads too slowly"
            self._abandon_upstream()
            client.abort()
            self.finish(self.worker.clock())
            return
        connection = self._connection
        if connection is not None:
            if self._unheard(connection, now):
                return
            self._connection = None
            connection.close()
        self._failed(Failure.READ_TIMEOUT if self._request_ended else Failure.SEND_TIMEOUT, "")

    # ------------------------------------------------------------------------------------------------ response
    def on_interim(self, connection: UpstreamConnection, head: ResponseHead) -> None:
        """Relay a 1xx to a client that may be sent one."""
        if self.speaks_11 and not self.answering:
            lines = b"".join([line + b"\r\n" for line in head.fields])
            self.client.write_interim(status_line(head.status, head.reason) + lines + b"\r\n")

    def on_response(self, connection: UpstreamConnection, response: ResponseHead, body: bytes, end: bool) -> None:
        """The head of the response, and with it as much of the body as has come."""
        head = self.head
        route = self.route
        client = self.client
        forwarded = self.forwarded
        if head is None or route is None or forwarded is None:
            return
        now = self.worker.clock()
        status = response.status
        if status == 408 and connection.reused and not response.keep_alive and head.method in IDEMPOTENT:
            # RFC 9110 section 15.5.9: the endpoint gave up waiting on an idle connection just as the request left.
            self._connection = None
            connection.close()
            self._fresh = True
            self._failed(Failure.CLOSED, "408 on a pooled connection")
            return
        self.upstream_s = now - self.upstream_started_s
        if self.upstream_s < connection.round_trip_s and self._crossed(connection):
            return
        self.upstream_status = status
        if status in RETRY_STATUSES and self._retry_status(status, connection, end, now):
            return
        group = route.group
        endpoint = self._endpoint
        if group is not None and endpoint is not None and group.balancer.observes_latency:
            group.balancer.observe(endpoint, self.upstream_s, now)
        self.status = status
        self.answering = True
        length = response.content_length if response.content_length is not None else UNKNOWN_LENGTH
        flags = END if end else 0
        if response.framing == NO_BODY:
            flags |= BODILESS
        if route.response_filters:
            for response_filter in route.response_filters:
                transform = response_filter.on_response(forwarded, response)
                if transform is not None and not flags & BODILESS:
                    self._transform = transform
            if self._transform is not None:
                length = UNKNOWN_LENGTH
                body = self._transform.feed(body)
                if end:
                    body += self._transform.finish()
        self.framed = length >= 0 or flags & BODILESS != 0 or head.version >= 11
        start = self._response_start(response)
        if end:
            self._release(connection, now)
        else:
            client.set_deadline(now + route.read_timeout_s)
        client.write_head(head, start, length, body, flags)

    def _retry_status(self, status: int, connection: UpstreamConnection, end: bool, now: float) -> bool:
        route = self.route
        if route is None or RETRY_STATUSES[status] not in route.policy.next_upstream:
            return False
        if not self._retry(Failure.STATUS):
            return False
        endpoint = self._endpoint
        if end:
            self._release(connection, now)
        else:
            self._connection = None
            connection.close()
            self._leave()
            if endpoint is not None and status >= 500:
                self._judge(endpoint, now, Failure.STATUS)
        if endpoint is not None:
            self._tried = [*(self._tried or ()), endpoint]
        self.worker.counters.retries += 1
        self._attempt(now)
        return True

    def _response_start(self, response: ResponseHead) -> bytes:
        """Status line and header lines for the client, without framing and connection."""
        ok = response.status == 200 and response.reason == b"OK"
        start = (OK_LINE if ok else status_line(response.status, response.reason)) + self.worker.date_line
        special = response.special
        if special is not None:
            hsts = special.get(STRICT_TRANSPORT_SECURITY)
            if hsts is not None:
                start += b"Strict-Transport-Security: %b\r\n" % hsts[0]
        fields = response.fields
        if fields:
            return b"".join((start, b"\r\n".join(fields), b"\r\n"))
        return start

    def _release(self, connection: UpstreamConnection, now: float) -> None:
        """The response is whole: the connection goes back first, so that the client's next request finds it."""
        self._connection = None
        endpoint = self._endpoint
        self._leave()
        if endpoint is not None:
            if endpoint.failures or self.upstream_status >= 500:
                self._judge(endpoint, now, None if self.upstream_status < 500 else Failure.STATUS)
            endpoint.pool.release(connection, now)
        else:
            connection.close()

    def on_response_body(self, connection: UpstreamConnection, body: bytes, end: bool) -> None:
        """More of the body."""
        transform = self._transform
        if transform is not None:
            body = transform.feed(body)
            if end:
                body += transform.finish()
        now = self.worker.clock()
        client = self.client
        if end:
            self._release(connection, now)
        else:
            route = self.route
            if route is not None:
                timeout = self.runtime.send_timeout_s if client.writing_paused else route.read_timeout_s
                client.set_deadline(now + timeout)
        client.write_body(body, end)

    # ------------------------------------------------------------------------------------------------ flow control
    def on_upstream_paused(self) -> None:
        """The endpoint takes the request slower than the client sends it."""
        if self.tunnelling or not self._request_ended:
            self.client.pause_reading()
            route = self.route
            if route is not None and not self.tunnelling and not self.client.writing_paused:
                self.client.set_deadline(self.worker.clock() + route.policy.send_timeout_s)

    def on_upstream_resumed(self) -> None:
        """The endpoint caught up."""
        client = self.client
        client.resume_reading()
        if not self._request_ended and not client.writing_paused:
            client.set_deadline(self.worker.clock() + self.runtime.body_timeout_s)

    def on_client_paused(self) -> None:
        """The client takes the answer slower than the endpoint sends it."""
        if self._connection is not None:
            self._connection.pause_reading()
            self.client.set_deadline(self.worker.clock() + self.runtime.send_timeout_s)

    def on_client_resumed(self) -> None:
        """The client caught up."""
        connection = self._connection
        route = self.route
        if connection is not None and route is not None:
            self.client.set_deadline(self.worker.clock() + route.read_timeout_s)
            connection.resume_reading()

    # ------------------------------------------------------------------------------------------------ the end
    def finish(self, now: float) -> None:
        """Count and log, once."""
        status = self.status
        if status < 0:
            return
        self.status = -1
        duration_s = now - self.started_s
        route = self.route
        head = self.head
        client = self.client
        if self.tunnelling:
            self.worker.counters.connections_upgraded -= 1
        if route is not None and head is not None:
            route.series.add(head.method, status, duration_s, self.upstream_s, self.bytes_received, client.bytes_sent)
        if route.log if route is not None else self.runtime.process.access_log.path:
            self._log(status, now, duration_s)

    def _log(self, status: int, now: float, duration_s: float) -> None:
        worker = self.worker
        client = self.client
        head = self.head
        route = self.route
        forwarded = self.forwarded
        tries = self._tries > 0
        log = worker.access_log
        worker.counters.log_lines += 1
        log.log(
            (
                now + worker.wall_offset_s,
                forwarded.request_id if forwarded is not None else b"",
                forwarded.client_ip if forwarded is not None else client.peer_ip,
                head.host if head is not None else b"",
                head.method if head is not None else b"",
                head.target if head is not None else b"",
                b"HTTP/1.0" if head is not None and head.version < 11 else b"HTTP/1.1",
                status,
                client.bytes_sent,
                self.bytes_received,
                duration_s,
                route.upstream_name if route is not None and tries else None,
                self.upstream_addr if tries else None,
                self.upstream_status or None,
                self.upstream_s if self.upstream_s >= 0.0 else None,
                route.label if route is not None else None,
                head.user_agent if head is not None else None,
                head.referer if head is not None else None,
                client.transport.get_extra_info("tls_version") if client.tls else None,
                self.error,
                client.bytes_sent - client.head_bytes_sent,
                None,
                self._field if log.wants_header else None,
            )
        )
