"""TLS to upstreams: whom we believe, what we say, what we tell the caller."""

from __future__ import annotations

import os
import ssl

import pytest
from proxy.tls.peers import Authority, FakeLoop, FakeRaw, Peer, RecordingApp, make_share

from ingressd.model.secret import PrivateBytes
from ingressd.model.units import UpstreamTls
from ingressd.proxy.tls.client import TlsClient, UpstreamContexts
from ingressd.proxy.tls.contexts import load_pair
from ingressd.proxy.tls.libssl import LibSsl

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Upstream:
    """A `TlsClient` and the server that it talks to."""

    def __init__(self, context, server: ssl.SSLContext, name: str = "up.test") -> None:
        self.loop = FakeLoop()
        self.app = RecordingApp()
        self.ready: list[BaseException | None] = []
        self.share = make_share(self.loop)
        self.client = TlsClient(context, self.app, self.share, server_hostname=name, on_ready=self.ready.append)
        self.raw = FakeRaw(self.client, self.loop)
        self.peer = Peer(server, server_side=True)

    def handshake(self, step: int = 65536) -> Upstream:
        self.client.connection_made(self.raw)
        while data := self.raw.take():
            self.peer.incoming.write(data)
            self.peer.step()
            if flight := self.peer.outgoing.read():
                self.raw.feed(flight, step)
        while self.loop.soon:
            self.loop.turn()
        return self

    def exchange(self) -> None:
        self.client.write(b"request")
        self.peer.incoming.write(self.raw.take())
        assert self.peer.read() == b"request"
        self.raw.feed(self.peer.send(b"response"))
        assert self.app.received == b"response"


