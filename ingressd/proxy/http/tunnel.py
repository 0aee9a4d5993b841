"""An exchange whose upstream switches protocols: opaque bytes both ways, until both sides have ended."""

from __future__ import annotations

from ingressd.protocol.h1 import ResponseHead
from ingressd.proxy.http.answers import status_line
from ingressd.proxy.http.attempts import Attempts
from ingressd.proxy.upstream.connection import UpstreamConnection
from ingressd.proxy.upstream.failure import Failure


class Tunnel(Attempts):
    """The part of an exchange that begins with a 101. `Exchange` is the only class made of it."""

    __slots__ = ("bytes_received", "status")

    bytes_received: int  # of the client: its body, then what it sends through the tunnel
    status: int  # 0 before there is an answer; below 0 when it has been logged

    def finish(self, now: float) -> None:
        """Count and log, once."""
        raise NotImplementedError

    def on_upgrade(self, connection: UpstreamConnection, response: ResponseHead, data: bytes) -> None:
        """The upstream switches protocols: only legal when and to what we asked (RFC 9110 section 7.8)."""
        head, protocol = self.head, response.upgrade
        asked = head is not None and head.upgrade == protocol and b"\r\nUpgrade: " in self._message
        if protocol is None or not asked:
            connection.close()
            self._connection = None
            self._failed(Failure.BAD_RESPONSE, "101 that nobody asked for")
            return
        self.status = 101
        self.upstream_status = 101
        self.answering = True
        self.tunnelling = True
        self._note_attempt()
        endpoint = self._endpoint
        if endpoint is not None and endpoint.failures:
            self._judge(endpoint, self.worker.clock(), None)
        lines = b"".join([line + b"\r\n" for line in response.fields])
        upgrade = b"Connection: upgrade\r\nUpgrade: %b\r\n\r\n" % protocol
        self._touch()
        self.client.begin_tunnel(status_line(101, response.reason) + self.worker.date_line + lines + upgrade + data)

    def _touch(self) -> None:
        route = self.route
        if route is not None:
            self.client.set_deadline(self.worker.clock() + route.read_timeout_s)

    def on_client_tunnel(self, data: bytes) -> None:
        """Opaque bytes of the client. They do not prolong the time that it has to take those of the upstream."""
        self.bytes_received += len(data)
        if not self.client.writing_paused:
            self._touch()
        if self._connection is not None:
            self._connection.write_tunnel(data)

    def on_client_tunnel_end(self) -> None:
        """The client will send no more opaque bytes."""
        if self._connection is not None:
            self._connection.finish_tunnel()

    def on_tunnel(self, data: bytes) -> None:
        """Opaque bytes of the upstream."""
        self._touch()
        self.client.write_tunnel(data)

    def on_tunnel_end(self) -> None:
        """The upstream will send no more opaque bytes."""
        self.client.end_tunnel()

    def on_tunnel_over(self, connection: UpstreamConnection) -> None:
        """Both sides have ended: in order, so nothing is in error."""
        self._connection = None
        self._leave()
        self.client.close_tunnel()
        self.finish(self.worker.clock())

    def _end_tunnel(self, reason: str) -> None:
        self.error = reason
        self.client.close_tunnel()
        self.finish(self.worker.clock())

    def on_tunnel_idle(self, now: float) -> None:
        """Neither side has said anything for `proxy-read-timeout`."""
        self.error = "tunnel was idle too long"
        self._abandon_upstream()
        self.client.abort()
        self.finish(self.worker.clock())
