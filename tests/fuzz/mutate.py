"""Bytes that are nearly messages: seeds that cover the grammar, and mutations that break it where parsers disagree."""

from __future__ import annotations

import random

from protocol.hellos import extension, hello, records, server_name

REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    b"GET /a/b?c=d HTTP/1.1\r\nHost: a.example:8080\r\nUser-Agent: x\r\nAccept-Encoding: gzip\r\nReferer: y\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /p HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nMax-Forwards: 3\r\n\r\n",
    b"GET http://b.example/x HTTP/1.1\r\nHost: a.example\r\nVia: 1.1 x\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
    b"PUT /e HTTP/1.1\r\nHost: a.b\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: X-A\r\nX-A: 1\r\n\r\nok",
    b"GET /1 HTTP/1.1\r\nHost: a.example\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: b.example\r\n\r\n",
]
ROUTED = [
    *REQUESTS,
    b"GET /public/x HTTP/1.1\r\nHost: a.example\r\n\r\nGET /x HTTP/1.1\r\nHost: b.example\r\n\r\n",
    b"GET /public/%2e%2e/admin HTTP/1.1\r\nHost: a.example\r\n\r\n",
    b"GET /public/a%252fb/..%5c.;c/%2500 HTTP/1.1\r\nHost: a.example\r\n\r\n",
    b"GET /public/..%2fx/./../public//y;a=b?c=/../d HTTP/1.1\r\nHost: A.Example.:80\r\n\r\n",
    b"POST /public HTTP/1.1\r\nHost: b.example\r\nContent-Length: 3\r\n\r\nabcPOST / HTTP/1.1\r\nHost: a.example\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a.example\r\n"
    b"Connection: close\r\n\r\n",
]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Type: t\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nSet-Cookie: a=b\r\nConnection: X-A\r\nX-A: 1\r\n\r\n",
    b"HTTP/1.0 404 Not Found\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nX-B : 3\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
]
CHUNKED = [
    b"0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b'5;a=b;c="d"\r\nhello\r\nA\r\n0123456789\r\n0\r\nX: y\r\nZ:\r\n\r\n',
    b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\nGET / HTTP/1.1\r\n",
]
CLIENT_HELLOS = [
    records(hello(server_name(b"a.example"), extension(16, b"\0\3\2h2"), extension(43, b"\4\3\4\3\3"))),
    records(hello(extension(21, b"\0" * 40), server_name(b"b.example")), 30),
    records(hello()),
]
PROXY_HEADERS = [
    b"PROXY TCP4 9.9.9.9 8.8.8.8 1111 80\r\nGET / HTTP/1.1\r\n",
    b"PROXY TCP6 2001:db8::1 ::ffff:1.2.3.4 65535 0\r\n",
    b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\t\t\t\t\x08\x08\x08\x08\4W\0PGET /",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x2d" + bytes(36) + b"\4\0\1x\2\0\2ab",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
]
BITS = [
    *(bytes([i]) for i in (*range(33), 0x7F, 0x80, 0x85, 0xA0, 0xFF)),
    *(bytes([sign]) for sign in b':,;|"\\/?#%*@[]_-019fx+'),
    *(b"\r\n", b"\r\n\r\n", b"\n\n", b"\r\r", b": ", b"\r\n ", b"\r\n\t"),
    *(b"http://", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0"),
    *(
        b"%b: %b\r\n" % (name, value)
        for name in (
            b"Content-Length",
            b"Transfer-Encoding",
            b"Connection",
            b"Host",
            b"Upgrade",
            b"Expect",
            b"X-A",
            b"TE",
        )
        for value in (
            b"",
            b"0",
            b"5",
            b"chunked",
            b"close",
            b"keep-alive",
            b"upgrade",
            b"websocket",
            b"a.example",
            b"x, y",
        )
    ),
    b"100-continue",
    b"identity",
    b"gzip, ",
    b"Transfer_Encoding: chunked\r\n",
    b"content-length : 5\r\n",
    b"0\r\n\r\n",
    b"A" * 70,
    b"a" * 2100,
]


class Mutator:
    """Makes inputs out of seeds; the same seed number makes the same inputs."""

    def __init__(self, seeds: list[bytes], *, seed: int) -> None:
        self._seeds = seeds
        self._random = random.Random(seed)

    def next(self) -> bytes:
        pick = self._random
        data = bytearray(pick.choice(self._seeds))
        for _ in range(pick.choice((0, 1, 1, 1, 2, 2, 3, 6))):
            self._mutate(data)
        if pick.random() < 0.3:
            data += pick.choice(self._seeds)
        return bytes(data)

    def _mutate(self, data: bytearray) -> None:
        pick = self._random
        at = pick.randrange(len(data) + 1)
        action = pick.randrange(6)
        if action == 0:
            data[at:at] = pick.choice(BITS)
        elif action == 1:
            bit = pick.choice(BITS)
            data[at : at + len(bit)] = bit
        elif action == 2:
            del data[at : at + pick.choice((1, 1, 2, 5, 20))]
        elif action == 3 and data:
            data[pick.randrange(len(data))] = pick.randrange(256)
        elif action == 4:
            end = at + pick.randrange(30)
            data[at:at] = data[at:end]
        else:
            self._mutate_line(data)

    def _mutate_line(self, data: bytearray) -> None:
        """Insert or double whole lines: most disagreements are between lines that are each valid."""
        pick = self._random
        lines = bytes(data).split(b"\r\n")
        at = pick.randrange(len(lines))
        line = pick.choice(lines) if pick.random() < 0.5 else pick.choice(BITS).removesuffix(b"\r\n")
        if pick.random() < 0.3:
            line = line.swapcase()
        lines.insert(at, line)
        data[:] = b"\r\n".join(lines)
