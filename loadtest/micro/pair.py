"""The linked pair: two `asyncio.Protocol` objects that hold each other, no Task and no stream for an exchange.

As little proxy as can be compared: Content-Length framing, keep-alive on both sides, a LIFO pool, hop-by-hop fields
removed, forwarding fields added, a JSON access log in batches. The experiments differ in `Reader`, which reads heads.
"""

import argparse
import asyncio
import os
import ssl
import time
from typing import NamedTuple

import uvloop

DROPPED = frozenset(
    b"connection keep-alive proxy-connection te trailer upgrade host x-request-id x-real-ip x-scheme "
    b"x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port".split()
)
HIGH_WATER = 64 * 1024


class Head(NamedTuple):
    """`first` is the method or the status code; `target` is empty in a response."""

    first: bytes
    target: bytes
    fields: list


class Shared:
    """What all connections of the process use: the reader of heads, the pool, the log, the counters."""

    def __init__(self, reader, upstream_port, log_path):
        self.reader, self.upstream_port = reader, upstream_port
        self.idle, self.lines, self.counts = [], [], {}
        self.log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.loop = asyncio.get_running_loop()
        self.flush()

    def flush(self):
        if self.lines:
            os.write(self.log, b"".join(self.lines))
            self.lines.clear()
        self.loop.call_later(0.1, self.flush)


def length_of(fields):
    for name, value in fields:
        if len(name) == 14 and name.lower() == b"content-length":
            return int(value)
    return 0


class Client(asyncio.Protocol):
    """The side of the client; `upstream` is set while an exchange runs."""

    def __init__(self, shared, scheme):
        self.shared, self.scheme, self.upstream, self.pending = shared, scheme, None, b""

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(HIGH_WATER)
        self.address = transport.get_extra_info("peername")[0]

    def data_received(self, data):
        self.pending = self.pending + data if self.pending else data
        if self.upstream is None:
            self.begin()

    def begin(self):
        end = self.pending.find(b"\r\n\r\n")
        if end < 0:
            return
        raw, self.pending = self.pending[: end + 4], self.pending[end + 4 :]
        self.started = time.monotonic()
        self.head = head = self.shared.reader.request(raw)
        self.request_id = os.urandom(16).hex()
        lines = [b"%s %s HTTP/1.1\r\n" % (head.first, head.target)]
        for name, value in head.fields:
            lowered = name.lower()
            if lowered not in DROPPED:
                lines.append(b"%s: %s\r\n" % (name, value))
            elif lowered == b"host":
                self.host = value
                lines.append(b"Host: %s\r\nX-Forwarded-Host: %s\r\n" % (value, value))
        forwarded = (
            f"X-Request-ID: {self.request_id}\r\nX-Real-IP: {self.address}\r\nX-Forwarded-For: {self.address}\r\n"
        )
        lines.append(f"{forwarded}X-Forwarded-Proto: {self.scheme}\r\nX-Scheme: {self.scheme}\r\n\r\n".encode())
        self.request = b"".join(lines)
        if self.shared.idle:
            self.shared.idle.pop().take(self)
        else:
            self.upstream = asyncio.get_running_loop().create_task(self.connect())

    async def connect(self):
        port = self.shared.upstream_port
        _, upstream = await self.shared.loop.create_connection(lambda: Upstream(self.shared), "127.0.0.1", port)
        upstream.take(self)

    def finish(self, status, sent):
        self.upstream = None
        counts, key = self.shared.counts, (self.head.first, status)
        counts[key] = counts.get(key, 0) + 1
        duration = time.monotonic() - self.started
        self.shared.lines.append(
            f'{{"time":{time.time():.3f},"request_id":"{self.request_id}","remote_addr":"{self.address}",'
            f'"host":"{self.host.decode()}","method":"{self.head.first.decode()}","path":"{self.head.target.decode()}",'
            f'"status":{status.decode()},"bytes_sent":{sent},"duration_s":{duration:.6f}}}\n'.encode()
        )
        if self.pending:
            self.begin()

    def pause_writing(self):
        if self.upstream is not None:
            self.upstream.transport.pause_reading()

    def resume_writing(self):
        if self.upstream is not None:
            self.upstream.transport.resume_reading()


class Upstream(asyncio.Protocol):
    """The side of the upstream; `client` is set while an exchange runs."""

    def __init__(self, shared):
        self.shared, self.client, self.pending = shared, None, b""

    def connection_made(self, transport):
        self.transport = transport

    def take(self, client):
        self.client, client.upstream, self.head, self.sent = client, self, None, 0
        self.transport.write(client.request)

    def data_received(self, data):
        if self.head is None:
            data = self.pending = self.pending + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                return
            self.pending = b""
            self.head = self.shared.reader.response(data[: end + 4])
            self.left = end + 4 + length_of(self.head.fields)
        self.left -= len(data)
        self.sent += len(data)
        self.client.transport.write(data)
        if self.left <= 0:
            client, self.client = self.client, None
            self.shared.idle.append(self)
            client.finish(self.head.first, self.sent)

    def connection_lost(self, exc):
        if self.client is not None:
            self.client.transport.abort()
        elif self in self.shared.idle:
            self.shared.idle.remove(self)


async def serve(reader, options):
    shared = Shared(reader, options.upstream, options.log)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options.cert, options.key)
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Client(shared, "http"), "127.0.0.1", options.http, backlog=4096)
    await loop.create_server(lambda: Client(shared, "https"), "127.0.0.1", options.https, backlog=4096, ssl=context)
    await asyncio.Event().wait()


def main(reader):
    parser = argparse.ArgumentParser()
    for name in ("http", "https", "admin", "upstream"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("cert", "key", "log"):
        parser.add_argument(f"--{name}", required=True)
    uvloop.run(serve(reader, parser.parse_args()))
