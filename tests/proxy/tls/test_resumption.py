"""Sessions resume in any worker, after any change of certificates, for a day at most."""

from __future__ import annotations

import ssl
import subprocess
import sys

import pytest
from proxy.tls.peers import NOW_S, Connection, apply, client_context, make_store

from ingressd.model.units import TlsPolicy
from ingressd.proxy.tls.libssl import LibSsl
from ingressd.proxy.tls.tickets import ENCODED_BYTES, PERIOD_S, TicketSecret

pytestmark = pytest.mark.skipif(LibSsl.open() is None, reason="this ssl cannot be given ticket keys")

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])


def visit(store, context, session=None, sni="a.test"):
    """One connection with a request and an answer; the session to come back with."""
    connection = Connection(store, context, sni, session=session).handshake()
    assert connection.peer.done
    connection.send(b"q")
    connection.server.write(b"a")
    assert connection.receive() == b"a"
    reused = connection.peer.tls.session_reused
    assert connection.share.counters.tls_resumed == int(reused)
    return connection.peer.tls.session, reused


def two_workers(certificates, **policy):
    encoded = TicketSecret.fresh(NOW_S).encode()
    return [
        make_store(certificates, {"": "a"}, secret=TicketSecret.decode(encoded), policy=TlsPolicy(**policy))
        for _ in range(2)
    ]


@VERSIONS
def test_in_another_worker(certificates, version):
    one, two = two_workers(certificates)
    context = client_context(version)
    session, reused = visit(one, context)
    assert not reused
    assert visit(two, context, session)[1]


@VERSIONS
def test_after_the_certificate_changed(certificates, authority, version):
    one, _ = two_workers(certificates)
    context = client_context(version)
    session, _ = visit(one, context)
    apply(one, {"a": authority.certificate_for("a", "renewed.test")})
    assert visit(one, context, session)[1]
    assert not visit(one, context)[1]


@VERSIONS
def test_after_the_policy_changed(certificates, version):
    one, _ = two_workers(certificates)
    context = client_context(version)
    session, _ = visit(one, context)
    apply(one, {}, policy=TlsPolicy(session_timeout_s=60))
    assert visit(one, context, session)[1]


@VERSIONS
def test_not_with_another_secret(certificates, version):
    (one, _), (_, stranger) = two_workers(certificates), two_workers(certificates)
    context = client_context(version)
    session, _ = visit(one, context)
    assert not visit(stranger, context, session)[1]


@VERSIONS
def test_not_on_another_day_and_in_step_with_the_other_worker(certificates, version):
    one, two = two_workers(certificates)
    context = client_context(version)
    session, _ = visit(one, context)
    one.rotate(NOW_S + PERIOD_S)
    two.rotate(NOW_S + PERIOD_S)
    assert not visit(two, context, session)[1]
    session, _ = visit(one, context)
    assert visit(two, context, session)[1]


@VERSIONS
def test_only_tickets_and_cache_both_off_switch_it_off(certificates, version):
    context = client_context(version)
    off, _ = two_workers(certificates, session_tickets=False, session_cache=False)
    session, _ = visit(off, context)
    assert not visit(off, context, session)[1]
    tickets, _ = two_workers(certificates, session_tickets=True, session_cache=False)
    session, _ = visit(tickets, context)
    assert visit(tickets, context, session)[1]


def test_the_session_time_out_is_that_of_the_policy(certificates):
    one, _ = two_workers(certificates, session_timeout_s=123.0)
    session, _ = visit(one, client_context(ssl.TLSVersion.TLSv1_2))
    assert session.ticket_lifetime_hint == 123


_OTHER_WORKER = """
import socket, sys
sys.path.insert(0, sys.argv[1])
from proxy.tls.peers import *
from proxy.tls.peers import TicketSecret, Authority, FakeLoop
from ingressd.proxy.tls.tickets import TicketSecret
store = make_store({"a": Authority("other").certificate_for("a", "a.test")}, {"": "a"},
                   secret=TicketSecret.from_descriptor(int(sys.argv[2])))
sock = socket.socket(fileno=int(sys.argv[3]))
loop = FakeLoop()
app = RecordingApp()
app.on_data = lambda data: server.write(b"from the other: " + data)
server = TlsServer(store, lambda _: app, make_share(loop))
raw = FakeRaw(server, loop)
server.connection_made(raw)
while data := sock.recv(65536):
    raw.feed(data)
    sock.sendall(raw.take())
"""


@VERSIONS
def test_in_another_process(certificates, version, request):
    """The secret goes to a fresh interpreter the way a supervisor hands it to a worker."""
    import socket

    secret = TicketSecret.fresh(NOW_S)
    context = client_context(version)
    session, _ = visit(make_store(certificates, {"": "a"}, secret=secret), context)
    ours, theirs = socket.socketpair()
    descriptor = secret.to_descriptor()
    command = [sys.executable, "-c", _OTHER_WORKER, str(request.config.rootpath / "tests")]
    with theirs:
        process = subprocess.Popen(
            [*command, str(descriptor), str(theirs.fileno())], pass_fds=[descriptor, theirs.fileno()]
        )
    try:
        client = context.wrap_socket(ours, server_hostname="a.test", session=session)
        client.sendall(b"hello")
        assert client.recv(100) == b"from the other: hello"
        assert client.session_reused
        client.close()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def test_secrets_step_alike_and_only_forward():
    one = TicketSecret.fresh(NOW_S)
    two = TicketSecret.decode(one.encode())
    assert one.keys() == two.keys() and len(one.keys()) == 80
    assert one.advance(NOW_S + 3 * PERIOD_S)
    assert two.advance(NOW_S + PERIOD_S)
    assert one.keys() != two.keys()
    assert two.advance(NOW_S + 3 * PERIOD_S)
    assert one.keys() == two.keys()
    assert not one.advance(NOW_S)
    assert one.keys() == two.keys()


def test_a_secret_does_not_print():
    secret = TicketSecret.fresh(NOW_S)
    assert secret.encode()[8:].hex() not in repr(secret) + str(secret)


@pytest.mark.parametrize("size", [0, ENCODED_BYTES - 1, ENCODED_BYTES + 1])
def test_a_secret_of_another_size_is_refused(size):
    with pytest.raises(ValueError, match="40 bytes"):
        TicketSecret.decode(bytes(size))


def test_keys_of_another_size_are_refused():
    libssl = LibSsl.open()
    with pytest.raises(ValueError, match="80 bytes"):
        libssl.set_ticket_keys(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), bytes(48))


def test_an_unknown_interpreter_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    assert LibSsl.open() is None


def test_without_libssl_a_worker_still_resumes_its_own(certificates):
    import asyncio

    from ingressd.model.units import TlsHost
    from ingressd.proxy.tls.store import TlsStore

    store = TlsStore(clock=lambda: 0.0, secret=TicketSecret.fresh(NOW_S), libssl=None)
    asyncio.run(store.apply(certificates={"certificate/a": certificates["a"]}, hosts={"tls/": TlsHost("", "a")}))
    store.rotate(NOW_S + PERIOD_S)
    context = client_context()
    session, _ = visit(store, context)
    assert visit(store, context, session)[1]
