"""Requests and streams of the API server's client, against a server that has what a real one has."""

import asyncio
import json
import re
import socket

import pytest
import yaml
from stage.apiserver.faults import Answer, BlackHole, Refuse, Slow
from stage.apiserver.server import FakeApiServer

from ingressd.control.sources.cluster import api as api_module
from ingressd.control.sources.cluster.api import ApiError, ApiServer
from ingressd.control.sources.cluster.credentials import Access, Credentials
from ingressd.control.sources.cluster.wire import Lines
from ingressd.settings.config import KubernetesConfig
from ingressd.version import __version__

SERVICES = "/api/v1/services"
PARTIAL = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture(scope="module")
def plain():
    with FakeApiServer() as server:
        yield server


def run(config, scenario, *, environ=None, clock=None, credentials=None):
    async def with_api():
        now = clock or Clock()
        found = credentials or Credentials(config, environ=environ or {}, clock=now)
        api = ApiServer(found, environ=environ or {}, clock=now)
        try:
            return await scenario(api)
        finally:
            await api.close()

    return asyncio.run(with_api())


def of(path):
    return KubernetesConfig(kubeconfig=str(path))


def test_a_request_says_who_we_are_and_asks_for_what_was_said(plain, tmp_path):
    async def scenario(api):
        return await api.request("GET", SERVICES, query={"labelSelector": "a in (b, c)"}, accept=PARTIAL)

    body = run(of(plain.write_kubeconfig(tmp_path)), scenario)
    assert json.loads(body)["kind"] == "PartialObjectMetadataList"
    asked = plain.requests[-1]
    assert asked.headers["user-agent"] == f"ingressd/{__version__}"
    assert asked.headers["accept"] == PARTIAL
    assert asked.query == {"labelSelector": "a in (b, c)"}
    assert "authorization" not in asked.headers


def test_bodies_go_as_they_are(plain, tmp_path):
    body = b'{"apiVersion":"v1","kind":"Service","metadata":{"name":"sent"}}'

    async def scenario(api):
        await api.request("POST", "/api/v1/namespaces/default/services", body=body)
        patch = b'{"metadata":{"labels":{"a":"b"}}}'
        await api.request(
            "PATCH",
            "/api/v1/namespaces/default/services/sent",
            body=patch,
            content_type="application/merge-patch+json",
        )

    run(of(plain.write_kubeconfig(tmp_path)), scenario)
    assert plain.object("Service", "default", "sent")["metadata"]["labels"] == {"a": "b"}


def test_a_refusal_carries_status_reason_and_patience(plain, tmp_path):
    async def scenario(api):
        with pytest.raises(ApiError) as missing:
            await api.request("GET", "/api/v1/namespaces/default/services/none")
        with plain.fault(Answer(429, retry_after_s=7)), pytest.raises(ApiError) as busy:
            await api.request("GET", SERVICES)
        return missing.value, busy.value

    missing, busy = run(of(plain.write_kubeconfig(tmp_path)), scenario)
    assert (missing.status, missing.reason, missing.retry_after_s) == (404, "NotFound", None)
    assert "none" in missing.message
    assert (busy.status, busy.retry_after_s) == (429, 7)


def test_no_answer_is_status_0(plain, tmp_path):
    async def scenario(api):
        with plain.fault(Refuse()), pytest.raises(ApiError) as refused:
            await api.request("GET", SERVICES)
        with plain.fault(BlackHole()), pytest.raises(ApiError) as silent:
            await api.request("GET", SERVICES, timeout_s=0.05)
        return refused.value, silent.value

    refused, silent = run(of(plain.write_kubeconfig(tmp_path)), scenario)
    assert (refused.status, refused.reason) == (0, "Unreachable")
    assert (silent.status, silent.reason) == (0, "Timeout")


def test_a_stream_gives_what_arrives_and_ends(plain, tmp_path):
    plain.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "streamed"}})

    async def scenario(api):
        seen = b""
        query = {"watch": "1", "timeoutSeconds": "1", "resourceVersion": "0"}
        async with api.stream(SERVICES, query=query, timeout_s=5) as stream:
            while data := await stream.read():
                seen += data
        return seen

    seen = run(of(plain.write_kubeconfig(tmp_path)), scenario)
    assert b'"streamed"' in seen
    assert seen.endswith(b"\n")


