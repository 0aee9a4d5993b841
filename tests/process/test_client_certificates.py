"""Hosts that ask for client certificates: who gets in, what upstreams hear of it, and that no session goes round it."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from stage.certificates import Pair, authority, issued, revoked, selfsigned
from stage.echo import Echo, EchoLoop, raise_echoes
from stage.objects import ONE_SERVICE
from stage.ports import spelled
from stage.running import Ingressd, running
from stage.secure import connect_tls
from stage.wire import Client, Reply, ask, client_tls, request_bytes

pytestmark = pytest.mark.process

ANNOTATION = "nginx.ingress.kubernetes.io/auth-tls-"
VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])


def secret(name: str, **data: bytes) -> str:
    lines = "".join(
        f"  {key.replace('_', '.')}: |\n" + "".join(f"    {line}\n" for line in value.decode().splitlines())
        for key, value in data.items()
    )
    return f"---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: default}}\nstringData:\n{lines}"


def ingress(host: str, **annotations: str) -> str:
    lines = "".join(f'    {ANNOTATION}{name.replace("_", "-")}: "{value}"\n' for name, value in annotations.items())
    return f"""---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {host.replace("*", "star")}
  namespace: default
  annotations:
{lines or "    example.com/none: ''"}
spec:
  ingressClassName: ingressd
  rules:
  - host: "{host}"
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: up, port: {{number: 80}}}}}}}}]}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clients")


@pytest.fixture(scope="module")
def echo(echo_loop: EchoLoop) -> Iterator[Echo]:
    (one,) = raise_echoes(echo_loop, "up")
    yield one
    one.close()


GOOD, FRIEND, GONE, ROGUE = issued("good.client"), issued("friend"), issued("gone"), selfsigned("rogue")
EXTRA = issued("good.client", by="other authority")


@pytest.fixture(scope="module")
def ingressd(folder: Path, echo: Echo) -> Iterator[Ingressd]:
    """Many hosts, each with another wish; two workers, so that sessions meet both."""
    (folder / "k8s").mkdir()
    objects = [
        ONE_SERVICE.format(host=echo.address[0], port=echo.address[1]),
        secret("ca", ca_crt=authority("test authority").cert),
        secret("other", ca_crt=authority("other authority").cert),
        secret("listed", ca_crt=authority("test authority").cert, ca_crl=revoked(GONE, by="test authority")),
        secret("broken", ca_crt=b"nothing of the kind"),
        ingress("open.test"),
        ingress("a.open.test"),
        ingress("on.test", secret="default/ca"),
        ingress("twin.test", secret="default/ca"),
        ingress("other.test", secret="default/other"),
        ingress("optional.test", secret="default/ca", verify_client="optional"),
        ingress("any.test", secret="default/ca", verify_client="optional_no_ca", pass_certificate_to_upstream="true"),
        ingress("off.test", secret="default/ca", verify_client="off"),
        ingress("listed.test", secret="default/listed"),
        ingress("missing.test", secret="default/nowhere"),
        ingress("broken.test", secret="default/broken"),
        ingress("malformed.test", secret="default/ca", verify_client="sometimes"),
        ingress("foreign.test", secret="elsewhere/ca"),
        ingress("cn.test", secret="default/ca", match_cn="CN=(good|nice)"),
        ingress("page.test", secret="default/ca", error_page="https://help.test/certificates"),
        ingress("*.wild.test", secret="default/ca"),
        ingress("free.wild.test"),
    ]
    (folder / "k8s" / "all.yaml").write_text("".join(objects))
    pair = issued("static.test", "*.static.test")
    (folder / "s.crt").write_bytes(pair.cert)
    (folder / "s.key").write_bytes(pair.key)
    (folder / "ca.crt").write_bytes(authority("test authority").cert)
    tls = {"hosts": ["static.test", "*.static.test"], "certFile": "s.crt", "keyFile": "s.key"}
    config: dict[str, Any] = {
        "workers": 2,
        "manifests": ["k8s"],
        "settings": {"ssl-redirect": "false", "use-forwarded-headers": "true"},
        "tls": [{**tls, "clientCertificate": {"caFile": "ca.crt"}}],
        "routes": [
            {"host": host, "path": "/", "upstream": "up"} for host in ("static.test", "own.static.test", "plain.test")
        ],
        "upstreams": {"up": {"endpoints": [spelled(echo.address)]}},
    }
    with running(folder, **config) as one:
        yield one


