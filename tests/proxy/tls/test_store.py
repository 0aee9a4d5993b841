"""Which certificate a name gets, and what a change may and may not break."""

from __future__ import annotations

import asyncio
import ssl

import msgspec
import pytest
from proxy.tls.peers import NOW_S, Authority, Connection, apply, client_context, make_store

from ingressd.model.problem import Origin
from ingressd.model.secret import PrivateBytes
from ingressd.model.units import Certificate, TlsPolicy
from ingressd.proxy.tls import store as store_module
from ingressd.proxy.tls.self_signed import make_self_signed


def names_for(store, sni):
    return Connection(store, client_context(), sni).handshake().names


@pytest.mark.parametrize(
    ("sni", "expected"),
    [
        ("a.test", "a.test"),
        ("A.TEST", "a.test"),
        ("b.test", "b.test"),
        ("x.wild.test", "*.wild.test"),
        ("x.y.wild.test", "default.test"),
        ("wild.test", "default.test"),
        ("unknown.test", "default.test"),
        ("localhost", "default.test"),
        (None, "default.test"),
    ],
)
def test_exact_then_one_label_wildcard_then_default(store, sni, expected):
    assert names_for(store, sni) == (expected,)


def test_an_exact_name_beats_the_wildcard(certificates):
    store = make_store(certificates, {"*.wild.test": "wild", "x.wild.test": "a"})
    assert names_for(store, "x.wild.test") == ("a.test",)


def test_the_self_signed_certificate_is_the_last_resort(certificates):
    fake = make_self_signed(NOW_S)
    store = make_store({"a": certificates["a"], fake.name: fake}, {"a.test": "a", "none.test": None})
    for sni in ("none.test", "unknown.test", None):
        assert names_for(store, sni) == ("ingress.local",)


def test_a_host_without_a_certificate_gets_the_default_one(certificates):
    store = make_store(certificates, {"": "default", "none.test": None, "gone.test": "gone"})
    assert names_for(store, "none.test") == ("default.test",)
    assert names_for(store, "gone.test") == ("default.test",)


@pytest.mark.parametrize("sni", ["unknown.test", None])
def test_unknown_names_are_rejected_when_the_policy_says_so(certificates, sni):
    policy = TlsPolicy(reject_unknown_sni=True)
    store = make_store(certificates, {"a.test": "a", "": "default"}, policy=policy)
    connection = Connection(store, client_context(), sni).handshake()
    assert connection.peer.error.reason == "TLSV1_UNRECOGNIZED_NAME"
    assert names_for(store, "a.test") == ("a.test",)


def test_an_empty_store_refuses_with_an_alert():
    connection = Connection(make_store(), client_context()).handshake()
    assert connection.peer.error.reason == "TLSV1_UNRECOGNIZED_NAME"


def test_removed_names_and_certificates_fall_back(store):
    assert apply(store, {}, removed=["tls/a.test", "certificate/b", "host/a.test", "upstream/x"]) == {}
    assert names_for(store, "a.test") == ("default.test",)
    assert names_for(store, "b.test") == ("default.test",)


def broken(certificates, kind):
    good, other = certificates["a"], certificates["b"]
    cert, key = {
        "key of another": (good.cert_pem, other.key_pem.reveal()),
        "no key": (good.cert_pem, b""),
        "no certificate": (b"", good.key_pem.reveal()),
        "truncated": (good.cert_pem[:200], good.key_pem.reveal()),
        "not PEM": (b"hello", b"world"),
    }[kind]
    return Certificate("a", Origin("Secret", "default", "a"), cert, PrivateBytes(key), ("a.test",), NOW_S)


@pytest.mark.parametrize("kind", ["key of another", "no key", "no certificate", "truncated", "not PEM"])
@pytest.mark.parametrize("lazy", [False, True])
def test_a_broken_pair_is_refused_by_key_and_the_last_good_one_stays(certificates, monkeypatch, kind, lazy, caplog):
    store = make_store(certificates, {"a.test": "a", "": "default"})
    if lazy:
        monkeypatch.setattr(store_module, "EAGER_CERTIFICATES", 0)
    refused = apply(store, {"a": broken(certificates, kind)})
    assert set(refused) == (set() if lazy else {"certificate/a"})
    assert names_for(store, "a.test") == ("a.test",)
    said = refused["certificate/a"] if not lazy else caplog.text
    assert "/proc" not in said and "PRIVATE" not in said


def test_a_new_broken_pair_leaves_its_name_to_the_default(certificates):
    store = make_store({"default": certificates["default"]}, {"": "default"})
    refused = apply(store, {"a": broken(certificates, "key of another")}, {"a.test": "a"})
    assert refused == {"certificate/a": "the key does not belong to the certificate"}
    assert names_for(store, "a.test") == ("default.test",)