def server_for(pair: tuple[bytes, bytes], version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_pair(context, pair[0], PrivateBytes(pair[1]))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


@pytest.fixture
def contexts():
    return UpstreamContexts(LibSsl.open())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("step", [1, 65536])
def test_without_verification_any_certificate_will_do(contexts, version, step):
    server = server_for(Authority("nobody").issue("other.test"), version)
    upstream = Upstream(contexts.get(UpstreamTls()), server).handshake(step)
    assert upstream.ready == [None]
    assert upstream.app.calls == ["made"]
    upstream.exchange()


def test_a_verified_upstream(contexts, authority):
    tls = UpstreamTls(verify=True, ca_pem=authority.pem, server_name="up.test")
    upstream = Upstream(contexts.get(tls), server_for(authority.issue("up.test"))).handshake()
    assert upstream.ready == [None]
    upstream.exchange()


def test_a_certificate_of_another_authority_is_refused(contexts, authority):
    tls = UpstreamTls(verify=True, ca_pem=authority.pem, server_name="up.test")
    upstream = Upstream(contexts.get(tls), server_for(Authority("rogue").issue("up.test"))).handshake()
    (error,) = upstream.ready
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert upstream.app.calls == []
    assert upstream.raw.closed


def test_a_certificate_for_another_name_is_refused(contexts, authority):
    tls = UpstreamTls(verify=True, ca_pem=authority.pem, server_name="up.test")
    upstream = Upstream(contexts.get(tls), server_for(authority.issue("other.test"))).handshake()
    (error,) = upstream.ready
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert "up.test" in str(error)


def test_verification_without_a_name_is_refused_rather_than_skipped(contexts, authority):
    tls = UpstreamTls(verify=True, ca_pem=authority.pem)
    upstream = Upstream(contexts.get(tls), server_for(authority.issue("up.test")), name="").handshake()
    (error,) = upstream.ready
    assert isinstance(error, ValueError)
    assert upstream.raw.closed


@pytest.mark.skipif(LibSsl.open() is None, reason="this ssl cannot be given a depth")
@pytest.mark.parametrize(("depth", "works"), [(0, False), (1, True)])
def test_verify_depth_bounds_the_intermediates(contexts, authority, depth, works):
    intermediate = Authority("Intermediate", authority)
    pem, key = intermediate.issue("up.test")
    tls = UpstreamTls(verify=True, ca_pem=authority.pem, server_name="up.test", verify_depth=depth)
    upstream = Upstream(contexts.get(tls), server_for((pem + intermediate.pem, key))).handshake()
    assert (upstream.ready == [None]) is works


@pytest.mark.parametrize("name", ["up.test", "up.test.", ""])
def test_the_server_name_is_sent(contexts, authority, name):
    seen = []
    server = server_for(authority.issue("up.test"))
    server.sni_callback = lambda _tls, sni, _context: seen.append(sni)
    Upstream(contexts.get(UpstreamTls()), server, name).handshake()
    assert seen == [name.rstrip(".") or None]


@pytest.mark.parametrize("name", [".test", "x" * 70 + ".test", "a..test"])
def test_a_name_that_cannot_be_sent_is_told(contexts, authority, name):
    upstream = Upstream(contexts.get(UpstreamTls()), server_for(authority.issue("up.test")), name).handshake()
    (error,) = upstream.ready
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("shown", [True, False])
def test_a_client_certificate_is_shown_when_there_is_one(contexts, authority, shown):
    server = server_for(authority.issue("up.test"), ssl.TLSVersion.TLSv1_2)
    server.load_verify_locations(cadata=authority.pem.decode())
    server.verify_mode = ssl.CERT_REQUIRED
    pem, key = authority.issue("client.test")
    tls = UpstreamTls(cert_pem=pem, key_pem=PrivateBytes(key)) if shown else UpstreamTls()
    upstream = Upstream(contexts.get(tls), server).handshake()
    if shown:
        assert upstream.ready == [None]
        assert upstream.peer.tls.getpeercert()["subject"] == ((("commonName", "client.test"),),)
    else:
        assert isinstance(upstream.ready[0], ssl.SSLError)


@pytest.mark.parametrize(
    "tls",
    [
        UpstreamTls(verify=True, ca_pem=b"nonsense"),
        UpstreamTls(verify=True, ca_pem=b"\xff"),
        UpstreamTls(cert_pem=b"x", key_pem=PrivateBytes(b"y")),
        UpstreamTls(ciphers="NOTHING"),
        UpstreamTls(protocols=("TLSv7",)),
    ],
)
def test_material_that_cannot_be_used_is_refused_at_apply(contexts, tls):
    with pytest.raises(ValueError, match=r"cannot be loaded|cipher|version"):
        contexts.get(tls)


def test_equal_policies_share_a_context_until_nobody_holds_it(contexts, authority):
    tls = UpstreamTls(verify=True, ca_pem=authority.pem)
    held = contexts.get(tls)
    assert contexts.get(UpstreamTls(verify=True, ca_pem=authority.pem)) is held
    assert contexts.get(UpstreamTls()) is not held
    del held
    assert len(contexts._contexts) == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_the_next_connection_resumes(contexts, authority, version):
    context = contexts.get(UpstreamTls(verify=True, ca_pem=authority.pem))
    server = server_for(authority.issue("up.test"), version)
    first = Upstream(context, server).handshake()
    first.exchange()
    second = Upstream(context, server).handshake()
    second.exchange()
    assert second.peer.tls.session_reused
    assert not Upstream(contexts.get(UpstreamTls()), server).handshake().peer.tls.session_reused


def test_a_session_is_not_taken_to_another_name(contexts, authority):
    context = contexts.get(UpstreamTls(verify=True, ca_pem=authority.pem))
    server = server_for(authority.issue("up.test"))
    Upstream(context, server).handshake().exchange()
    other = Upstream(context, server, "other.test").handshake()
    assert isinstance(other.ready[0], ssl.SSLCertVerificationError)


@pytest.mark.parametrize("how", ["eof", "abort", "time-out", "garbage"])
def test_what_goes_wrong_in_the_handshake_is_told_once(contexts, authority, how):
    upstream = Upstream(contexts.get(UpstreamTls()), server_for(authority.issue("up.test")))
    upstream.client.connection_made(upstream.raw)
    if how == "eof":
        upstream.raw.feed_eof()
    elif how == "abort":
        upstream.client.abort()
    elif how == "time-out":
        upstream.client.handshake_timed_out()
    else:
        upstream.raw.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    upstream.loop.turn()
    (error,) = upstream.ready
    assert isinstance(error, OSError)
    assert upstream.app.calls == []


def test_a_response_cut_off_without_close_notify_is_told(contexts, authority):
    upstream = Upstream(contexts.get(UpstreamTls()), server_for(authority.issue("up.test"))).handshake()
    upstream.raw.feed(upstream.peer.send(b"half"))
    upstream.raw.feed_eof()
    upstream.loop.turn()
    assert upstream.app.received == b"half"
    assert upstream.app.calls == ["made", "lost"]
    assert isinstance(upstream.app.lost, ssl.SSLEOFError)


def test_a_response_that_ends_with_close_notify_is_whole(contexts, authority):
    upstream = Upstream(contexts.get(UpstreamTls()), server_for(authority.issue("up.test"))).handshake()
    upstream.raw.feed(upstream.peer.send(b"whole") + upstream.peer.close_notify())
    upstream.loop.turn()
    assert upstream.app.received == b"whole"
    assert upstream.app.calls == ["made", "eof", "lost"]
    assert upstream.app.lost is None


@pytest.mark.parametrize("version", VERSIONS)
def test_large_bodies_come_byte_by_byte(contexts, authority, version):
    upstream = Upstream(contexts.get(UpstreamTls()), server_for(authority.issue("up.test"), version)).handshake()
    data = os.urandom(40_000)
    upstream.raw.feed(upstream.peer.send(data), 1)
    assert upstream.app.received == data
