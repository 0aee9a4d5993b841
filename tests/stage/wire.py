"""A blocking HTTP/1 client that sends exactly the bytes it is given and looks closely at what comes back."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import time
from dataclasses import dataclass, field

from stage.ports import Address
from stage.secure import connect_tls

CLOSED, SILENT, NOT_HTTP, REFUSED = 0, -1, -2, -3
"""In place of a status: closed without a reply, no reply in time, bytes that are not HTTP, connection refused."""

_STATUS_LINE = re.compile(rb"HTTP/(1\.[01]) (\d{3})(?: .*)?\r\n")


@dataclass
class Reply:
    """One final response (or what came in its place). `complete` says whether its own framing ended."""

    status: int = CLOSED
    version: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False
    ends_with_connection: bool = False
    interim: list[int] = field(default_factory=list)
    certificate: bytes | None = None
    detail: str = ""

    def all(self, name: str) -> list[str]:
        """The values of a field, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def one(self, name: str) -> str | None:
        """The value of a field that must not come twice; None without it."""
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def text(self) -> str:
        """The body, byte for character."""
        return self.body.decode("latin-1")


def client_tls(
    *, verify: bytes = b"", alpn: tuple[str, ...] = (), maximum: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """A client's TLS options; without `verify` (an authority's PEM) any certificate will do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if verify:
        context.load_verify_locations(cadata=verify.decode())
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if maximum is not None:
        context.maximum_version = maximum
    return context


class Client:
    """One connection. Every wait ends at `timeout_s` after the connection was made (TimeoutError)."""

    def __init__(
        self,
        address: Address,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
        timeout_s: float = 30.0,
        receive_buffer: int = 0,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._until = time.monotonic() + timeout_s
        self._received = b""
        self.at_end = False
        self.sock: socket.socket
        self.certificate: bytes | None = None
        if tls:
            self.sock = secure = connect_tls(
                address,
                tls,
                server_name=server_name,
                session=session,
                timeout_s=timeout_s,
                receive_buffer=receive_buffer,
            )
            self.certificate = secure.getpeercert(True)
            return
        self.sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        try:
            if receive_buffer:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.sock.settimeout(timeout_s)
            self.sock.connect(address)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the client's time is over")
        return left

    def give_up_in(self, seconds: float) -> None:
        """Move the end of every wait to `seconds` from now."""
        self._until = time.monotonic() + seconds

    # --- sending ------------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.sock.settimeout(self._left())
        self.sock.sendall(data)

    def half_close(self) -> None:
        """Send FIN and keep reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Close; what has not been read is lost."""
        with contextlib.suppress(OSError):
            self.sock.close()

    # --- receiving ----------------------------------------------------------------------------------------------------

    def receive(self) -> bytes:
        """The next bytes, whatever they are; b"" at the end (a reset counts as the end)."""
        if self._received:
            data, self._received = self._received, b""
            return data
        return b"" if self.at_end else self._read()

    def _read(self) -> bytes:
        self.sock.settimeout(self._left())
        try:
            data = self.sock.recv(262144)
        except TimeoutError:
            raise
        except (OSError, ssl.SSLError):
            data = b""
        self.at_end = not data
        return data

    def _more(self) -> bool:
        if self.at_end:
            return False
        self._received += self._read()
        return not self.at_end

    def _line(self) -> bytes | None:
        while b"\r\n" not in self._received:
            if not self._more():
                return None
        line, _, self._received = self._received.partition(b"\r\n")
        return line

    def _take(self, count: int) -> bytes:
        parts, have = [self._received], len(self._received)
        while have < count and not self.at_end:
            parts.append(self._read())
            have += len(parts[-1])
        whole = b"".join(parts)
        self._received = whole[count:]
        return whole[:count]

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes, fewer only at the end."""
        return self._take(count)

    def wait_for(self, wanted: bytes) -> None:
        """Read (and keep) until these bytes came or the connection ended."""
        while wanted not in self._received and self._more():
            pass

    def until_end(self) -> bytes:
        """Everything until the peer closes."""
        parts = []
        while data := self.receive():
            parts.append(data)
        return b"".join(parts)

    def closed_within(self, seconds: float) -> bool:
        """Does the peer close, without another byte, within this time?"""
        if self._received:
            return False
        self._until = min(self._until, time.monotonic() + seconds)
        try:
            return not self._more() and not self._received
        except TimeoutError:
            return False

    def reply(self, method: str = "GET") -> Reply:
        """One final response; 1xx before it go into `interim`."""
        reply = Reply(certificate=self.certificate)
        try:
            while self._head(reply) and 100 <= reply.status < 200 and reply.status != 101:
                reply.interim.append(reply.status)
            if reply.status > 0:
                self._body(reply, method)
        except TimeoutError:
            if reply.status < 200:
                reply.status = SILENT
            reply.detail = "timed out"
        return reply

    def _head(self, reply: Reply) -> bool:
        while b"\r\n\r\n" not in self._received:
            if not self._more():
                reply.status = NOT_HTTP if self._received else CLOSED
                reply.detail = self._received[:80].decode("latin-1")
                return False
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        match = _STATUS_LINE.match(head + b"\r\n")
        if match is None:
            reply.status, reply.detail = NOT_HTTP, head[:80].decode("latin-1")
            return False
        reply.version, reply.status = match.group(1).decode(), int(match.group(2))
        fields = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
        reply.headers = [(name, value.strip(" \t")) for name, _, value in fields]
        return True

    def _body(self, reply: Reply, method: str) -> None:
        if method == "HEAD" or reply.status in (101, 204, 304):
            reply.complete = True
        elif reply.all("transfer-encoding"):
            self._chunks(reply)
        elif lengths := reply.all("content-length"):
            size = int(lengths[0])
            reply.body = self._take(size)
            reply.complete = len(reply.body) == size
        else:
            reply.ends_with_connection = True
            reply.body = self.until_end()
            reply.complete = True

    def _chunks(self, reply: Reply) -> None:
        parts = []
        while (line := self._line()) is not None:
            size = int(line.split(b";")[0], 16)
            if size == 0:
                while line:
                    line = self._line()
                reply.complete = line == b""
                break
            data = self._take(size)
            parts.append(data)
            if len(data) < size or self._line() is None:
                break
        reply.body = b"".join(parts)


def request_bytes(
    target: str,
    *,
    host: str | None = None,
    method: str = "GET",
    version: str = "1.1",
    headers: dict[str, str | list[str]] | None = None,
    lines: tuple[str, ...] | list[str] = (),
    body: bytes | None = None,
    chunked: bool = False,
    keep_alive: bool = False,
) -> bytes:
    """One HTTP/1 request. `lines` are header lines as they are; a body gets a Content-Length unless `chunked`."""
    fields = [] if host is None else [f"Host: {host}"]
    for name, value in (headers or {}).items():
        fields += [f"{name}: {item}" for item in (value if isinstance(value, list) else [value])]
    fields += lines
    tail = body or b""
    if chunked:
        fields.append("Transfer-Encoding: chunked")
        pieces = [tail[i : i + 65536] for i in range(0, len(tail), 65536)]
        tail = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    elif body is not None:
        fields.append(f"Content-Length: {len(body)}")
    if not keep_alive and not any(line.lower().startswith("connection:") for line in fields):
        fields.append("Connection: close")
    return "\r\n".join([f"{method} {target} HTTP/{version}", *fields, "", ""]).encode("latin-1") + tail


def ask(
    address: Address,
    target: str = "/",
    *,
    host: str | None = "localhost",
    tls: ssl.SSLContext | None = None,
    server_name: str = "",
    timeout_s: float = 30.0,
    method: str = "GET",
    raw: bytes | None = None,
    headers: dict[str, str | list[str]] | None = None,
    lines: tuple[str, ...] | list[str] = (),
    body: bytes | None = None,
    chunked: bool = False,
    version: str = "1.1",
) -> Reply:
    """One request on a connection of its own."""
    data = raw or request_bytes(
        target, host=host, method=method, version=version, headers=headers, lines=lines, body=body, chunked=chunked
    )
    try:
        with Client(address, tls=tls, server_name=server_name, timeout_s=timeout_s) as client:
            with contextlib.suppress(ConnectionError):  # An early answer may come with a closed connection: read it.
                client.send(data)
            return client.reply(method)
    except ConnectionRefusedError as error:
        return Reply(REFUSED, detail=str(error))
    except TimeoutError as error:
        return Reply(SILENT, detail=str(error))
    except (OSError, ssl.SSLError) as error:
        return Reply(CLOSED, detail=str(error))
