"""Certificates that no library would write: DER by hand."""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stage.certificates import Pair

KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC_KEY = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
COMMON_NAME = b"\x06\x03\x55\x04\x03"
SIGNED_WITH = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"
"""ECDSA with SHA-256."""


def value(tag: int, *parts: bytes) -> bytes:
    """One value, of these."""
    body = b"".join(parts)
    if len(body) < 128:
        return bytes((tag, len(body))) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size))) + size + body


def sequence(*parts: bytes) -> bytes:
    return value(0x30, *parts)


def attribute(text: bytes, oid: bytes = COMMON_NAME, tag: int = 0x0C) -> bytes:
    """One entry of a name, alone in its set."""
    return value(0x31, sequence(oid, value(tag, text)))


def extension(oid: bytes, content: bytes) -> bytes:
    """`oid` is without its tag and length."""
    return sequence(value(0x06, oid), value(0x04, content))


def certificate(
    subject: bytes = attribute(b"crafted"),
    issuer: bytes = attribute(b"nobody"),
    extensions: bytes = b"",
    *,
    public_key: bytes = PUBLIC_KEY,
    signature: bytes = b"",
) -> bytes:
    """DER. Names and extensions are given without the sequence that they are in; it is signed by its own key."""
    signed = sequence(
        b"\xa0\x03\x02\x01\x02\x02\x01\x05",
        SIGNED_WITH,
        sequence(issuer),
        sequence(value(0x17, b"200101000000Z"), value(0x17, b"491231000000Z")),
        sequence(subject),
        public_key,
        value(0xA3, sequence(extensions)) if extensions else b"",
    )
    signature = signature or KEY.sign(signed, ec.ECDSA(hashes.SHA256()))
    return sequence(signed, SIGNED_WITH, value(0x03, b"\x00", signature))


def pair(*chain: bytes) -> Pair:
    """For a client that shows these; the first is for `KEY`."""
    pem = b"".join(
        b"-----BEGIN CERTIFICATE-----\n%b-----END CERTIFICATE-----\n" % base64.encodebytes(der) for der in chain
    )
    key = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Pair(pem, key)
