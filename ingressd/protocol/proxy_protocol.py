"""The PROXY protocol, versions 1 and 2, as a receiver (HAProxy's doc/proxy-protocol.txt): whom a balancer speaks for.

The strictest reading: what the document lets a receiver forgive is refused all the same, because a header that two
programs read differently puts a wrong address into access lists and logs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

V1_BYTES: Final = 107
"""Section 2.1: "a 108-byte buffer is always enough to store all the line and a trailing zero"."""
V2_BYTES: Final = 4096
"""The longest header of version 2 that is taken, as in nginx; the length field alone would allow 64 KiB."""

_V1_START: Final = b"PROXY "
_V2_START: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED: Final = 16
_PROXY: Final = 1
_UNSPEC: Final = 0
_DATAGRAM: Final = 2
_UNIX: Final = 3
_ADDRESS_BYTES: Final = (0, 12, 36, 216)
"""By family: AF_UNSPEC, AF_INET, AF_INET6, AF_UNIX."""

_CRC32C: Final = 0x03
_UNIQUE_ID: Final = 0x05
_SSL: Final = 0x20
_UNIQUE_ID_BYTES: Final = 128

_V1_LINE = re.compile(
    rb"PROXY TCP([46]) ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})\r\n"
).fullmatch
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [ -~]*)?\r\n").fullmatch

Address = tuple[str, int]
"""IP address, IPv4 in IPv6 written as IPv4, and port."""


class ProxyHeaderError(Exception):
    """No PROXY header, or a malformed one. Nothing behind it can be trusted; the reason is for the log only."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """One header. Without addresses (LOCAL, UNKNOWN, no TCP over IP) those of the connection itself count."""

    size_bytes: int
    source: Address | None = None
    destination: Address | None = None


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header at the beginning of `data`, or None while more bytes are needed.

    Raises ProxyHeaderError as soon as no further byte can make it one. What follows the header is not looked at.
    """
    if data[:1] == b"P":
        return _parse_v1(data)
    if not data.startswith(_V2_START[: len(data)]):
        raise ProxyHeaderError("no PROXY header")
    return _parse_v2(data) if len(data) >= _V2_FIXED else None


def _parse_v1(data: bytes) -> ProxyHeader | None:
    if not data.startswith(_V1_START[: len(data)]):
        raise ProxyHeaderError("no PROXY header")
    line = data[:V1_BYTES]
    end = line.find(b"\r\n") + 2
    if end < 2:
        if len(line) == V1_BYTES:
            raise ProxyHeaderError("PROXY line too long")
        if b"\n" in line or b"\r" in line[:-1]:
            raise ProxyHeaderError("malformed PROXY line")
        return None
    line = line[:end]
    if _V1_UNKNOWN(line):
        return ProxyHeader(end)
    match = _V1_LINE(line)
    if match is None:
        raise ProxyHeaderError("malformed PROXY line")
    family, source, destination, source_port, destination_port = match.groups()
    return ProxyHeader(
        end, _v1_address(family, source, source_port), _v1_address(family, destination, destination_port)
    )


def _v1_address(family: bytes, text: bytes, port: bytes) -> Address:
    try:
        address = (IPv4Address if family == b"4" else IPv6Address)(text.decode("ascii"))
    except ValueError:
        raise ProxyHeaderError("malformed address in the PROXY line") from None
    if int(port) > 65535:
        raise ProxyHeaderError("malformed port in the PROXY line")
    return _spelled(address), int(port)


def _spelled(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped if mapped is not None else address)


def _parse_v2(data: bytes) -> ProxyHeader | None:
    version, command = data[12] >> 4, data[12] & 15
    family, transport = data[13] >> 4, data[13] & 15
    end = _V2_FIXED + int.from_bytes(data[14:16], "big")
    # Section 2.2: "Receivers must drop connections presenting unexpected values here."
    if version != 2 or command > _PROXY:
        raise ProxyHeaderError("unknown version or command of the PROXY header")
    if end > V2_BYTES:
        raise ProxyHeaderError("PROXY header too long")
    # For LOCAL a receiver must "discard the protocol block including the family which is ignored"; of UNSPEC it "should
    # ignore address information".
    addressed = command == _PROXY and family != _UNSPEC and transport != _UNSPEC
    if command == _PROXY and (family > _UNIX or transport > _DATAGRAM):
        raise ProxyHeaderError("unknown address family or transport in the PROXY header")
    if addressed and end < _V2_FIXED + _ADDRESS_BYTES[family]:
        raise ProxyHeaderError("PROXY header too short for its addresses")
    if len(data) < end:
        return None
    if not addressed:
        return ProxyHeader(end)
    header = data[:end]
    _check_extensions(header, _V2_FIXED + _ADDRESS_BYTES[family])
    if transport == _DATAGRAM or family == _UNIX:
        # "It automatically falls back to the UNSPEC mode for the valid combinations above that it does not support."
        return ProxyHeader(end)
    kind, size = (IPv4Address, 4) if family == 1 else (IPv6Address, 16)
    at = _V2_FIXED + 2 * size
    source = _spelled(kind(header[_V2_FIXED : _V2_FIXED + size])), int.from_bytes(header[at : at + 2], "big")
    destination = _spelled(kind(header[_V2_FIXED + size : at])), int.from_bytes(header[at + 2 : at + 4], "big")
    return ProxyHeader(end, source, destination)


def _check_extensions(header: bytes, position: int) -> None:
    """The type-length-value vectors behind the addresses (section 2.2): none may reach beyond what holds it."""
    end = len(header)
    summed = False
    while position < end:
        kind, start, position = _extension(header, position, end)
        size = position - start
        if kind == _CRC32C:
            if summed:  # Each costs a pass over the header.
                raise ProxyHeaderError("two checksums in the PROXY header")
            summed = True
            _check_sum(header, start, size)
        elif kind == _UNIQUE_ID and size > _UNIQUE_ID_BYTES:
            raise ProxyHeaderError("unique ID too long in the PROXY header")
        elif kind == _SSL:
            if size < 5:
                raise ProxyHeaderError("malformed extension of the PROXY header")
            inner = start + 5  # Flags and the result of the verification.
            while inner < position:
                _, _, inner = _extension(header, inner, position)


def _extension(header: bytes, position: int, end: int) -> tuple[int, int, int]:
    """Type, beginning and end of the value at `position`."""
    start = position + 3
    behind = start + int.from_bytes(header[position + 1 : start], "big")
    if start > end or behind > end:
        raise ProxyHeaderError("extension of the PROXY header reaches beyond its end")
    return header[position], start, behind


def _check_sum(header: bytes, start: int, size: int) -> None:
    # Section 2.2.3: a receiver must "calculate a CRC32c checksum value of the whole PROXY header" with zeros for the
    # field; when it differs it "MUST treat the TCP connection providing the header as invalid".
    if size != 4 or int.from_bytes(header[start : start + 4], "big") != crc32c(
        header[:start] + bytes(4) + header[start + 4 :]
    ):
        raise ProxyHeaderError("checksum of the PROXY header does not match")


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE: Final = _table()


def crc32c(data: bytes) -> int:
    """RFC 3720, appendix B.4: the Castagnoli checksum."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 255]
    return value ^ 0xFFFFFFFF
