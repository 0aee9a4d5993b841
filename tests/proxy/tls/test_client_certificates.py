"""Whose certificate is asked for, what is found out about a client, and that sessions stay with their policy."""

from __future__ import annotations

import logging
import ssl

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from proxy.tls.peers import NOW_S, Authority, Connection, apply, client_context, make_store
from stage.certificates import Pair
from stage.crafted import certificate, extension, pair, sequence

from ingressd.model.problem import Origin
from ingressd.model.units import ClientAuthority, ClientCertificates
from ingressd.proxy.routing.table import UNBUILT, RouteTable
from ingressd.proxy.tls.certificate_cost import MOST_BYTES, certificates_cost
from ingressd.proxy.tls.clients import CERTIFICATE_BYTES, KNOWN_BYTES, ClientGuards
from ingressd.proxy.tls.libssl import LibSsl
from ingressd.proxy.tls.tickets import PERIOD_S, TicketSecret

pytestmark = pytest.mark.skipif(LibSsl.open() is None, reason="this ssl cannot be made to verify clients")
ALT_NAME = b"\x55\x1d\x11"
VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])


def wish(host: str, **fields) -> ClientCertificates:
    return ClientCertificates(host=host, origin=Origin("Ingress", "default", "web"), authority="ca", **fields)


def guards(*wishes: ClientCertificates, hosts=(), authorities=(), possible: bool = True) -> ClientGuards:
    table = RouteTable.empty().with_changes(dict.fromkeys(hosts, UNBUILT))
    named = {one.name: one for one in authorities}
    return ClientGuards({one.host.encode(): one for one in wishes}, named, table, possible=possible)


@pytest.fixture(scope="module")
def trusted() -> Authority:
    return Authority("clients")


@pytest.fixture
def ca(trusted) -> ClientAuthority:
    return ClientAuthority("ca", trusted.pem)


def guarded(store, ca, *wishes) -> None:
    store.guards = guards(*wishes, hosts=[one.host for one in wishes], authorities=[ca])


def with_certificate(context: ssl.SSLContext, tmp_path, pair: tuple[bytes, bytes]) -> ssl.SSLContext:
    file = tmp_path / "client.pem"
    file.write_bytes(b"".join(pair))
    context.load_cert_chain(file)
    return context


def identity(connection: Connection):
    return connection.server.get_extra_info("client_identity")


# ------------------------------------------------------------------------------------------------ whose policy
def test_a_host_of_its_own_is_not_its_wildcards(ca) -> None:
    of = guards(wish("*.a.test"), hosts=["*.a.test", "x.a.test"], authorities=[ca]).of
    assert of(b"x.a.test") is None
    assert of(b"y.a.test") is not None
    assert of(b"deep.y.a.test") is None
    assert of(b"a.test") is None


def test_unless_the_wildcard_covers_it(ca) -> None:
    of = guards(wish("*.a.test", covers=True), hosts=["x.a.test"], authorities=[ca]).of
    assert of(b"x.a.test") is not None


def test_whose_wildcard_covers_a_host_has_the_last_word(ca) -> None:
    """An object cannot switch off what the configuration file asks."""
    wishes = (wish("*.a.test", covers=True), wish("x.a.test", verify="off"), wish("y.a.test", covers=True))
    of = guards(*wishes, hosts=["x.a.test"], authorities=[ca]).of
    assert of(b"x.a.test").unit.host == "*.a.test"
    assert of(b"y.a.test").unit.host == "y.a.test"


def test_the_catch_all_takes_who_is_nobodys(ca) -> None:
    of = guards(wish(""), hosts=["", "a.test", "*.b.test"], authorities=[ca]).of
    assert of(b"a.test") is None
    assert of(b"x.b.test") is None
    assert of(b"nobody.test") is not None
    assert of(b"") is not None