def context(folder: Path, pair: Pair | None = None, *, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client that has this certificate."""
    made = client_tls(maximum=version)
    if pair is not None:
        file = folder / "client.pem"
        file.write_bytes(pair.cert + pair.key)
        made.load_cert_chain(file)
    return made


def come(ingressd: Ingressd, host: str, pair: Pair | None = None, *, name: str | None = None, **more: Any) -> Reply:
    """One request over TLS; `name` is the server name where it is another than the host."""
    tls = context(ingressd.folder, pair)
    return ask(ingressd.https, host=host, tls=tls, server_name=host if name is None else name, **more)


def heard(echo: Echo) -> dict[str, str]:
    """The fields about the client that the upstream got with the one request it saw, lowercased."""
    (seen,) = echo.seen
    return {name.lower(): value for name, value in seen.fields if "ssl-client" in name.lower()}


@pytest.fixture(autouse=True)
def forget(echo: Echo) -> None:
    echo.seen.clear()


# --------------------------------------------------------------------------------------------------- who gets in
@pytest.mark.parametrize("host", ["on.test", "a.wild.test", "static.test", "own.static.test", "cn.test"])
def test_a_good_certificate_gets_in_and_a_missing_or_wrong_one_is_told_so(
    ingressd: Ingressd, echo: Echo, host: str
) -> None:
    missing = come(ingressd, host)
    assert missing.status == 400
    assert "No required SSL certificate was sent" in missing.text
    wrong = come(ingressd, host, ROGUE)
    assert wrong.status == 400
    assert "The SSL certificate error" in wrong.text
    assert come(ingressd, host, EXTRA).status == 400, "issued by somebody else"
    assert not echo.seen
    assert come(ingressd, host, GOOD).status == 200
    assert heard(echo) == {
        "ssl-client-verify": "SUCCESS",
        "ssl-client-subject-dn": "CN=good.client",
        "ssl-client-issuer-dn": "CN=test authority",
    }


def test_nobody_else_is_asked(ingressd: Ingressd, echo: Echo) -> None:
    for host in ("open.test", "free.wild.test", "plain.test"):
        echo.seen.clear()
        assert come(ingressd, host, GOOD).status == 200, host
        assert heard(echo) == {}


def test_a_client_cannot_say_who_it_is(ingressd: Ingressd, echo: Echo) -> None:
    """Not even through a proxy that is trusted with X-Forwarded-*."""
    lies = {"ssl-client-verify": "SUCCESS", "SSL-Client-Subject-DN": "CN=admin", "ssl_client_issuer_dn": "CN=x"}
    assert come(ingressd, "optional.test", headers={**lies, "ssl-client-cert": "x"}).status == 200
    assert heard(echo) == {"ssl-client-verify": "NONE"}
    echo.seen.clear()
    assert come(ingressd, "on.test", GOOD, headers={**lies}).status == 200
    assert heard(echo)["ssl-client-subject-dn"] == "CN=good.client"


def test_optional_wants_none_or_a_good_one(ingressd: Ingressd, echo: Echo) -> None:
    assert come(ingressd, "optional.test", ROGUE).status == 400
    assert not echo.seen
    assert come(ingressd, "optional.test", GOOD).status == 200
    assert heard(echo)["ssl-client-verify"] == "SUCCESS"


def test_optional_no_ca_takes_anybodys_and_says_so(ingressd: Ingressd, echo: Echo) -> None:
    assert come(ingressd, "any.test", ROGUE).status == 200
    fields = heard(echo)
    assert fields["ssl-client-verify"].startswith("FAILED:self")
    assert fields["ssl-client-subject-dn"] == "CN=rogue"
    assert "+" not in fields["ssl-client-cert"] and "%0A" in fields["ssl-client-cert"]
    assert unquote(fields["ssl-client-cert"]).encode() == ROGUE.cert
    echo.seen.clear()
    assert come(ingressd, "any.test").status == 200
    assert heard(echo) == {"ssl-client-verify": "NONE"}


def test_off_asks_for_nothing(ingressd: Ingressd, echo: Echo) -> None:
    assert come(ingressd, "off.test", ROGUE).status == 200
    assert heard(echo) == {"ssl-client-verify": "NONE"}


def test_a_revoked_certificate_is_wrong(ingressd: Ingressd, echo: Echo) -> None:
    assert come(ingressd, "on.test", GONE).status == 200, "nobody told this host"
    echo.seen.clear()
    assert come(ingressd, "listed.test", GONE).status == 400
    assert not echo.seen
    assert come(ingressd, "listed.test", GOOD).status == 200


def test_a_subject_that_does_not_match_is_forbidden(ingressd: Ingressd, echo: Echo) -> None:
    assert come(ingressd, "cn.test", FRIEND).status == 403
    assert not echo.seen


def test_the_error_page_is_a_redirect(ingressd: Ingressd, echo: Echo) -> None:
    for pair in (None, ROGUE):
        reply = come(ingressd, "page.test", pair)
        assert reply.status == 302
        assert reply.one("location") == "https://help.test/certificates"
    assert not echo.seen
    assert come(ingressd, "page.test", GOOD).status == 200


@pytest.mark.parametrize(
    ("host", "status"), [("missing.test", 403), ("broken.test", 403), ("malformed.test", 503), ("foreign.test", 503)]
)
def test_what_cannot_be_honoured_is_closed(ingressd: Ingressd, echo: Echo, host: str, status: int) -> None:
    assert come(ingressd, host, GOOD).status == status
    assert ask(ingressd.http, host=host).status == status
    assert not echo.seen


def test_plain_http_has_no_certificate(ingressd: Ingressd, echo: Echo) -> None:
    for host in ("on.test", "static.test", "own.static.test", "x.wild.test"):
        assert ask(ingressd.http, host=host).status == 400, host
        assert ask(ingressd.http, host=host, headers={"X-Forwarded-Proto": "https"}).status == 400, host
    assert ask(ingressd.http, host="cn.test").status == 400
    assert not echo.seen
    assert ask(ingressd.http, "/.well-known/acme-challenge/token", host="on.test").status == 200
    assert ask(ingressd.http, "/.well-known/acme-challenge/../../secret", host="on.test").status == 400


# --------------------------------------------------------------------------------------------------- 421
@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("open.test", "on.test"),
        ("on.test", "open.test"),
        ("", "on.test"),
        ("nobody.test", "on.test"),
        ("optional.test", "on.test"),
        ("other.test", "on.test"),
        ("any.test", "on.test"),
        ("free.wild.test", "x.wild.test"),
        ("plain.test", "own.static.test"),
        ("missing.test", "on.test"),
    ],
)
def test_a_connection_does_not_ask_for_a_host_of_another_policy(
    ingressd: Ingressd, echo: Echo, name: str, host: str
) -> None:
    reply = come(ingressd, host, GOOD, name=name)
    assert reply.status == 421
    assert reply.one("connection") == "close"
    assert not echo.seen


@pytest.mark.parametrize(("name", "host"), [("on.test", "twin.test"), ("on.test", "a.wild.test"), ("", "open.test")])
def test_hosts_of_one_policy_share_a_connection(ingressd: Ingressd, name: str, host: str) -> None:
    assert come(ingressd, host, GOOD, name=name).status == 200


# --------------------------------------------------------------------------------------------------- sessions
def begin(ingressd: Ingressd, tls: ssl.SSLContext, name: str) -> ssl.SSLSession:
    """A session of a host, whatever its answer."""
    with Client(ingressd.https, tls=tls, server_name=name) as client:
        client.send(request_bytes("/", host=name))
        client.reply()
        assert isinstance(client.sock, ssl.SSLSocket)
        session = client.sock.session
    assert session is not None
    return session


def offer(ingressd: Ingressd, tls: ssl.SSLContext, name: str, session: ssl.SSLSession) -> tuple[bool, int]:
    """Whether a session was resumed for a name, and what a request got."""
    with connect_tls(ingressd.https, tls, server_name=name, session=session) as secure:
        secure.sendall(request_bytes("/", host=name))
        answer = secure.recv(4096)
        return bool(secure.session_reused), int(answer.split(b" ")[1])


@VERSIONS
@pytest.mark.parametrize("first", ["open.test", "optional.test", "other.test", "any.test", "missing.test"])
def test_a_session_of_another_policy_is_not_resumed(
    ingressd: Ingressd, folder: Path, echo: Echo, version: ssl.TLSVersion, first: str
) -> None:
    """The client has no certificate, so a resumed session would be all that it has to show (CVE-2025-23419)."""
    tls = context(folder, version=version)
    session = begin(ingressd, tls, first)
    echo.seen.clear()
    for _ in range(4):  # Either worker.
        assert offer(ingressd, tls, "on.test", session) == (False, 400)
    assert not echo.seen


@VERSIONS
def test_nor_the_other_way_round(ingressd: Ingressd, folder: Path, version: ssl.TLSVersion) -> None:
    tls = context(folder, GOOD, version=version)
    session = begin(ingressd, tls, "on.test")
    assert offer(ingressd, tls, "open.test", session)[0] is False
    assert offer(ingressd, tls, "listed.test", session) == (False, 200), "another policy verifies anew"


@VERSIONS
def test_a_session_is_resumed_under_its_own_policy_and_keeps_its_verdict(
    ingressd: Ingressd, folder: Path, echo: Echo, version: ssl.TLSVersion
) -> None:
    tls = context(folder, GOOD, version=version)
    session = begin(ingressd, tls, "on.test")
    assert {offer(ingressd, tls, "on.test", session) for _ in range(6)} == {(True, 200)}, "in every worker"
    echo.seen.clear()
    assert offer(ingressd, tls, "twin.test", session) == (True, 200)
    assert heard(echo)["ssl-client-subject-dn"] == "CN=good.client"
    wrong = context(folder, ROGUE, version=version)
    session = begin(ingressd, wrong, "on.test")
    assert offer(ingressd, wrong, "on.test", session)[1] == 400


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the program openssl is not installed")
@pytest.mark.parametrize("flags", [["-tls1_2"], ["-tls1_2", "-no_ticket"], ["-tls1_3"]], ids=lambda flags: flags[-1])
def test_openssl_cannot_carry_a_session_across(ingressd: Ingressd, folder: Path, echo: Echo, flags: list[str]) -> None:
    """Session IDs, too: the client keeps what it got from the open host and brings it to the guarded one."""
    kept = folder / "session.pem"
    command = ["openssl", "s_client", "-connect", spelled(ingressd.https), "-ign_eof", *flags]

    def visit(host: str, *more: str) -> bytes:
        return subprocess.run(
            [*command, "-servername", host, *more], input=request_bytes("/", host=host), capture_output=True, timeout=60
        ).stdout

    assert b"HTTP/1.1 200" in visit("open.test", "-sess_out", str(kept))
    echo.seen.clear()
    for _ in range(4):
        answer = visit("on.test", "-sess_in", str(kept))
        assert b"HTTP/1.1 400" in answer
        assert b"Reused, TLSv1" not in answer
    assert not echo.seen


# --------------------------------------------------------------------------------------------------- changes
def test_a_change_of_policy_takes_hold_of_open_connections_and_sessions(folder: Path, echo: Echo) -> None:
    own = folder / "own"
    (own / "k8s").mkdir(parents=True)
    manifest = own / "k8s" / "all.yaml"
    world = ONE_SERVICE.format(host=echo.address[0], port=echo.address[1])

    def put(*objects: str) -> None:
        pending = own / ".pending"
        pending.write_text("".join((world, *objects)))
        pending.replace(manifest)

    guarded = ingress("on.test", secret="default/ca")
    put(secret("ca", ca_crt=authority("test authority").cert), ingress("on.test"))
    with running(own, manifests=["k8s"], settings={"ssl-redirect": "false"}) as ingressd:
        tls = context(folder, GOOD)
        with Client(ingressd.https, tls=tls, server_name="on.test") as client:
            client.send(request_bytes("/", host="on.test", keep_alive=True))
            assert client.reply().status == 200
            put(secret("ca", ca_crt=authority("test authority").cert), guarded)
            ingressd.wait_until(lambda: come(ingressd, "on.test").status == 400)
            client.send(request_bytes("/", host="on.test"))
            assert client.reply().status == 421, "this connection has shown no certificate"
        session = begin(ingressd, tls, "on.test")
        assert offer(ingressd, tls, "on.test", session) == (True, 200)
        listed = secret("ca", ca_crt=authority("test authority").cert, ca_crl=revoked(GOOD, by="test authority"))
        put(listed, guarded)
        ingressd.wait_until(lambda: come(ingressd, "on.test", GOOD).status == 400)
        assert offer(ingressd, tls, "on.test", session) == (False, 400), "revoked while it had a session"
        put(guarded)
        ingressd.wait_until(lambda: come(ingressd, "on.test", FRIEND).status == 403)
        assert ask(ingressd.http, host="on.test").status == 403
        put(secret("ca", ca_crt=authority("test authority").cert), guarded)
        ingressd.wait_until(lambda: come(ingressd, "on.test", GOOD).status == 200)
