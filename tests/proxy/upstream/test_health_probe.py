"""What a probe says of endpoints that answer, misbehave or do not answer. Real sockets on one loop."""

import asyncio
import contextlib
import gc
import socket
import ssl

import pytest
from stage.certificates import authority, issued

from ingressd.model.units import UpstreamTls
from ingressd.proxy.upstream.health_probe import Prober
from ingressd.settings.config import HealthCheck

CHECK = HealthCheck("/healthz?a=b")


class Endpoint:
    """Answers every connection with `answer` once a head has come; keeps what it was sent."""

    def __init__(self, answer, *, closes=True):
        self.answer = answer
        self.closes = closes
        self.heads = []

    async def __call__(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)
            await writer.drain()
            if not self.closes:
                await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def probe(endpoint, *, check=CHECK, tls=None, server_tls=None, host="127.0.0.1", ask=None):
    async def run():
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(endpoint, host, 0, ssl=server_tls)
        address, port = server.sockets[0].getsockname()[:2]
        try:
            prober = Prober(loop, loop.time, libssl=None)
            async with asyncio.timeout(20):
                if ask is not None:
                    return await ask(prober, address, port)
                return await prober(address, port, check=check, tls=tls), port
        finally:
            server.close()
            await server.wait_closed()
            await asyncio.sleep(0.05)
            gc.collect()

    return asyncio.run(run())


def test_the_request_is_what_an_endpoint_expects():
    endpoint = Endpoint(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    said, port = probe(endpoint)
    assert said == ""
    lines = endpoint.heads[0].decode().split("\r\n")
    assert lines[:2] == ["GET /healthz?a=b HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    assert "Connection: close" in lines


def test_the_host_is_the_one_that_is_asked_for():
    endpoint = Endpoint(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    probe(endpoint, check=HealthCheck("/", host="shop.example:81"))
    assert b"\r\nHost: shop.example:81\r\n" in endpoint.heads[0]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", ""),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", ""),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\nx", ""),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", ""),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered 404"),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "answered 503"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "101 that nobody asked for"),
        (b"SSH-2.0-OpenSSH\r\n", "upstream sent an invalid response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "upstream sent an invalid response"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", "upstream sent an invalid response"),
        (b"", "upstream closed the connection before it answered"),
    ],
)
def test_the_one_parser_judges_answers(answer, says):
    said, _ = probe(Endpoint(answer))
    assert said.startswith(says) if says else said == ""


def test_expected_statuses_are_ranges():
    check = HealthCheck("/", expected_statuses=((204, 204), (400, 499)))
    assert probe(Endpoint(b"HTTP/1.1 418 I\r\nContent-Length: 0\r\n\r\n"), check=check)[0] == ""
    assert probe(Endpoint(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), check=check)[0] == "answered 200"


def test_nobody_listens():
    async def run():
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        loop = asyncio.get_running_loop()
        return await Prober(loop, loop.time, libssl=None)("127.0.0.1", port, check=CHECK, tls=None)

    assert asyncio.run(run())  # In the words of the loop, or of the system.


def test_who_never_answers_is_left_when_the_time_is_over():
    async def run():
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        async def silent(reader, writer):
            await reader.read()
            with contextlib.suppress(OSError):
                await reader.read()
            writer.close()
            ended.set()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await Prober(loop, loop.time, libssl=None)("127.0.0.1", port, check=CHECK, tls=None)
        async with asyncio.timeout(20):
            await ended.wait()
        server.close()
        await server.wait_closed()

    asyncio.run(run())


def server_context(pair, folder):
    (folder / "pair.pem").write_bytes(pair.key + pair.cert)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pair.pem")
    return context


def test_over_tls_it_verifies_as_traffic_does(tmp_path):
    endpoint = Endpoint(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    context = server_context(issued("api.internal"), tmp_path)
    tls = UpstreamTls(verify=True, ca_pem=authority("test authority").cert, server_name="api.internal")
    assert probe(endpoint, tls=tls, server_tls=context)[0] == ""
    by_host = UpstreamTls(verify=True, ca_pem=authority("test authority").cert)
    assert probe(endpoint, check=HealthCheck("/", host="api.internal"), tls=by_host, server_tls=context)[0] == ""
    other = UpstreamTls(verify=True, ca_pem=authority("test authority").cert, server_name="other.internal")
    assert probe(endpoint, tls=other, server_tls=context)[0].startswith("TLS handshake failed: ")
    stranger = UpstreamTls(verify=True, ca_pem=authority("another authority").cert, server_name="api.internal")
    assert probe(endpoint, tls=stranger, server_tls=context)[0].startswith("TLS handshake failed: ")
    assert probe(endpoint, tls=UpstreamTls(verify=False), server_tls=context)[0] == ""


def test_a_plain_endpoint_behind_an_upstream_with_tls_is_not_well():
    async def plain(reader, writer):
        await reader.read(5)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    assert probe(plain, tls=UpstreamTls(verify=False))[0].startswith("TLS handshake failed: ")


def test_authorities_are_read_once_and_every_probe_has_a_handshake_of_its_own(tmp_path, monkeypatch):
    """Those of the system take 20 ms to read; a resumed session would not tell that a certificate has expired."""
    endpoint = Endpoint(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    server = server_context(issued("api.internal"), tmp_path)
    tls = UpstreamTls(verify=True, ca_pem=authority("test authority").cert, server_name="api.internal")
    read = []
    load = ssl.SSLContext.load_verify_locations
    monkeypatch.setattr(
        ssl.SSLContext, "load_verify_locations", lambda *given, **named: (read.append(1), load(*given, **named))
    )

    async def thrice(prober, address, port):
        return [await prober(address, port, check=CHECK, tls=tls) for _ in range(3)]

    assert probe(endpoint, server_tls=server, ask=thrice) == ["", "", ""]
    assert len(read) == 1
    assert server.session_stats()["hits"] == 0
