"""The recipes of class tls."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from protocol.hellos import extension, hello, records, server_name, vector
from raw.conftest import Serve, write_pair
from stage.certificates import Pair, authority, names_of, selfsigned
from stage.echo import Echo
from stage.objects import ONE_SERVICE
from stage.ports import Address
from stage.running import PATIENCE_S, Ingressd
from stage.secure import connect_tls
from stage.wire import Client, Reply, ask, client_tls, request_bytes

pytestmark = pytest.mark.process

FATAL = 2
HANDSHAKE_FAILURE, PROTOCOL_VERSION, UNRECOGNIZED_NAME = 40, 70, 112


def two_hosts(serve: Serve, tmp_path: Path, **config: Any) -> Ingressd:
    """a.test and b.test, each with a certificate of its own."""
    tls = [{"hosts": [host], **write_pair(tmp_path, host[0], selfsigned(host))} for host in ("a.test", "b.test")]
    return serve("a.test", "b.test", tls=tls, **config)


def over_tls(ingressd: Ingressd, *, server_name: str, host: str) -> Reply:
    return ask(ingressd.https, host=host, tls=client_tls(), server_name=server_name)


def certificate_for(address: Address, name: str | None) -> list[str]:
    """The names of the certificate that a server name gets, as OpenSSL spells it."""
    context = client_tls()
    with connect_tls(address, context, server_name=name or "", timeout_s=PATIENCE_S) as secure:
        return names_of(secure.getpeercert(True))[1]


def answer_to_hello(address: Address, data: bytes) -> bytes:
    """Everything that comes back for a ClientHello made by hand, until the server closes."""
    with Client(address) as client:
        client.send(data)
        return client.until_end()


def test_tls_no_sni(serve: Serve, tmp_path: Path, echo: Echo) -> None:
    """The default certificate, and the Host field decides the route."""
    ingressd = two_hosts(serve, tmp_path)
    reply = over_tls(ingressd, server_name="", host="a.test")
    assert reply.status == 200
    assert names_of(reply.certificate)[1] not in (["a.test"], ["b.test"]), "nobody's certificate but the default one"
    assert over_tls(ingressd, server_name="", host="nobody.test").status == 404
    assert [dict(seen.fields)["Host"] for seen in echo.seen] == ["a.test"]


def test_tls_sni_host_mismatch(serve: Serve, tmp_path: Path, echo: Echo) -> None:
    """Both hosts ask the same of a client (no certificate), so the connection may ask for the other (RFC 9110, 7.4)."""
    ingressd = two_hosts(serve, tmp_path)
    reply = over_tls(ingressd, server_name="a.test", host="b.test")
    assert reply.status in (200, 421)
    if reply.status == 200:
        assert dict(echo.seen[0].fields)["Host"] == "b.test"
    else:
        assert not echo.seen


def test_tls_sni_unknown(serve: Serve, tmp_path: Path) -> None:
    """The self-signed certificate of the proxy, never another tenant's."""
    ingressd = two_hosts(serve, tmp_path)
    for name in ("nope.invalid", "b.test.evil.invalid", "x.a.test", "localhost"):
        names = certificate_for(ingressd.https, name)
        assert not {"a.test", "b.test"} & set(names), name
    assert over_tls(ingressd, server_name="nope.invalid", host="nope.invalid").status == 404


def test_tls_sni_unknown_refused_by_policy(serve: Serve, tmp_path: Path) -> None:
    """`ssl-reject-handshake`: the alert unrecognized_name, and nothing of a certificate."""
    ingressd = two_hosts(serve, tmp_path, settings={"ssl-reject-handshake": "true"})
    versions = extension(43, vector(b"\x03\x04\x03\x03", 1))
    answer = answer_to_hello(ingressd.https, records(hello(server_name(b"nope.invalid"), versions)))
    assert answer[:1] == b"\x15"
    assert answer[5:7] == bytes([FATAL, UNRECOGNIZED_NAME])
    assert certificate_for(ingressd.https, "a.test") == ["a.test"]