def test_a_stream_that_says_nothing_breaks_off(plain, tmp_path):
    async def scenario(api):
        query = {"watch": "1", "resourceVersion": str(plain.version)}
        async with api.stream(SERVICES, query=query, timeout_s=0.05) as stream:
            with pytest.raises(ApiError) as silent:
                await stream.read()
        return silent.value

    assert run(of(plain.write_kubeconfig(tmp_path)), scenario).reason == "Timeout"


def test_the_kernel_watches_the_peer_of_a_stream(plain, tmp_path):
    async def scenario(api):
        query = {"watch": "1", "resourceVersion": str(plain.version)}
        async with api.stream(SERVICES, query=query, timeout_s=1) as stream:
            sock = stream._answer.response.connection.transport.get_extra_info("socket")
            return [
                sock.getsockopt(socket.IPPROTO_TCP, option) for option in (socket.TCP_USER_TIMEOUT, socket.TCP_KEEPIDLE)
            ]

    assert run(of(plain.write_kubeconfig(tmp_path)), scenario) == [15_000, 5]


def test_large_answers_come_whole(plain, tmp_path):
    plain.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "large"}, "data": {"a": "x" * 3_000_000}}
    )

    async def scenario(api):
        with plain.fault(Slow(piece_bytes=200_000, pause_s=0)):
            return await api.request("GET", "/api/v1/namespaces/default/configmaps/large")

    assert len(run(of(plain.write_kubeconfig(tmp_path)), scenario)) > 3_000_000


def test_a_watch_event_of_three_megabytes_comes_whole(plain, tmp_path):
    async def scenario(api):
        query = {"watch": "1", "resourceVersion": str(plain.version)}
        lines, found = Lines(), []
        async with api.stream("/api/v1/configmaps", query=query, timeout_s=5) as stream:
            value = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "huge"},
                "data": {"a": "x" * 3_000_000},
            }
            await asyncio.to_thread(plain.apply, value)
            while not found:
                found += lines.feed(await stream.read())
        return json.loads(bytes(found[0].object))

    assert run(of(plain.write_kubeconfig(tmp_path)), scenario)["data"]["a"] == "x" * 3_000_000


# ---------------------------------------------------------------------- authentication and TLS
def test_a_kubeconfig_with_a_token_file_that_rotates(tmp_path):
    clock = Clock()
    with FakeApiServer(tls=True, token="one") as server:
        config = of(server.write_kubeconfig(tmp_path, token_file=True))

        async def scenario(api):
            await api.request("GET", SERVICES)
            (tmp_path / "token").write_text("two\n")
            await api.request("GET", SERVICES)  # The first is still good, and the file is read once a minute.
            clock.now += 61
            server.token = "two"
            await api.request("GET", SERVICES)
            # Rotated without waiting for us: the refused request is asked again with what the file says now.
            (tmp_path / "token").write_text("three")
            server.token = "three"
            before = len(server.requests)
            await api.request("GET", SERVICES)
            return [request.headers["authorization"] for request in server.requests[before:]]

        assert run(config, scenario, clock=clock) == ["Bearer two", "Bearer three"]


def test_a_token_that_is_refused_for_good_is_said(tmp_path):
    with FakeApiServer(token="right") as server:
        config = of(server.write_kubeconfig(tmp_path, token_file=True))
        (tmp_path / "token").write_text("wrong")

        async def scenario(api):
            with pytest.raises(ApiError) as error:
                await api.request("GET", SERVICES)
            return error.value

        assert run(config, scenario).status == 401


def test_a_service_account_whose_token_and_authority_rotate(tmp_path):
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("one\n")
    clock = Clock()
    with FakeApiServer(tls=True, token="one") as server:
        authority.write_bytes(server.authority)
        environ = {"KUBERNETES_SERVICE_HOST": server.host, "KUBERNETES_SERVICE_PORT": str(server.port)}
        credentials = Credentials(
            KubernetesConfig(in_cluster=True),
            environ=environ,
            clock=clock,
            token_file=str(token),
            ca_file=str(authority),
        )

        async def scenario(api):
            await api.request("GET", SERVICES)
            first = api._transport
            token.write_text("two")
            server.token = "two"
            await api.request("GET", SERVICES)
            assert api._transport is first
            async with api.stream(SERVICES, query={"watch": "1"}, timeout_s=5) as stream:
                authority.write_bytes(server.authority + b"\n")
                clock.now += 61
                await api.request("GET", SERVICES)
                assert api._transport is not first
                assert len(api._transports) == 2  # A stream still runs on the old one.
                server.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "rotated"}})
                assert b"rotated" in await stream.read()
            return len(api._transports)

        assert run(None, scenario, clock=clock, credentials=credentials) == 1


