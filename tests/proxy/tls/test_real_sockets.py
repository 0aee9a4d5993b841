"""The pump on uvloop, against sockets that stall and an OpenSSL that asks for unusual things."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket

import pytest
import uvloop
from proxy.tls.peers import RecordingApp, client_context, make_share

from ingressd.model.units import UpstreamTls
from ingressd.proxy.tls.client import TlsClient, UpstreamContexts
from ingressd.proxy.tls.server import TlsServer

SIZE = 8_000_000


def run(scenario):
    """Run a scenario on uvloop, with an end if it hangs."""

    async def bounded():
        async with asyncio.timeout(20):
            return await scenario()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bounded())


@contextlib.asynccontextmanager
async def listening(store, make_app):
    """A listener on loopback; its port and the connections it made."""
    loop = asyncio.get_running_loop()
    share = make_share(loop)
    made: list[TlsServer] = []

    def protocol():
        made.append(TlsServer(store, make_app, share))
        return made[-1]

    server = await loop.create_server(protocol, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], made, share
    finally:
        server.close()
        for connection in made:
            connection.abort()
        await server.wait_closed()


class Source(RecordingApp):
    """Writes SIZE bytes, as fast as it is let."""

    def __init__(self, server):
        super().__init__()
        self.left = SIZE
        self.highest = 0
        self.may_write = True

    def connection_made(self, transport):
        super().connection_made(transport)
        transport.set_write_buffer_limits(65536)
        self.go_on()

    def go_on(self):
        while self.left and self.may_write:
            self.transport.write(bytes(min(self.left, 32768)))
            self.left -= min(self.left, 32768)
            self.highest = max(self.highest, self.transport.get_write_buffer_size())
        if not self.left and self.may_write:
            self.transport.close()

    def pause_writing(self):
        super().pause_writing()
        self.may_write = False

    def resume_writing(self):
        super().resume_writing()
        self.may_write = True
        self.go_on()


def test_a_reader_that_stalls_stops_the_writer(store):
    async def scenario():
        apps = []

        def make_app(server):
            apps.append(Source(server))
            return apps[-1]

        async with listening(store, make_app) as (port, _, share):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            reader, writer = await asyncio.open_connection(
                sock=sock, ssl=client_context(), server_hostname="a.test", limit=65536
            )
            while "pause" not in (apps[0].calls if apps else ()):
                await asyncio.sleep(0.001)
            left = apps[0].left
            await asyncio.sleep(0.02)
            assert apps[0].left == left > SIZE // 2
            assert apps[0].highest < 65536 + 2 * 33_000
            assert not share.outgoing.pending
            assert len(await reader.read()) == SIZE
            writer.close()

    run(scenario)


def test_an_application_that_stalls_stops_the_peer(store):
    async def scenario():
        app = RecordingApp()
        app.on_data = lambda _: app.transport.pause_reading()
        async with listening(store, lambda _: app) as (port, made, _):
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context(), server_hostname="a.test")
            writer.write(bytes(SIZE))
            await asyncio.sleep(0.05)
            assert len(app.received) <= 65536
            app.on_data = None
            made[0].resume_reading()
            while len(app.received) < SIZE:
                await asyncio.sleep(0.001)
            writer.close()
            while "lost" not in app.calls:
                await asyncio.sleep(0.001)

    run(scenario)


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_both_roles_talk_to_each_other(store, size):
    async def scenario():
        echo = RecordingApp()
        echo.on_data = lambda data: echo.transport.write(data)
        client = RecordingApp()
        ready = asyncio.get_running_loop().create_future()

        def on_ready(error):
            ready.set_exception(error) if error else ready.set_result(None)

        async with listening(store, lambda _: echo) as (port, _, share):
            context = UpstreamContexts(None).get(UpstreamTls())
            transport, _ = await asyncio.get_running_loop().create_connection(
                lambda: TlsClient(context, client, share, server_hostname="a.test", on_ready=on_ready),
                "127.0.0.1",
                port,
            )
            await ready
            client.transport.write(bytes(size))
            while len(client.received) < size:
                await asyncio.sleep(0.001)
            client.transport.close()
            while "lost" not in client.calls or "lost" not in echo.calls:
                await asyncio.sleep(0.001)
            assert client.lost is None and echo.lost is None
            assert echo.calls == ["made", "eof", "lost"] or "pause" in echo.calls
            assert transport.is_closing()

    run(scenario)


OPENSSL = shutil.which("openssl")


async def s_client(port, *arguments):
    return await asyncio.create_subprocess_exec(
        OPENSSL,
        *("s_client", "-connect", f"127.0.0.1:{port}", "-servername", "a.test", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


@pytest.mark.skipif(OPENSSL is None, reason="no openssl")
def test_renegotiation_is_refused_and_does_nothing_else(store):
    async def scenario():
        app = RecordingApp()
        async with listening(store, lambda _: app) as (port, _, share):
            process = await s_client(port, "-tls1_2", "-no_ign_eof")
            await until(lambda: app.calls)
            process.stdin.write(b"R\n")
            await process.stdin.drain()
            output, _ = await process.communicate()
            assert b"no renegotiation" in output
            assert app.chunks == []
            assert share.counters.tls_handshakes == 1

    run(scenario)


@pytest.mark.skipif(OPENSSL is None, reason="no openssl")
def test_key_updates_are_followed_and_answered(store):
    async def scenario():
        app = RecordingApp()
        async with listening(store, lambda _: app) as (port, _, _share):
            process = await s_client(port, "-tls1_3", "-no_ign_eof")
            await until(lambda: app.calls)
            for number in (b"1", b"2"):
                # One that asks us to change our keys as well, and one that does not.
                process.stdin.write(b"K\n" if number == b"1" else b"k\n")
                await process.stdin.drain()
                await asyncio.sleep(0.05)
                process.stdin.write(b"hello %s\n" % number)
                await process.stdin.drain()
                await until(lambda number=number: app.received.endswith(b"hello %s\n" % number))
                app.transport.write(b"answer %s\n" % number)
            app.transport.close()
            output, _ = await process.communicate()
            assert b"answer 1" in output and b"answer 2" in output
            assert app.lost is None

    run(scenario)


@pytest.mark.skipif(OPENSSL is None, reason="no openssl")
def test_no_early_data_and_no_compression(store):
    async def scenario():
        app = RecordingApp()
        async with listening(store, lambda _: app) as (port, _, _share):
            process = await s_client(port, "-tls1_3", "-no_ign_eof")
            process.stdin.write(b"hello\n")
            await process.stdin.drain()
            await until(lambda: app.received == b"hello\n")
            app.transport.write(b"answer\n")
            # The session ticket comes before the answer, and it says how much early data we take.
            output = await process.stdout.readuntil(b"answer\n")
            output += (await process.communicate(b"Q\n"))[0]
            assert b"Max Early Data: 0" in output
            assert b"Compression: NONE" in output

    run(scenario)