@pytest.mark.parametrize("name", ["A.TEST", "a.TeSt", "a.test."])
def test_tls_sni_trailing_dot_case(serve: Serve, tmp_path: Path, name: str) -> None:
    ingressd = two_hosts(serve, tmp_path)
    context = client_tls()
    if name.endswith("."):  # OpenSSL takes the dot along; RFC 6066 forbids it, and clients send it all the same.
        assert answer_certificate(ingressd.https, name.encode()) == ["a.test"]
        return
    with connect_tls(ingressd.https, context, server_name=name, timeout_s=PATIENCE_S) as secure:
        assert names_of(secure.getpeercert(True))[1] == ["a.test"]


def answer_certificate(address: Address, name: bytes) -> list[str]:
    """The certificate that a name made by hand gets: TLS 1.2, where it is sent in the clear."""
    groups = extension(10, vector(b"\x00\x1d\x00\x17", 2))
    signatures = extension(13, vector(b"\x04\x03\x08\x04\x04\x01", 2))
    body = b"\x03\x03" + b"r" * 32 + b"\0" + vector(b"\xc0\x2b\xc0\x2f", 2) + b"\1\0"
    message = body + vector(server_name(name) + groups + signatures + extension(11, b"\1\0"), 2)
    with Client(address) as client:
        client.send(records(b"\1" + vector(message, 3)))
        client.wait_for(b"\x0e\0\0\0")  # ServerHelloDone.
        flight = client.receive()
    handshake = b""
    while flight[:1] == b"\x16":
        size = int.from_bytes(flight[3:5], "big")
        handshake, flight = handshake + flight[5 : 5 + size], flight[5 + size :]
    while handshake[:1] not in (b"", b"\x0b"):
        handshake = handshake[4 + int.from_bytes(handshake[1:4], "big") :]
    assert handshake, "no certificate came"
    return names_of(handshake[10 : 10 + int.from_bytes(handshake[7:10], "big")])[1]


@pytest.mark.parametrize(("name", "version"), [("SSL 3.0", 0x0300), ("TLS 1.0", 0x0301), ("TLS 1.1", 0x0302)])
def test_tls_versions(serve: Serve, tmp_path: Path, name: str, version: int) -> None:
    """Older than 1.2: a fatal alert and no ServerHello."""
    ingressd = two_hosts(serve, tmp_path)
    suites = vector(b"\xc0\x13\xc0\x14\x00\x2f\x00\x35", 2)
    extensions = vector(server_name(b"a.test") + extension(10, vector(b"\x00\x17", 2)), 2)
    message = version.to_bytes(2, "big") + b"r" * 32 + b"\0" + suites + b"\1\0" + extensions
    answer = answer_to_hello(ingressd.https, records(b"\1" + vector(message, 3)))
    assert answer[:1] == b"\x15", name
    assert answer[5] == FATAL
    assert answer[6] in (PROTOCOL_VERSION, HANDSHAKE_FAILURE)
    with connect_tls(ingressd.https, client_tls(), timeout_s=PATIENCE_S) as secure:
        assert secure.version() in ("TLSv1.2", "TLSv1.3")


def test_tls_alpn_h2_when_off(serve: Serve, tmp_path: Path) -> None:
    """What is negotiated is what is spoken."""
    ingressd = two_hosts(serve, tmp_path)
    for offered in (("h2",), ("h2", "http/1.1"), ("spdy/3", "h2c")):
        with Client(ingressd.https, tls=client_tls(alpn=offered), server_name="a.test") as client:
            assert isinstance(client.sock, ssl.SSLSocket)
            assert client.sock.selected_alpn_protocol() in (None, "http/1.1")
            client.send(request_bytes("/", host="a.test"))
            assert client.reply().status == 200