@pytest.mark.parametrize(
    "other",
    [
        {"verify": "optional"},
        {"depth": 2},
        {"authority": ClientAuthority("ca", b"another")},
        {"authority": ClientAuthority("ca", b"pem", b"list")},
    ],
    ids=str,
)
def test_what_a_handshake_is_judged_by_makes_another_scope(other) -> None:
    one = ClientAuthority("ca", b"pem")
    scope = guards(wish("a"), hosts=["a"], authorities=[one]).of(b"a").scope
    assert len(scope) == 32
    same = guards(wish("b", match_cn="CN=x", error_page="https://x/"), hosts=["b"], authorities=[one]).of(b"b")
    assert same.scope == scope
    authority = other.pop("authority", one)
    assert guards(wish("a", **other), hosts=["a"], authorities=[authority]).of(b"a").scope != scope


def test_what_cannot_be_honoured_is_closed(ca) -> None:
    for unit, authorities, possible in (
        (wish("a"), [], True),
        (wish("a"), [ca], False),
        (wish("a", match_cn="CN=("), [ca], True),
        (wish("a", closed=403, fault="x"), [ca], True),
    ):
        policy = guards(unit, hosts=["a"], authorities=authorities, possible=possible).of(b"a")
        assert policy.closed in (403, 503)
        assert policy.fault
        assert policy.scope == b""


# ------------------------------------------------------------------------------------------------ handshakes
@VERSIONS
def test_every_handshake_succeeds_and_says_who_it_was_with(store, trusted, ca, tmp_path, version) -> None:
    guarded(store, ca, wish("a.test"))
    nobody = Connection(store, client_context(version)).handshake()
    assert nobody.peer.done
    assert (identity(nobody).verify, identity(nobody).fault("on") != "", identity(nobody).fault("optional")) == (
        "NONE",
        True,
        "",
    )
    good = Connection(store, with_certificate(client_context(version), tmp_path, trusted.issue("me"))).handshake()
    assert (identity(good).verify, identity(good).subject, identity(good).issuer) == ("SUCCESS", "CN=me", "CN=clients")
    assert identity(good).fault("on") == ""
    stranger = Authority("clients").issue("me")
    wrong = Connection(store, with_certificate(client_context(version), tmp_path, stranger)).handshake()
    assert wrong.peer.done
    assert identity(wrong).verify.startswith("FAILED:")
    assert identity(wrong).fault("on") and identity(wrong).fault("optional")


def test_who_is_not_asked_has_no_identity(store, trusted, ca, tmp_path) -> None:
    guarded(store, ca, wish("a.test"))
    for sni in ("b.test", None):
        context = with_certificate(client_context(), tmp_path, trusted.issue("me"))
        connection = Connection(store, context, sni).handshake()
        assert connection.peer.done
        assert identity(connection) is None


def test_a_chain_may_be_as_deep_as_allowed(store, trusted, ca, tmp_path) -> None:
    one = Authority("one", trusted)
    two = Authority("two", one)
    leaf, key = two.issue("me")
    pair = (leaf + two.pem + one.pem, key)
    for depth, good in ((1, False), (2, True)):
        guarded(store, ca, wish("a.test", depth=depth))
        connection = Connection(store, with_certificate(client_context(), tmp_path, pair)).handshake()
        assert (identity(connection).fault("on") == "") == good


def test_an_authority_that_cannot_be_loaded_closes_the_host(store) -> None:
    guarded(store, ClientAuthority("ca", b"nothing of the kind"), wish("a.test"))
    assert Connection(store, client_context()).handshake().peer.done
    assert store.guards.of(b"a.test").closed == 403


def test_the_authorities_are_named_to_the_client(store, ca) -> None:
    """A browser offers those certificates only."""
    guarded(store, ca, wish("a.test"))
    context = client_context(ssl.TLSVersion.TLSv1_2)
    connection = Connection(store, context)
    connection.peer.step()
    connection.raw.feed(connection.peer.outgoing.read())
    connection.settle()
    assert b"clients" in connection.raw.take()


# ------------------------------------------------------------------------------------------------ sessions
def visit(store, context, sni: str, session=None):
    connection = Connection(store, context, sni, session=session).handshake()
    assert connection.peer.done
    connection.send(b"q")
    connection.server.write(b"a")
    assert connection.receive() == b"a"
    return connection.peer.tls.session, connection.peer.tls.session_reused, connection


