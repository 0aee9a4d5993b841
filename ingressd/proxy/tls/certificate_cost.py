"""What certificates of a client hold while its connection lives, estimated from their DER before they are verified.

A session keeps them parsed, and everybody may show some. Each name, entry and string becomes blocks of the heap of 32
bytes and up, 58 for a byte of DER at worst, and verification adds what some extensions say, parsed as well
(`ossl_x509v3_cache_extensions` in OpenSSL's crypto/x509/v3_purp.c). The prices below are upper bounds of what the heap
was measured to grow by (OpenSSL 3.0, glibc), for usual certificates one and a half times as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MOST_BYTES: Final = 57344
"""What all that a client shows may hold. What else a connection holds is at most 190 KiB, and both at most 256; a
session that is resumed holds its ticket besides, which is 4 KiB where a certificate alone comes near the limit."""

_CERTIFICATE: Final = 2048
"""With nothing in it: its frame, its key as OpenSSL reads it, two names."""

_STRING: Final = 5
"""For each byte of a string in a name: itself, the name's encoding with room to grow, and one to compare by, of twice
the bytes where they were Latin-1."""
_KEY: Final = 5
"""For each byte of a key, or of a number: itself, a number, and three more to calculate with."""

# Outside of extensions, and in those that are kept.
_VALUE: Final = (70, 125)
_SEQUENCE: Final = (60, 70)
_SET: Final = 8
_OCTETS: Final = (40, 120)
_OID: Final = 90
_TAGGED: Final = 120
_DIRECTORY_NAME: Final = 260
"""[4] of a GeneralName, which has a whole name in it."""

_STATIC: Final = frozenset(
    (
        *(bytes((0x55, 0x04, number)) for number in (3, 4, 5, 6, 7, 8, 9, 10, 11, 12)),
        *(bytes((0x55, 0x1D, number)) for number in (14, 15, 17, 18, 19, 30, 31, 32, 35, 36, 37)),
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01",  # rsaEncryption
        *(b"\x2a\x86\x48\x86\xf7\x0d\x01\x01" + bytes((number,)) for number in (11, 12, 13)),  # with SHA-2
        *(b"\x2a\x86\x48\xce\x3d\x04\x03" + bytes((number,)) for number in (2, 3, 4)),  # ECDSA with SHA-2
        b"\x2a\x86\x48\xce\x3d\x02\x01",  # id-ecPublicKey
        b"\x2a\x86\x48\xce\x3d\x03\x01\x07",  # P-256
        b"\x2b\x06\x01\x05\x05\x07\x01\x01",  # authority information access
    )
)
"""What every build of OpenSSL knows, and has no copy of."""

_KEPT: Final = frozenset(
    (
        *(bytes((0x55, 0x1D, number)) for number in (14, 17, 30, 31, 35)),
        *(b"\x2b\x06\x01\x05\x05\x07\x01" + bytes((number,)) for number in (7, 8)),
    )
)
"""Extensions that are kept parsed: key identifiers, names, name constraints, distribution points of revocation lists,
and the addresses and autonomous systems of RFC 3779. Others are bytes."""

_OUTSIDE: Final = 0
_INSIDE: Final = 1
_POINTS: Final = 2
_DISTRIBUTION_POINTS: Final = b"\x55\x1d\x1f"
_RELATIVE_NAME: Final = 0xA1
"""nameRelativeToCRLIssuer. For each OpenSSL can copy the issuer's whole name, which makes megabytes of 4 KiB; RFC 5280
(4.2.1.13) advises against it and nobody is known to use it."""


def certificates_cost(shown: Sequence[bytes], most: int = MOST_BYTES) -> int:
    """Bytes of memory for the certificates of a client, its own first, of which we keep a copy. A number above `most`
    as soon as that is clear, and for what is not DER."""
    cost = len(shown[0]) if shown else 0
    for der in shown:
        if cost <= most:
            cost += _cost(der, most - cost)
    return cost


def _cost(der: bytes, most: int) -> int:
    over, whole = most + 1, len(der)
    cost = _CERTIFICATE + whole
    # Where the children of a value lie, and of what they are.
    spans = [(0, whole, _OUTSIDE)]
    while spans:
        at, end, kind = spans.pop()
        inside = kind != _OUTSIDE
        oid = b""
        while at < end:
            if cost > most or end - at < 2:
                return over
            tag, size = der[at], der[at + 1]
            at += 2
            if size >= 0x80:
                # The indefinite length (0x80) is BER's, and no length of ours needs more than two bytes.
                stop = at + size - 0x80
                if not at < stop <= min(end, at + 2):
                    return over
                size = int.from_bytes(der[at:stop], "big")
                at = stop
            start = at
            at += size
            if at > end or tag & 0x1F == 0x1F:
                return over
            if tag & 0x20:
                if tag == 0x30:
                    cost += _SEQUENCE[inside]
                elif tag >= 0x40:
                    if kind == _POINTS and tag == _RELATIVE_NAME:
                        return over
                    cost += _DIRECTORY_NAME if tag == 0xA4 else _TAGGED
                elif tag == 0x31:
                    cost += _SET
                else:
                    return over  # Strings in pieces are BER's.
                spans.append((start, at, kind))
            elif tag == 0x06:
                oid = der[start:at]
                cost += 0 if oid in _STATIC else _OID + size
            elif tag == 0x04:
                cost += _OCTETS[inside] + size
                if oid in _KEPT:
                    spans.append((start, at, _POINTS if oid == _DISTRIBUTION_POINTS else _INSIDE))
            elif tag == 0x02 or tag == 0x03:
                # What ends the certificate is its signature.
                cost += _VALUE[inside] + (size if at == whole else _KEY * size)
            else:
                cost += _VALUE[inside] + (_STRING if 0x0C <= tag < 0x40 else 1) * size
    return cost
