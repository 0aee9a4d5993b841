"""The ClientHello of a TLS connection (RFC 8446, 4.1.2), read before any handshake: who is asked for, and how."""

from typing import Final

MAX_BYTES: Final = 16384
"""Largest ClientHello taken, record headers not counted; real ones are below 2 KiB, post-quantum keys included."""

_CLIENT_HELLO: Final = 1
_RECORD_BYTES: Final = 16384
_SERVER_NAME: Final = 0
_ALPN: Final = 16
_SUPPORTED_VERSIONS: Final = 43
_HOST_BYTES: Final = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyz.-_")


class ClientHello:
    """What routing needs of a ClientHello."""

    __slots__ = ("alpn", "sni", "versions")

    def __init__(self, *, sni: str | None, alpn: tuple[bytes, ...], versions: tuple[int, ...]) -> None:
        self.sni = sni  # lowercase, without a trailing dot; None when the client named nobody
        self.alpn = alpn  # in the client's order
        self.versions = versions  # as on the wire (0x0303 is TLS 1.2), in the client's order, without GREASE

    def __repr__(self) -> str:
        return f"<ClientHello sni={self.sni!r} alpn={self.alpn!r} versions={[hex(v) for v in self.versions]}>"


def parse_client_hello(data: bytes) -> ClientHello | None:
    """The ClientHello at the beginning of `data`, or None while more bytes are needed.

    Takes a handshake message fragmented over several records; what follows it is not looked at. Raises ValueError when
    it is no TLS, is malformed, or is larger than `MAX_BYTES`.
    """
    body = _handshake_body(data)
    return None if body is None else _parse_body(body)


def _handshake_body(data: bytes) -> bytes | None:
    fragments: list[bytes] = []
    have = 0
    need = 4
    position = 0
    while have < need:
        header = data[position : position + 5]
        if header[:1] not in (b"", b"\x16") or header[1:2] not in (b"", b"\x03"):
            raise ValueError("not a TLS handshake")
        if len(header) < 5:
            return None
        length = int.from_bytes(header[3:5], "big")
        # RFC 8446, 5.1: length "MUST NOT exceed 2^14 bytes"; zero-length fragments of handshake types are forbidden.
        if not 0 < length <= _RECORD_BYTES:
            raise ValueError("malformed TLS record")
        fragment = data[position + 5 : position + 5 + length]
        fragments.append(fragment)
        have += len(fragment)
        if need == 4 and have >= 4:
            need = 4 + _message_bytes(b"".join(fragments))
        elif fragments[0][:1] not in (b"", b"\x01"):
            raise ValueError("not a ClientHello")
        if len(fragment) < length and have < need:
            return None
        position += 5 + length
    return b"".join(fragments)[4:need]


def _message_bytes(start: bytes) -> int:
    if start[0] != _CLIENT_HELLO:
        raise ValueError("not a ClientHello")
    length = int.from_bytes(start[1:4], "big")
    if length > MAX_BYTES:
        raise ValueError("ClientHello too large")
    return length


def _parse_body(body: bytes) -> ClientHello:
    if len(body) < 35:
        raise ValueError("truncated ClientHello")
    version = int.from_bytes(body[:2], "big")
    session, position = _vector(body, 34, width=1)
    suites, position = _vector(body, position, width=2)
    compressions, position = _vector(body, position, width=1)
    if len(session) > 32 or len(suites) < 2 or len(suites) % 2 or not compressions:
        raise ValueError("malformed ClientHello")
    sni: str | None = None
    alpn: tuple[bytes, ...] = ()
    versions: tuple[int, ...] = (version,)
    if position < len(body):
        extensions, position = _vector(body, position, width=2)
        if position != len(body):
            raise ValueError("bytes after the extensions")
        seen: set[int] = set()
        position = 0
        while position < len(extensions):
            kind = int.from_bytes(extensions[position : position + 2], "big")
            content, position = _vector(extensions, position + 2, width=2)
            # RFC 8446, 4.2: "There MUST NOT be more than one extension of the same type".
            if kind in seen:
                raise ValueError("repeated extension")
            seen.add(kind)
            if kind == _SERVER_NAME:
                sni = _parse_server_name(content)
            elif kind == _ALPN:
                alpn = _parse_alpn(content)
            elif kind == _SUPPORTED_VERSIONS:
                versions = _parse_versions(content)
    return ClientHello(sni=sni, alpn=alpn, versions=versions)


def _vector(data: bytes, position: int, *, width: int) -> tuple[bytes, int]:
    """A vector with a length of `width` bytes before it, and the position behind it (RFC 8446, 3.4)."""
    start = position + width
    end = start + int.from_bytes(data[position:start], "big")
    if start > len(data) or end > len(data):
        raise ValueError("truncated ClientHello")
    return data[start:end], end


def _whole_vector(data: bytes, *, width: int) -> bytes:
    content, end = _vector(data, 0, width=width)
    if end != len(data) or not content:
        raise ValueError("malformed extension")
    return content


def _parse_server_name(content: bytes) -> str:
    """RFC 6066, 3: one host_name, "represented as a byte string using ASCII encoding without a trailing dot"."""
    names = _whole_vector(content, width=2)
    if names[0] != 0:
        raise ValueError("unknown server name type")
    name = _whole_vector(names[1:], width=2).lower().removesuffix(b".")
    if not 0 < len(name) <= 255 or not _HOST_BYTES.issuperset(name):
        raise ValueError("malformed server name")
    return name.decode("ascii")


def _parse_alpn(content: bytes) -> tuple[bytes, ...]:
    """RFC 7301, 3.1: "Empty strings MUST NOT be included and byte strings MUST NOT be truncated"."""
    listed = _whole_vector(content, width=2)
    protocols: list[bytes] = []
    position = 0
    while position < len(listed):
        protocol, position = _vector(listed, position, width=1)
        if not protocol:
            raise ValueError("empty ALPN protocol")
        protocols.append(protocol)
    return tuple(protocols)


def _parse_versions(content: bytes) -> tuple[int, ...]:
    listed = _whole_vector(content, width=1)
    if len(listed) % 2:
        raise ValueError("malformed supported_versions")
    versions = [int.from_bytes(listed[i : i + 2], "big") for i in range(0, len(listed), 2)]
    # RFC 8701: GREASE values 0x0A0A, 0x1A1A, ... mean nothing.
    return tuple(version for version in versions if version & 0x0F0F != 0x0A0A)