def test_tls_early_data(serve: Serve, tmp_path: Path, echo: Echo) -> None:
    """Tickets do not offer 0-RTT, and what is sent as such all the same is never acted on."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("the program openssl is not installed")
    ingressd = two_hosts(serve, tmp_path, settings={"ssl-session-tickets": "true"})
    session = tmp_path / "session"
    early = tmp_path / "early"
    early.write_bytes(b"GET /early HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
    address = f"{ingressd.https[0]}:{ingressd.https[1]}"
    command = [openssl, "s_client", "-connect", address, "-servername", "a.test", "-tls1_3", "-ign_eof"]
    first = subprocess.run(
        [*command, "-sess_out", str(session)],
        input=early.read_bytes().replace(b"early", b"late"),
        capture_output=True,
        timeout=120,
    )
    assert b"HTTP/1.1 200" in first.stdout, first.stdout + first.stderr
    assert [int(found) for found in re.findall(rb"Max Early Data: (\d+)", first.stdout)] in ([], [0], [0, 0])
    assert session.exists()
    asked = subprocess.run(
        [*command, "-sess_in", str(session), "-early_data", str(early)],
        input=early.read_bytes().replace(b"early", b"late"),
        capture_output=True,
        timeout=120,
    )
    assert b"Early data was accepted" not in asked.stdout
    assert {seen.path for seen in echo.seen} == {"/late"}


MTLS = (
    ONE_SERVICE
    + """---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: guarded
  namespace: default
  annotations:
    nginx.ingress.kubernetes.io/auth-tls-secret: default/authority
    nginx.ingress.kubernetes.io/auth-tls-verify-client: "on"
spec:
  ingressClassName: ingressd
  rules:
  - host: mtls.test
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: up, port: {{number: 80}}}}}}}}]}}
"""
)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_session_resume_cross_vhost_mtls(serve: Serve, tmp_path: Path, echo: Echo, version: ssl.TLSVersion) -> None:
    """A session of a host that asks for no certificate opens no host that asks for one (CVE-2025-23419)."""
    manifests = tmp_path / "k8s"
    manifests.mkdir()
    guarded = MTLS.format(host=echo.address[0], port=echo.address[1])
    who = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "authority", "namespace": "default"}}
    who["stringData"] = {"ca.crt": authority().cert.decode()}
    (manifests / "guarded.yaml").write_text(f"{guarded}---\n{json.dumps(who)}\n")
    ingressd = two_hosts(serve, tmp_path, manifests=["k8s"], settings={"ssl-session-tickets": "true"})
    context = client_tls(maximum=version)
    with Client(ingressd.https, tls=context, server_name="a.test") as client:
        client.send(request_bytes("/", host="a.test"))
        assert client.reply().status == 200
        assert isinstance(client.sock, ssl.SSLSocket)
        session = client.sock.session
    assert session is not None
    assert session.has_ticket
    echo.seen.clear()
    with connect_tls(ingressd.https, context, server_name="mtls.test", session=session, timeout_s=PATIENCE_S) as secure:
        assert not secure.session_reused
        secure.sendall(request_bytes("/", host="mtls.test"))
        answer = secure.recv(4096)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert over_tls(ingressd, server_name="a.test", host="mtls.test").status == 421
    assert not echo.seen


def serves(ingressd: Ingressd, pair: Pair) -> bool:
    """Whether a.test gets exactly this certificate."""
    with connect_tls(ingressd.https, client_tls(), server_name="a.test", timeout_s=PATIENCE_S) as secure:
        return secure.getpeercert(True) == ssl.PEM_cert_to_DER_cert(pair.cert.decode())


def fresh_pair(*names: str) -> Pair:
    """A pair that no other test shares."""
    selfsigned.cache_clear()
    return selfsigned(*names)


@pytest.mark.slow
def test_tls_cert_rotate_under_load(serve: Serve, tmp_path: Path) -> None:
    """A new certificate every second: no handshake fails, each is seen, and old connections go on."""
    first = fresh_pair("a.test")
    ingressd = serve(tls=[{"hosts": ["a.test"], **write_pair(tmp_path, "a", first)}], workers=2)
    ended = threading.Event()
    failures: Counter[str] = Counter()
    handshakes = [0]

    def shake_hands() -> None:
        context = client_tls()
        while not ended.is_set():
            try:
                with connect_tls(ingressd.https, context, timeout_s=PATIENCE_S) as secure:
                    secure.getpeercert(True)
                    handshakes[0] += 1
            except OSError as error:
                failures[repr(error)] += 1
            time.sleep(0.01)

    kept = [Client(ingressd.https, tls=client_tls(), server_name="a.test", timeout_s=600) for _ in range(20)]
    threads = [threading.Thread(target=shake_hands) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(6):
            pair = fresh_pair("a.test")
            write_pair(tmp_path, "a", pair)
            written = time.monotonic()
            ingressd.wait_until(lambda pair=pair: serves(ingressd, pair))
            time.sleep(max(0.0, written + 1 - time.monotonic()))
        ingressd.wait_until(lambda: handshakes[0] > 200, within_s=3 * PATIENCE_S)
        for client in kept:
            client.send(request_bytes("/", host="a.test"))
            assert client.reply().status == 200
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        for client in kept:
            client.close()
    assert not failures


def expired_pair(name: str) -> Pair:
    """A pair whose certificate ended yesterday."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now - datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