def test_new_connections_on_demand_while_streams_stay(plain, tmp_path):
    async def scenario(api):
        query = {"watch": "1", "resourceVersion": str(plain.version)}
        async with api.stream(SERVICES, query=query, timeout_s=5) as stream:
            first = api._transport
            api.renew()
            await api.request("GET", SERVICES)
            assert api._transport is not first
            plain.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "renewed"}})
            assert b"renewed" in await stream.read()
        second = api._transport
        await api.request("GET", SERVICES)
        assert (api._transport, api._transports) == (second, {second})

    run(of(plain.write_kubeconfig(tmp_path)), scenario)


def test_without_a_service_account_the_request_says_what_is_missing(tmp_path):
    credentials = Credentials(
        KubernetesConfig(in_cluster=True), environ={}, clock=Clock(), token_file=str(tmp_path / "token")
    )

    async def scenario(api):
        with pytest.raises(ApiError) as error:
            await api.request("GET", SERVICES)
        return error.value

    error = run(None, scenario, credentials=credentials)
    assert (error.status, error.reason, error.message) == (0, "NoCredentials", "Service host/port is not set.")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        ("", "malformed"),
        ("a: [", "while parsing"),
        ("{}", "Expected key current-context"),
        ("current-context: x\ncontexts: []\n", "Expected"),
    ],
)
def test_a_kubeconfig_that_cannot_be_read_is_said_and_read_again(tmp_path, plain, content, says):
    clock = Clock()
    good = plain.write_kubeconfig(tmp_path).read_text()
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)

    async def scenario(api):
        with pytest.raises(ApiError) as error:
            await api.request("GET", SERVICES)
        path.write_text(good)
        clock.now += 2
        await api.request("GET", SERVICES)
        return error.value

    assert says in run(of(path), scenario, clock=clock).message


SPELLINGS = ("*{}", "!{} x", "!{}!x y", "[{}", "!!int {}", "!!bool {}", "!!float {}", "!!timestamp {}", "!!binary {}")
SPELLINGS += ("'{}", '"{}\\q"', "@{}", "{}: x", "&{} x\n    other: &{} y")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_token_that_breaks_its_kubeconfig_is_quoted_nowhere(tmp_path, spelling):
    token = "hunter2hunter2"
    with FakeApiServer(token=token) as server:
        path = server.write_kubeconfig(tmp_path)
        before = path.read_text()
        path.write_text(before.replace(f"token: {token}", f"token: {spelling.replace('{}', token)}"))
        assert path.read_text() != before

        async def scenario(api):
            with pytest.raises(ApiError) as error:
                await api.request("GET", SERVICES)
            return error.value

        error = run(of(path), scenario)
    assert error.status in (0, 401)
    assert token not in f"{error!r} {error} {error.message}"


@pytest.mark.parametrize(
    ("proxy", "says"),
    [
        ("http://user:hunter2@{}", "404, message='Not Found', url='http://127.0.0.1:"),
        ("http://user:hun/ter2@{}", "Unreachable: http://127.0.0.1:"),
        ("http://us er:hunter2@{}", "404"),
        ("http://user:hunter2@[::1:{}", "Unreachable: http://[::1:"),
    ],
)
def test_a_proxys_password_is_quoted_nowhere(tmp_path, plain, proxy, says):
    # Any server will do that answers CONNECT with something else than 200.
    path = plain.write_kubeconfig(tmp_path)
    path.write_text(path.read_text().replace(plain.url, "https://api.test"))
    proxy = proxy.replace("{}", plain.url.removeprefix("http://"))

    async def scenario():
        api = await ApiServer.connect(of(path), environ={"HTTPS_PROXY": proxy})
        try:
            with pytest.raises(ApiError) as error:
                await api.request("GET", SERVICES)
            return str(error.value)
        finally:
            await api.close()

    said = asyncio.run(scenario())
    assert says in said
    assert not re.search("hun|ter2|user", said)


def test_what_was_read_shows_neither_token_nor_proxy():
    access = Access("https://api.test", "Bearer hunter2", "http://user:hunter2@proxy.test:3128", b"", None)
    assert repr(access) == str(access) == f"{access}" == "<Access to https://api.test>"


def test_credentials_that_vanish_stay_in_use(tmp_path, plain):
    clock = Clock()
    path = plain.write_kubeconfig(tmp_path)

    async def scenario(api):
        await api.request("GET", SERVICES)
        path.unlink()
        clock.now += 61
        await api.request("GET", SERVICES)

    run(of(path), scenario, clock=clock)


