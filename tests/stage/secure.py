"""TLS connections of tests that lose no socket when the peer resets one.

`SSLContext.wrap_socket` of a connected socket takes its descriptor, then looks whether it is still connected. A reset
in between raises in Python 3.11 with the descriptor held by an object that nobody else has: nobody can close it. So a
socket is wrapped before it connects.
"""

from __future__ import annotations

import http.client
import socket
import ssl

from stage.ports import Address


def connect_tls(
    address: Address,
    context: ssl.SSLContext,
    *,
    server_name: str = "",
    session: ssl.SSLSession | None = None,
    timeout_s: float = 30.0,
    receive_buffer: int = 0,
    handshake: bool = True,
) -> ssl.SSLSocket:
    """A connection whose handshake is done, or still to be: before `do_handshake`, `send_plain` sends in the clear.

    Raises OSError (ssl.SSLError is one).
    """
    raw = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    try:
        raw.settimeout(timeout_s)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        secure = context.wrap_socket(
            raw, server_hostname=server_name or None, session=session, do_handshake_on_connect=handshake
        )
    except BaseException:
        raw.close()
        raise
    try:
        secure.connect(address)
    except BaseException:
        secure.close()
        raise
    return secure


def send_plain(secure: ssl.SSLSocket, data: bytes) -> None:
    """Send on the connection below TLS."""
    socket.socket.sendall(secure, data)


class HttpsConnection(http.client.HTTPSConnection):
    """The library's client of HTTPS, connected so."""

    def __init__(self, host: str, port: int | None, *, context: ssl.SSLContext, timeout_s: float = 30.0) -> None:
        super().__init__(host, port, context=context, timeout=timeout_s)
        self._tls, self._timeout_s = context, timeout_s

    def connect(self) -> None:
        """Open it."""
        self.sock = connect_tls((self.host, self.port), self._tls, server_name=self.host, timeout_s=self._timeout_s)