@pytest.fixture
def workers(certificates, ca):
    encoded = TicketSecret.fresh(NOW_S).encode()
    stores = [
        make_store(certificates, {"a.test": "a", "b.test": "b", "": "default"}, secret=TicketSecret.decode(encoded))
        for _ in range(2)
    ]
    for store in stores:
        guarded(store, ca, wish("a.test"), wish("b.test", verify="optional"), wish("twin.test"))
    return stores


@VERSIONS
def test_a_session_resumes_under_its_policy_in_any_worker_and_after_any_renewal(
    workers, trusted, authority, tmp_path, version
) -> None:
    one, two = workers
    context = with_certificate(client_context(version), tmp_path, trusted.issue("me"))
    session, reused, _ = visit(one, context, "a.test")
    assert not reused
    apply(two, {"a": authority.certificate_for("a", "renewed.test")})
    for sni in ("a.test", "twin.test"):
        _, reused, connection = visit(two, context, sni, session)
        assert reused
        assert identity(connection).subject == "CN=me"


@VERSIONS
@pytest.mark.parametrize(("first", "second"), [("open.test", "a.test"), ("a.test", "open.test"), ("b.test", "a.test")])
def test_and_under_no_other(workers, version, first, second) -> None:
    context = client_context(version)
    session, _, _ = visit(workers[0], context, first)
    for store in workers:
        assert not visit(store, context, second, session)[1]


@VERSIONS
def test_tickets_of_guarded_hosts_rotate_too(workers, version) -> None:
    one, two = workers
    context = client_context(version)
    session, _, _ = visit(one, context, "a.test")
    assert visit(two, context, "a.test", session)[1]
    for store in workers:
        store.rotate(NOW_S + PERIOD_S)
    assert not visit(two, context, "a.test", session)[1]
    session, _, _ = visit(one, context, "a.test")
    assert visit(two, context, "a.test", session)[1]


def test_scopes_have_keys_of_their_own() -> None:
    secret = TicketSecret.fresh(NOW_S)
    assert len({secret.keys(), secret.keys(b"a"), secret.keys(b"b")}) == 3
    assert len(secret.keys(b"a")) == 80


def test_names_are_spelled_as_nginx_does() -> None:
    libssl = LibSsl.open()
    assert libssl is not None
    odd = Authority('a, "b"+\N{LATIN SMALL LETTER E WITH ACUTE}\r\nX: y').certificate.public_bytes(Encoding.DER)
    spelled = 'CN=a\\, \\"b\\"\\+\\C3\\A9\\0D\\0AX: y'
    assert libssl.names.of(odd) == (spelled, spelled), "and so that it can be a field"
    with pytest.raises(ValueError, match="not a certificate"):
        libssl.names.of(b"x")


def test_the_key_of_a_certificate_that_is_gone_is_let_go_of(store, trusted, ca, tmp_path) -> None:
    guarded(store, ca, wish("a.test"))
    context = with_certificate(client_context(), tmp_path, trusted.issue("me"))
    assert Connection(store, context).handshake().peer.done
    assert store._asking
    apply(store, {}, {"a.test": None}, removed=[f"certificate/{name}" for name in list(store._pairs)])
    assert not store._asking


def show(store, tmp_path, chain: Pair, version: ssl.TLSVersion | None = None) -> Connection:
    """A connection whose client has these certificates, before the handshake."""
    return Connection(store, with_certificate(client_context(version), tmp_path, (chain.cert, chain.key)))


def with_names(count: int) -> bytes:
    """A certificate for so many names of no byte, which OpenSSL keeps in sixty times their bytes."""
    return certificate(extensions=extension(ALT_NAME, sequence(b"\x82\x00" * count)))


LARGEST = next(n for n in range(1000, 0, -1) if certificates_cost([with_names(n)]) <= MOST_BYTES)