def test_an_encrypted_key_is_refused_without_asking_a_terminal(certificates):
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    good = certificates["a"]
    key = load_pem_private_key(good.key_pem.reveal(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    unit = Certificate("a", good.origin, good.cert_pem, PrivateBytes(locked), (), NOW_S)
    assert "certificate/a" in apply(make_store(), {"a": unit})


def test_an_unchanged_certificate_is_not_loaded_again(store, certificates):
    before = store.context_for("a.test").certificate
    again = Certificate(**{field: getattr(certificates["a"], field) for field in Certificate.__struct_fields__})
    assert apply(store, {"a": again, "b": certificates["default"]}) == {}
    assert store.context_for("a.test").certificate is before
    assert names_for(store, "b.test") == ("default.test",)


def test_many_certificates_are_loaded_when_they_are_needed(authority, monkeypatch):
    monkeypatch.setattr(store_module, "EAGER_CERTIFICATES", 1)
    monkeypatch.setattr(store_module, "MAX_CONTEXTS", 2)
    units = {f"n{i}": authority.certificate_for(f"n{i}", f"n{i}.test") for i in range(4)}
    store = make_store(units, {f"n{i}.test": f"n{i}" for i in range(4)})
    assert repr(store) == "<TlsStore 4 certificates, 4 names, 1 in memory>"
    for _ in range(2):
        for i in range(4):
            assert names_for(store, f"n{i}.test") == (f"n{i}.test",)
    assert repr(store) == "<TlsStore 4 certificates, 4 names, 2 in memory>"


def test_a_policy_that_cannot_be_is_refused_and_the_old_one_stays(store):
    assert "process" in apply(store, {}, policy=TlsPolicy(ciphers="NO-SUCH-CIPHER"))
    assert "process" in apply(store, {}, policy=TlsPolicy(protocols=("TLSv9",)))
    assert "process" in apply(store, {}, policy=TlsPolicy(protocols=("SSLv3",)))
    assert names_for(store, "a.test") == ("a.test",)


def test_a_policy_change_reaches_certificates_that_were_loaded_before(store):
    apply(store, {}, policy=TlsPolicy(protocols=("TLSv1.2",), ciphers="ECDHE-ECDSA-AES256-GCM-SHA384"))
    connection = Connection(store, client_context()).handshake()
    assert connection.server.get_extra_info("cipher")[:2] == ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.2")


@pytest.mark.parametrize(
    ("protocols", "version", "works"),
    [
        (("TLSv1.2", "TLSv1.3"), ssl.TLSVersion.TLSv1_2, True),
        (("TLSv1.2", "TLSv1.3"), ssl.TLSVersion.TLSv1_3, True),
        (("TLSv1.2",), ssl.TLSVersion.TLSv1_3, False),
        (("TLSv1.3",), ssl.TLSVersion.TLSv1_2, False),
        (("TLSv1", "TLSv1.2"), ssl.TLSVersion.TLSv1, True),
        (("TLSv1", "TLSv1.2"), ssl.TLSVersion.TLSv1_1, False),
        (("TLSv1.2", "TLSv1.3"), ssl.TLSVersion.TLSv1_1, False),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_versions_are_exactly_those_of_the_policy(certificates, protocols, version, works):
    store = make_store(certificates, {"": "a"}, policy=TlsPolicy(protocols=protocols, ciphers="DEFAULT"))
    client = client_context()
    client.set_ciphers("DEFAULT:@SECLEVEL=0")
    client.minimum_version = client.maximum_version = version
    assert Connection(store, client).handshake().peer.done is works


def test_certificates_swap_under_a_load_of_handshakes(authority):
    """Every handshake gets a whole certificate, the old or the new; open connections notice nothing."""
    units = [authority.certificate_for("a", "a.test", f"v{i}.test") for i in range(4)]
    store = make_store({"a": units[0]}, {"": "a"})
    held = Connection(store, client_context()).handshake()
    seen = []

    async def scenario():
        async def load():
            for _ in range(40):
                connection = Connection(store, client_context()).handshake()
                assert connection.peer.done
                seen.append(connection.names[1])
                await asyncio.sleep(0)

        async def swap():
            for unit in units[1:]:
                for _ in range(8):
                    await asyncio.sleep(0)
                assert await store.apply(certificates={"certificate/a": unit}, hosts={}) == {}

        await asyncio.gather(load(), swap())

    asyncio.run(scenario())
    assert seen == sorted(seen)
    assert set(seen) == {"v0.test", "v1.test", "v2.test", "v3.test"}
    held.send(b"as before")
    assert held.app.received == b"as before"


def test_a_handshake_begun_before_a_swap_ends_well(store):
    connection = Connection(store, client_context())
    connection.peer.step()
    connection.raw.feed(connection.peer.outgoing.read())
    apply(store, {"a": Authority("Other").certificate_for("a", "new.test")})
    connection.peer.incoming.write(connection.raw.take())
    connection.handshake()
    assert connection.names == ("a.test",)
    assert names_for(store, "a.test") == ("new.test",)


def test_loading_yields_to_the_loop(certificates):
    store = make_store()
    ticks = iter(range(100))
    store._clock = lambda: next(ticks)
    turns = []

    async def scenario():
        async def other():
            while True:
                turns.append(1)
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await store.apply(certificates={f"certificate/{n}": c for n, c in certificates.items()}, hosts={})
        task.cancel()

    asyncio.run(scenario())
    assert len(turns) >= len(certificates)


def test_a_certificate_that_has_expired_does_not_replace_one_that_has_not(certificates):
    """An old file put back; when the one that serves has expired as well, the new one is as good as it."""
    good, other = certificates["a"], certificates["b"]
    serving = msgspec.structs.replace(good, not_after_s=NOW_S + 100)
    old = msgspec.structs.replace(other, name="a", not_after_s=NOW_S - 1)
    store = make_store({"a": serving}, {"a.test": "a"})
    store.rotate(NOW_S)
    assert apply(store, {"a": old}) == {"certificate/a": "it has expired, and the one that it replaces has not"}
    assert names_for(store, "a.test") == ("a.test",)
    store.rotate(NOW_S + 101)
    assert apply(store, {"a": old}) == {}
    assert names_for(store, "a.test") == ("b.test",)


def test_a_certificate_that_has_expired_serves_where_there_is_none_else(certificates):
    old = msgspec.structs.replace(certificates["a"], not_after_s=NOW_S - 1)
    store = make_store({"default": certificates["default"]}, {"": "default"})
    store.rotate(NOW_S)
    assert apply(store, {"a": old}, {"a.test": "a"}) == {}
    assert names_for(store, "a.test") == ("a.test",)
