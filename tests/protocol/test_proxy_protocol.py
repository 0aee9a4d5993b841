"""HAProxy's doc/proxy-protocol.txt, versions 1 and 2, whatever the network makes of the header."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingressd.protocol.proxy_protocol import (
    V1_BYTES,
    V2_BYTES,
    ProxyHeader,
    ProxyHeaderError,
    crc32c,
    parse_proxy_header,
)

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BEHIND = (b"", b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 6.6.6.6 6.6.6.6 6 6\r\n", b"\r\n", b"\x16\x03\x01")
TCP4 = bytes([9, 9, 9, 9, 8, 8, 8, 8, 4, 87, 0, 80])


def v2(
    block: bytes, *, command: int = 0x21, family: int = 0x11, length: int | None = None, signature: bytes = SIGNATURE
) -> bytes:
    size = len(block) if length is None else length
    return signature + bytes([command, family]) + struct.pack("!H", size) + block


def extension(kind: int, value: bytes, *, length: int | None = None) -> bytes:
    return bytes([kind]) + struct.pack("!H", len(value) if length is None else length) + value


def summed(block: bytes) -> bytes:
    """A header with a right checksum behind `block`."""
    header = v2(block + extension(3, bytes(4)))
    return header[:-4] + struct.pack("!I", crc32c(header))


def parsed(header: bytes) -> ProxyHeader:
    """However it is cut, and with anything behind it."""
    whole = parse_proxy_header(header)
    assert whole is not None
    assert whole.size_bytes == len(header)
    for end in range(len(header)):
        assert parse_proxy_header(header[:end]) is None
    for behind in BEHIND:
        assert parse_proxy_header(header + behind) == whole
    return whole


def refused(header: bytes) -> bytes:
    """The shortest beginning that is refused; every longer one is, too."""
    for end in range(len(header) + 1):
        try:
            found = parse_proxy_header(header[:end])
        except ProxyHeaderError:
            for longer in (header[: end + 1], header, header + BEHIND[1]):
                with pytest.raises(ProxyHeaderError):
                    parse_proxy_header(longer)
            return header[:end]
        assert found is None, f"taken: {header[:end]!r}"
    raise AssertionError(f"still waiting after {header!r}")


# --- version 1 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "source", "destination"),
    [
        (b"PROXY TCP4 9.9.9.9 8.8.8.8 1111 80\r\n", ("9.9.9.9", 1111), ("8.8.8.8", 80)),
        (b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", ("255.255.255.255", 65535), ("0.0.0.0", 0)),
        (b"PROXY TCP6 2001:db8::1 ::1 1 443\r\n", ("2001:db8::1", 1), ("::1", 443)),
        (b"PROXY TCP6 2001:DB8:0:0:0:0:0:1 ::1 1 443\r\n", ("2001:db8::1", 1), ("::1", 443)),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:202 1 2\r\n", ("192.0.2.1", 1), ("192.0.2.2", 2)),
    ],
)
def test_a_line_with_addresses(line: bytes, source: tuple[str, int], destination: tuple[str, int]) -> None:
    assert parsed(line) == ProxyHeader(len(line), source, destination)


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n",
        b"PROXY UNKNOWN anything at all\r\n",
    ],
)
def test_unknown_says_nothing_about_the_client(line: bytes) -> None:
    assert parsed(line) == ProxyHeader(len(line))


def test_the_longest_line() -> None:
    assert parsed(b"PROXY UNKNOWN " + b"x" * (V1_BYTES - 16) + b"\r\n").size_bytes == V1_BYTES
    assert len(refused(b"PROXY UNKNOWN " + b"x" * (V1_BYTES - 15) + b"\r\n")) == V1_BYTES


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        (b"GET / HTTP/1.1\r\n", b"G"),
        (b"\x16\x03\x01\x02\x00", b"\x16"),
        (b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n", b"p"),
        (b" PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", b" "),
        (b"POST / HTTP/1.1\r\n", b"PO"),
        (b"PROXY\r\n", b"PROXY\r"),
        (b"PROXY\tTCP4 1.1.1.1 2.2.2.2 1 2\r\n", b"PROXY\t"),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n"),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\r\n", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\r"),
        (b"PROXY \nTCP4 1.1.1.1 2.2.2.2 1 2\r\n", b"PROXY \n"),
    ],
)
def test_what_can_become_no_header_is_refused_at_once(line: bytes, seen: bytes) -> None:
    assert refused(line) == seen


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP4 \r\n",
        b"PROXY TCP4 1.1.1.1\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
        b"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY tcp4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY UNKNOWN \0\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 256.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 0x1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 16843009 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2.2 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        b"PROXY TCP6 [::1] ::1 1 2\r\n",
        b"PROXY TCP6 ::1::2 ::1 1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 \r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 \xb2 2\r\n",
    ],
)
def test_a_malformed_line_is_refused(line: bytes) -> None:
    refused(line)


# --- version 2 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "source", "destination"),
    [
        (v2(TCP4), ("9.9.9.9", 1111), ("8.8.8.8", 80)),
        (
            v2(bytes(15) + b"\1" + b"\x20\x01\x0d\xb8" + bytes(11) + b"\2" + b"\0\1\1\xbb", family=0x21),
            ("::1", 1),
            ("2001:db8::2", 443),
        ),
        (
            v2((bytes(10) + b"\xff\xff\xc0\0\2\1") * 2 + bytes(4), family=0x21),
            ("192.0.2.1", 0),
            ("192.0.2.1", 0),
        ),
        (v2(TCP4 + extension(4, b"") + extension(0xE0, b"x" * 300)), ("9.9.9.9", 1111), ("8.8.8.8", 80)),
        (
            v2(TCP4 + extension(0x20, b"\1\0\0\0\0" + extension(0x21, b"TLSv1.3")) + extension(2, b"shop.example")),
            ("9.9.9.9", 1111),
            ("8.8.8.8", 80),
        ),
        (v2(TCP4 + extension(5, b"u" * 128)), ("9.9.9.9", 1111), ("8.8.8.8", 80)),
        (summed(TCP4 + extension(4, b"pad")), ("9.9.9.9", 1111), ("8.8.8.8", 80)),
    ],
)
def test_a_binary_header_with_addresses(header: bytes, source: tuple[str, int], destination: tuple[str, int]) -> None:
    assert parsed(header) == ProxyHeader(len(header), source, destination)


@pytest.mark.parametrize(
    "header",
    [
        v2(b"", command=0x20, family=0x00),
        v2(b"", command=0x20, family=0xFF),
        v2(TCP4, command=0x20),
        v2(b"\4\0\xff\0", command=0x20),
        v2(b"", family=0x00),
        v2(b"anything", family=0x00),
        v2(b"short", family=0x10),
        v2(TCP4, family=0x01),
        v2(TCP4, family=0x12),
        v2(bytes(36), family=0x22),
        v2(bytes(216), family=0x31),
        v2(bytes(216), family=0x32),
    ],
)
def test_a_header_that_says_nothing_usable_about_the_client(header: bytes) -> None:
    """LOCAL, UNSPEC, and combinations that are valid but no TCP over IP."""
    assert parsed(header) == ProxyHeader(len(header))


@pytest.mark.parametrize(
    "header",
    [
        v2(TCP4, command=0x11),
        v2(TCP4, command=0x31),
        v2(TCP4, command=0x22),
        v2(TCP4, command=0x2F),
        v2(TCP4, family=0x41),
        v2(TCP4, family=0x13),
        v2(TCP4[:-1]),
        v2(TCP4, family=0x21),
        v2(bytes(215), family=0x31),
        v2(TCP4 + b"\4"),
        v2(TCP4 + b"\4\0"),
        v2(TCP4 + extension(4, b"", length=255) + b"\0"),
        v2(TCP4 + extension(4, b"ab") + extension(1, b"h2", length=3)),
        v2(TCP4 + extension(0x20, b"\1\0\0\0")),
        v2(TCP4 + extension(0x20, b"\1\0\0\0\0" + extension(0x21, b"TLS", length=4)) + extension(4, b"")),
        v2(TCP4 + extension(5, b"u" * 129)),
        v2(TCP4 + extension(3, b"\0\0\0")),
        v2(TCP4 + extension(3, b"\0\0\0\0")),
        summed(TCP4)[:-1] + bytes([summed(TCP4)[-1] ^ 1]),
        summed(TCP4).replace(b"\x09", b"\x0a", 1),
        v2(TCP4, signature=SIGNATURE[:-1] + b"\r"),
        v2(TCP4, length=V2_BYTES - 15),
    ],
)
def test_a_malformed_binary_header_is_refused(header: bytes) -> None:
    refused(header)


def test_the_longest_binary_header() -> None:
    room = V2_BYTES - 16 - len(TCP4) - 3
    header = v2(TCP4 + extension(4, bytes(room)))
    found = parse_proxy_header(header)
    assert found is not None
    assert found.size_bytes == V2_BYTES
    assert len(refused(v2(TCP4 + extension(4, bytes(room + 1))))) == 16


def test_two_checksums_are_refused() -> None:
    """Each costs a pass over the header, and one says all there is to say."""
    refused(v2(summed(TCP4)[16:] + extension(3, bytes(4))))
    header = v2(TCP4 + extension(3, bytes(4)) * 2)
    right = header[:31] + struct.pack("!I", crc32c(header)) + header[35:]
    with pytest.raises(ProxyHeaderError, match="two checksums"):
        parse_proxy_header(right)


# --- any header -------------------------------------------------------------------------------------------------------

PORTS = st.integers(0, 65535)
EXTENSIONS = st.lists(st.builds(extension, st.sampled_from([1, 2, 4, 0x30, 0xE7, 0xFF]), st.binary(max_size=40)))


@given(st.ip_addresses(), PORTS, PORTS)
def test_addresses_survive_version_1(source: IPv4Address | IPv6Address, port: int, other: int) -> None:
    line = f"PROXY TCP{source.version} {source.exploded} {source} {port} {other}\r\n".encode()
    found = parse_proxy_header(line + BEHIND[1])
    assert found is not None
    assert found.source is not None
    mapped = source.ipv4_mapped if source.version == 6 else None
    assert ip_address(found.source[0]) == (mapped or source)
    assert (found.size_bytes, found.source[1], found.destination) == (len(line), port, (found.source[0], other))


@given(st.ip_addresses(), PORTS, PORTS, EXTENSIONS)
def test_addresses_survive_version_2(
    source: IPv4Address | IPv6Address, port: int, other: int, extensions: list[bytes]
) -> None:
    block = source.packed * 2 + struct.pack("!HH", port, other) + b"".join(extensions)
    header = v2(block, family=0x11 if source.version == 4 else 0x21)
    found = parse_proxy_header(header + BEHIND[0])
    assert found is not None
    assert found.source is not None
    mapped = source.ipv4_mapped if source.version == 6 else None
    assert ip_address(found.source[0]) == (mapped or source)
    assert (found.size_bytes, found.source[1], found.destination) == (len(header), port, (found.source[0], other))


@given(
    st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=200).map(lambda data: b"PROXY " + data),
        st.binary(max_size=60).map(lambda data: SIGNATURE + data),
        st.tuples(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=60)).map(
            lambda parts: v2(parts[2], command=parts[0], family=parts[1])
        ),
    ),
    st.data(),
)
@example(b"PROXY TCP4 9.9.9.9 8.8.8.8 1111 80\r\nGET /", None)
def test_any_bytes_have_one_answer_however_they_come(data: bytes, draw: st.DataObject | None) -> None:
    """Taken, refused or unfinished; a beginning is never taken for less, and never refused when the whole is not."""
    whole: ProxyHeader | None
    try:
        whole = parse_proxy_header(data)
    except ProxyHeaderError:
        return
    ends = range(len(data)) if draw is None else [draw.draw(st.integers(0, len(data)))]
    for end in ends:
        part = parse_proxy_header(data[:end])
        assert part == (whole if whole is not None and end >= whole.size_bytes else None)
    if whole is not None:
        assert 0 < whole.size_bytes <= len(data)
        assert (whole.source is None) == (whole.destination is None)


def test_the_checksum_is_castagnoli() -> None:
    """RFC 3720, appendix B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
