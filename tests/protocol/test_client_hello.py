"""RFC 8446, 4.1.2: the ClientHello, however it is cut into records and reads."""

import ssl

import pytest
from protocol.hellos import extension, hello, records, server_name, vector

from ingressd.protocol.client_hello import MAX_BYTES, ClientHello, parse_client_hello


def hello_of_openssl(name: str | None, *, alpn: tuple[str, ...] = (), newest: ssl.TLSVersion | None = None) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if newest is not None:
        context.maximum_version = newest
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def parsed(message: bytes) -> ClientHello:
    """However it is cut into records, and read byte by byte, with more bytes behind."""
    whole = parse_client_hello(records(message))
    assert whole is not None
    for size in (1, 3, 50, 16384):
        data = records(message, size)
        for end in range(len(data)):
            assert parse_client_hello(data[:end]) is None
        for behind in (b"", b"\x14\x03\x03\0\1\1", b"\x17\x03\x03"):
            again = parse_client_hello(data + behind)
            assert again is not None
            assert (again.sni, again.alpn, again.versions) == (whole.sni, whole.alpn, whole.versions)
    return whole


def test_hello_of_a_real_client() -> None:
    data = hello_of_openssl("Shop.Example.com", alpn=("h2", "http/1.1"))
    found = parsed(data[5:])
    assert (found.sni, found.alpn, found.versions) == ("shop.example.com", (b"h2", b"http/1.1"), (0x0304, 0x0303))
    found = parsed(hello_of_openssl(None, newest=ssl.TLSVersion.TLSv1_2)[5:])
    assert (found.sni, found.alpn, found.versions) == (None, (), (0x0303,))


def test_hello_without_extensions() -> None:
    message = hello()
    body = message[4:-2]
    found = parsed(b"\1" + vector(body, 3))
    assert (found.sni, found.alpn, found.versions) == (None, (), (0x0303,))


def test_grease_is_left_out() -> None:
    """RFC 8701: clients send meaningless values so that servers learn to ignore them."""
    versions = extension(43, vector(b"\x3a\x3a\x03\x04\x03\x03", 1))
    found = parsed(hello(extension(0x0A0A, b""), server_name(b"a.example."), versions, extension(0xDADA, b"\0")))
    assert found.sni == "a.example"
    assert found.versions == (0x0304, 0x0303)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x17",
        b"\x15\x03\x01\0\2\2\x28",
        b"\x16\x02",
        b"\x16\x03\x01\0\0",
        b"\x16\x03\x01\x40\x01",
    ],
)
def test_what_is_no_tls_is_told_at_once(data: bytes) -> None:
    with pytest.raises(ValueError, match="TLS"):
        parse_client_hello(data)


def test_other_handshake_message_is_told_at_once() -> None:
    for data in (b"\x16\x03\x01\0\5\2", records(b"\2" + vector(b"x" * 50, 3)), b"\x16\x03\x01\0\1\0\x16"):
        with pytest.raises(ValueError, match="not a ClientHello"):
            parse_client_hello(data)


def test_other_record_in_the_middle_is_refused() -> None:
    """RFC 8446, 5.1: "Handshake messages MUST NOT be interleaved with other record types"."""
    message = hello(server_name(b"a.example"))
    data = records(message[:10]) + b"\x14\x03\x01\0\1\1" + records(message[10:])
    with pytest.raises(ValueError, match="TLS"):
        parse_client_hello(data)


def test_size_is_bounded_by_its_announcement() -> None:
    """A length is believed before its bytes are waited for."""
    padding = MAX_BYTES - (len(hello(extension(21, b""))) - 4)
    assert parse_client_hello(records(hello(extension(21, b"\0" * padding)))) is not None
    with pytest.raises(ValueError, match="too large"):
        parse_client_hello(records(hello(extension(21, b"\0" * (padding + 1))))[:20])


@pytest.mark.parametrize(
    "message",
    [
        hello(server_name(b"a.example"), server_name(b"b.example")),
        hello(server_name(b"")),
        hello(server_name(b"a b")),
        hello(server_name(b"a\0.example")),
        hello(server_name(b"\xc3\xa9.example")),
        hello(server_name(b"a" * 256)),
        hello(extension(0, b"")),
        hello(extension(0, vector(b"\1" + vector(b"a", 2), 2))),
        hello(extension(0, vector(b"\0" + vector(b"a.example", 2) + b"x", 2))),
        hello(extension(16, vector(b"\0", 2))),
        hello(extension(16, vector(b"\3h2", 2))),
        hello(extension(16, b"\0\0")),
        hello(extension(43, vector(b"\3", 1))),
        hello(extension(43, b"\2\3\4x")),
        hello(b"\0\0"),
        hello(b"\0\0\0\5a"),
        hello(tail=b"x"),
        b"\1" + vector(b"\3\3", 3),
        b"\1" + vector(b"\3\3" + b"r" * 32 + vector(b"s" * 33, 1) + vector(b"\x13\x01", 2) + b"\1\0", 3),
        b"\1" + vector(b"\3\3" + b"r" * 32 + b"\0" + vector(b"\x13", 2) + b"\1\0", 3),
        b"\1" + vector(b"\3\3" + b"r" * 32 + b"\0" + vector(b"", 2) + b"\1\0", 3),
        b"\1" + vector(b"\3\3" + b"r" * 32 + b"\0" + vector(b"\x13\x01", 2) + b"\0", 3),
        b"\1" + vector(b"\3\3" + b"r" * 32 + b"\0" + vector(b"\x13\x01", 2), 3),
    ],
)
def test_malformed_hello_is_refused(message: bytes) -> None:
    for size in (1, 16384):
        with pytest.raises(ValueError, match=r"."):
            parse_client_hello(records(message, size))


def test_every_truncation_of_the_message_is_refused() -> None:
    """Each inner length is checked against what holds it."""
    body = hello(server_name(b"a.example"), extension(16, vector(b"\2h2", 2)))[4:]
    complete = len(body)
    without_extensions = complete - len(body[39:]) - 2
    for size in range(complete):
        data = records(b"\1" + vector(body[:size], 3))
        if size == 41 and without_extensions:
            found = parse_client_hello(data)
            assert found is not None
            assert found.sni is None
        else:
            with pytest.raises(ValueError, match=r"."):
                parse_client_hello(data)