def test_an_authority_that_did_not_sign_is_refused(tmp_path):
    with FakeApiServer(tls=True) as server:
        path = server.write_kubeconfig(tmp_path)
        from stage.certificates import authority

        (tmp_path / "api-ca.crt").write_bytes(authority("somebody else").cert)

        async def scenario(api):
            with pytest.raises(ApiError) as error:
                await api.request("GET", SERVICES)
            return error.value

        error = run(of(path), scenario)
        assert error.status == 0
        assert "certificate verify failed" in error.message.lower()


def test_exec_plugins_and_certificates_written_into_the_kubeconfig(tmp_path, monkeypatch):
    from stage.certificates import issued

    clock = Clock()
    pair = issued("client", by="somebody")
    plugin = tmp_path / "plugin"
    plugin.write_text(
        "#!/bin/sh\necho x >> " + str(tmp_path / "runs") + "\n"
        'echo "{\\"apiVersion\\":\\"client.authentication.k8s.io/v1\\",\\"kind\\":\\"ExecCredential\\",'
        '\\"status\\":{\\"token\\":\\"$(cat ' + str(tmp_path / "secret") + ')\\",'
        '\\"expirationTimestamp\\":\\"2999-01-01T00:00:00Z\\"}}"\n'
    )
    plugin.chmod(0o755)
    (tmp_path / "secret").write_text("one")
    made = []
    with FakeApiServer(tls=True, token="one") as server:
        path = server.write_kubeconfig(tmp_path)
        value = yaml.safe_load(path.read_text())
        import base64

        value["users"][0]["user"] = {
            "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)},
            "client-certificate-data": base64.b64encode(pair.cert).decode(),
            "client-key-data": base64.b64encode(pair.key).decode(),
        }
        path.write_text(yaml.safe_dump(value))
        from tempfile import mkstemp

        def noted(*args, **kwargs):
            number, name = mkstemp(*args, **kwargs)
            made.append(name)
            return number, name

        monkeypatch.setattr("tempfile.mkstemp", noted)

        async def scenario(api):
            for _ in range(3):
                await api.request("GET", SERVICES)
                clock.now += 61
            server.token = "two"
            (tmp_path / "secret").write_text("two")
            await api.request("GET", SERVICES)

        run(of(path), scenario, clock=clock)
    # Asked once, and once more when the API server refused what it had given.
    assert (tmp_path / "runs").read_text() == "x\nx\n"
    assert made
    import os

    assert [name for name in made if os.path.exists(name)] == []


# ---------------------------------------------------------------------- proxies
def test_a_proxy_is_used_unless_no_proxy_names_the_network(plain, tmp_path):
    seen = []

    async def proxy(reader, writer):
        seen.append((await reader.readline()).decode())
        body = b'{"kind":"Status"}'
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    kubeconfig = yaml.safe_load(plain.write_kubeconfig(tmp_path).read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = "http://10.96.0.1:80"
    (tmp_path / "far").write_text(yaml.safe_dump(kubeconfig))

    async def through(environ):
        server = await asyncio.start_server(proxy, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        environ = {**environ, "HTTP_PROXY": f"127.0.0.1:{port}"}
        api = await ApiServer.connect(of(tmp_path / "far"), environ=environ)
        try:
            with pytest.raises(ApiError) as error:
                await api.request("GET", SERVICES, timeout_s=0.2)
            return error.value.status
        finally:
            await api.close()
            server.close()
            await server.wait_closed()

    assert asyncio.run(through({})) == 502
    assert seen == [f"GET http://10.96.0.1{SERVICES} HTTP/1.1\r\n"]
    # Some other answer, or none: what lies there depends on the machine.
    assert asyncio.run(through({"NO_PROXY": "example.com,10.96.0.0/12"})) != 502
    assert len(seen) == 1


def test_watches_beyond_any_pool_do_not_wait_for_each_other(plain, tmp_path):
    async def scenario(api):
        async with asyncio.timeout(10):
            streams = [api.stream(SERVICES, query={"watch": "1"}, timeout_s=5) for _ in range(110)]
            for stream in streams:
                await stream.__aenter__()
            for stream in streams:
                await stream.__aexit__()

    run(of(plain.write_kubeconfig(tmp_path)), scenario)
    assert api_module.UNANSWERED_MS == 15_000