BROKEN: dict[str, Callable[[Pair], Pair]] = {
    "mismatched key": lambda good: Pair(good.cert, fresh_pair("a.test").key),
    "truncated PEM": lambda good: Pair(good.cert[: len(good.cert) // 2], good.key),
    "empty key": lambda good: Pair(good.cert, b""),
    "no PEM": lambda good: Pair(b"hello", b"world"),
    "expired": lambda good: expired_pair("a.test"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_tls_bad_secret_keeps_old(serve: Serve, tmp_path: Path, how: str) -> None:
    """The last good certificate serves on, the problem is said and counted, and the mended one is taken."""
    good = fresh_pair("a.test")
    ingressd = serve(tls=[{"hosts": ["a.test"], **write_pair(tmp_path, "a", good)}])
    write_pair(tmp_path, "a", BROKEN[how](good))

    def problems() -> bytes:
        return b"\n".join(re.findall(rb'(?m)^ingressd_problems\{.*severity="error".*\} [1-9].*$', metrics(ingressd)))

    ingressd.wait_until(problems)
    for _ in range(3):
        assert serves(ingressd, good)
        assert over_tls(ingressd, server_name="a.test", host="a.test").status == 200
    assert "error" in ingressd.output()
    mended = fresh_pair("a.test")
    write_pair(tmp_path, "a", mended)
    ingressd.wait_until(lambda: serves(ingressd, mended))
    ingressd.wait_until(lambda: not problems())


def metrics(ingressd: Ingressd) -> bytes:
    return ask(ingressd.admin, "/metrics").body


@pytest.mark.parametrize("body", ["length", "chunked"])
def test_tls_close_notify_missing(serve: Serve, tmp_path: Path, echo: Echo, body: str) -> None:
    """A FIN inside a request without close_notify is a truncation: no whole request reaches the upstream."""
    ingressd = two_hosts(serve, tmp_path)
    framing = b"Content-Length: 10" if body == "length" else b"Transfer-Encoding: chunked"
    sent = b"hello" if body == "length" else b"5\r\nhello\r\n"
    with Client(ingressd.https, tls=client_tls(), server_name="a.test") as client:
        client.send(b"POST /cut HTTP/1.1\r\nHost: a.test\r\n" + framing + b"\r\n\r\n" + sent)
        ingressd.wait_until(lambda: echo.accepted)
        client.sock.shutdown(socket.SHUT_RDWR)  # Of the TCP connection: no close_notify goes out.
    (line,) = ingressd.access_lines(path="/cut")
    assert line["status"] in (400, 499)
    assert not [seen for seen in echo.seen if seen.path == "/cut"]
    assert ask(ingressd.http, host="a.test").status == 200