def test_whoever_shows_megabytes_of_certificates_is_not_listened_to(store, ca, tmp_path) -> None:
    """Nobody has to be known to show one: without a bound a connection costs what a stranger likes."""
    long = certificate(extensions=extension(b"\x2a\x03", bytes(2 * CERTIFICATE_BYTES)))
    guarded(store, ca, wish("a.test"))
    refused = show(store, tmp_path, pair(long)).handshake()
    assert identity(refused) is None
    assert refused.server.is_closing()
    guarded(store, ca, wish("a.test", depth=2))
    assert identity(show(store, tmp_path, pair(long)).handshake()).der == long
    guarded(store, ca, wish("a.test", depth=1000))
    longer = certificate(extensions=extension(b"\x2a\x03", bytes(MOST_BYTES // 2)))
    assert identity(show(store, tmp_path, pair(longer)).handshake()) is None


@VERSIONS
@pytest.mark.parametrize("verify", ["on", "optional", "optional_no_ca"])
def test_whoever_shows_what_holds_too_much_is_refused_at_once(store, ca, tmp_path, version, verify, caplog) -> None:
    """Before the client is done with the handshake, which it may never be."""
    caplog.set_level(logging.DEBUG, "ingressd.tls")
    guarded(store, ca, wish("a.test", verify=verify))
    for chain, taken in (
        (pair(with_names(LARGEST)), True),
        (pair(with_names(LARGEST + 1)), False),
        (pair(certificate(), *[certificate(b"", b"")] * 30), False),
    ):
        connection = show(store, tmp_path, chain, version)
        unfinished(connection)
        assert connection.server.is_closing() is not taken
        assert (connection.raw.take()[:1] in (b"\x15", b"\x17")) is not taken, "an alert"
        assert connection.share.counters.tls_failures == (not taken)
    assert "would hold more than 56 KiB" in caplog.text
    assert "certificate rejected" in caplog.text


def unfinished(connection: Connection) -> None:
    """A handshake, but for the last record of the client's last flight: its Finished."""
    connection.peer.step()
    connection.raw.feed(connection.peer.outgoing.read())
    connection.settle()
    connection.peer.incoming.write(connection.raw.take())
    connection.peer.step()
    flight = connection.peer.outgoing.read()
    at = last = 0
    while at < len(flight):
        last, at = at, at + 5 + int.from_bytes(flight[at + 3 : at + 5], "big")
    connection.raw.feed(flight[:last])
    connection.settle()


@VERSIONS
def test_usual_certificates_are_taken_with_their_intermediates(store, trusted, ca, tmp_path, version) -> None:
    guarded(store, ca, wish("a.test"))
    middle = Authority("middle", trusted)
    cert, key = middle.issue("me", *[f"www{number:03}.service.example.com" for number in range(100)])
    shown = show(store, tmp_path, Pair(cert + middle.pem + trusted.pem, key), version).handshake()
    assert identity(shown).verify == "SUCCESS"


def test_a_fault_while_certificates_are_judged_refuses_them(store, trusted, ca, tmp_path, monkeypatch, caplog) -> None:
    guarded(store, ca, wish("a.test"))

    def broken(_shown: object) -> int:
        raise RuntimeError("x")

    monkeypatch.setattr("ingressd.proxy.tls.judges.certificates_cost", broken)
    refused = show(store, tmp_path, Pair(*trusted.issue("me"))).handshake()
    assert identity(refused) is None
    assert refused.server.is_closing()
    assert "cannot be judged" in caplog.text


@VERSIONS
def test_what_certificates_cost_is_known(store, trusted, ca, tmp_path, version) -> None:
    guarded(store, ca, wish("a.test"))
    usual = identity(show(store, tmp_path, Pair(*trusted.issue("a")), version).handshake())
    assert usual.held_bytes == KNOWN_BYTES
    large = show(store, tmp_path, pair(certificate(extensions=extension(b"\x2a\x03", bytes(6000)))), version)
    assert identity(large.handshake()).held_bytes == MOST_BYTES
