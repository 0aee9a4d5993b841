"""A ClientHello of which OpenSSL would keep much as long as the connection lives ends the handshake."""

from __future__ import annotations

import logging

import pytest
from proxy.tls.peers import Connection, client_context

from ingressd.proxy.tls.judges import HELLO_BYTES
from ingressd.proxy.tls.libssl import LibSsl

pytestmark = pytest.mark.skipif(LibSsl.open() is None, reason="this ssl cannot be called back")
ALERT = bytes((0x15, 3, 3, 0, 2, 2, 40))
SUITES = b"\x13\x01\x13\x02\xc0\x2b"
POINT = bytes(range(32))


def vector(content: bytes, width: int = 2) -> bytes:
    return len(content).to_bytes(width, "big") + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(content)


def hello(*more: bytes, suites: bytes = SUITES, groups: bytes = b"", algorithms: bytes = b"", shared: bool = True):
    """Of TLS 1.3, in records of 16,000 bytes. Not `shared`: without a share of a key, which asks for another hello."""
    extensions = (
        extension(0, vector(b"\x00" + vector(b"a.test"))),
        extension(10, vector(b"\x00\x1d" + groups)),
        extension(13, vector(b"\x04\x03\x08\x04" + algorithms)),
        extension(43, vector(b"\x03\x04", 1)),
        extension(51, vector(b"\x00\x1d" + vector(POINT) if shared else b"")),
        *more,
    )
    body = b"\x03\x03" + bytes(32) + b"\x00" + vector(suites) + b"\x01\x00" + vector(b"".join(extensions))
    message = b"\x01" + vector(body, 3)
    return b"".join(b"\x16\x03\x01" + vector(message[at : at + 16000]) for at in range(0, len(message), 16000))


def authorities(count: int) -> bytes:
    """certificate_authorities with empty names: four bytes each here, 187 in OpenSSL."""
    return extension(47, vector(b"\x00\x02\x30\x00" * count))


def responders(count: int) -> bytes:
    """status_request with empty names."""
    return extension(5, b"\x01" + vector(b"\x00\x04\xa1\x02\x30\x00" * count) + vector(b""))


def come(store, *hellos: bytes) -> Connection:
    connection = Connection(store, client_context())
    for one in hellos:
        connection.raw.feed(one)
        connection.settle()
    return connection


def refused(connection: Connection) -> bool:
    return connection.raw.take().endswith(ALERT) and connection.server.is_closing()


COSTLY = {
    "suites": lambda n: hello(suites=SUITES * n),
    "groups": lambda n: hello(groups=b"\x00\x1d" * 3 * n),
    "signature algorithms": lambda n: hello(algorithms=b"\x04\x03" * 2 * n),
    "signature algorithms of certificates": lambda n: hello(extension(50, vector(b"\x04\x03" * 2 * n))),
    "authorities": lambda n: hello(authorities(n)),
    "responders": lambda n: hello(responders(n)),
}


@pytest.mark.parametrize("kind", COSTLY)
def test_what_would_be_kept_is_bounded(store, kind, caplog) -> None:
    caplog.set_level(logging.DEBUG, "ingressd.tls")
    assert not refused(come(store, COSTLY[kind](20)))
    costly = come(store, COSTLY[kind](1500))
    assert refused(costly)
    assert costly.share.counters.tls_failures == 1
    assert f"more than {HELLO_BYTES // 1024} KiB" in caplog.text


def test_also_of_the_second_that_we_ask_for(store) -> None:
    """It never passes our own parser, and OpenSSL takes 128 KiB of it."""
    asked = come(store, hello(shared=False), hello())
    assert not refused(asked)
    assert asked.server.handshaking
    assert refused(come(store, hello(shared=False), hello(authorities(16_000))))


def test_what_is_only_long_is_not_costly(store) -> None:
    assert not refused(come(store, hello(extension(21, bytes(15_000)))))


def test_a_fault_while_it_is_judged_refuses_it(store, monkeypatch, caplog) -> None:
    monkeypatch.setattr("ingressd.proxy.tls.judges._EXTENSIONS", None)
    assert refused(come(store, hello()))
    assert "cannot be judged" in caplog.text


def test_a_handshake_that_failed_holds_nothing(store) -> None:
    """A traceback would: frames, and they the SSL object, with 90 KiB that only a collection of garbage finds."""
    failed = come(store, hello(authorities(1000)))
    assert failed.server._failure is not None
    assert failed.server._failure.__traceback__ is None
