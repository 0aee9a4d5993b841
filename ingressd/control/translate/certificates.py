"""PEM to `Certificate` units: parsed, the pair checked, the names read. What they cover."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from ingressd.model.problem import Origin
from ingressd.model.secret import PrivateBytes
from ingressd.model.units import Certificate


class Pair(NamedTuple):
    """What a certificate and its key say, or the fault for which they cannot be used."""

    names: tuple[str, ...] = ()
    not_after_s: float = 0.0
    serial: str = ""
    issuer: str = ""
    fault: str = ""


class CertificateReader:
    """Reads pairs, remembering each by its content: parsing costs a millisecond, and Secrets change rarely.

    Keyed by a hash of both files; what is not asked for between two calls of `forget` goes.
    """

    def __init__(self) -> None:
        self._pairs: dict[bytes, Pair] = {}

    def read(self, cert_pem: bytes, key_pem: PrivateBytes) -> Pair:
        """The pair's content. Never raises for bad input: `Pair.fault` says what is wrong."""
        digest = hashlib.sha256(b"%d:" % len(cert_pem) + cert_pem + key_pem.reveal()).digest()
        pair = self._pairs.get(digest)
        if pair is None:
            pair = self._pairs[digest] = read_pair(cert_pem, key_pem)
        return pair

    def forget(self, *, above: int) -> None:
        """Drop everything when more than `above` pairs are held, which bounds what rotation leaves behind."""
        if len(self._pairs) > above:
            self._pairs.clear()


def read_pair(cert_pem: bytes, key_pem: PrivateBytes) -> Pair:
    """Parse a PEM chain (the leaf first) and its private key."""
    try:
        chain = x509.load_pem_x509_certificates(cert_pem)
    except ValueError as error:
        return Pair(fault=f"the certificate does not parse as PEM ({_short(error)})")
    leaf = chain[0]
    try:
        key = load_pem_private_key(key_pem.reveal(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The parser's words may quote the key.
        return Pair(fault="the private key does not parse as unencrypted PEM")
    public = PublicFormat.SubjectPublicKeyInfo
    try:
        belongs = key.public_key().public_bytes(Encoding.DER, public) == leaf.public_key().public_bytes(
            Encoding.DER, public
        )
    except (ValueError, UnsupportedAlgorithm) as error:
        return Pair(fault=f"the certificate's key is not supported ({_short(error)})")
    if not belongs:
        return Pair(fault="the private key does not belong to the certificate")
    return Pair(
        _names(leaf), leaf.not_valid_after_utc.timestamp(), f"{leaf.serial_number:x}", leaf.issuer.rfc4514_string()
    )


def certificate_unit(name: str, pair: Pair, *, origin: Origin, cert_pem: bytes, key_pem: PrivateBytes) -> Certificate:
    """The unit of a pair without fault."""
    return Certificate(
        name=name,
        origin=origin,
        cert_pem=cert_pem,
        key_pem=key_pem,
        names=pair.names,
        not_after_s=pair.not_after_s,
        serial=pair.serial,
        issuer=pair.issuer,
    )


def covers(names: tuple[str, ...], host: str) -> bool:
    """Whether a certificate with these names is good for a host or a one-label wildcard (RFC 6125, section 6.4)."""
    if host in names:
        return True
    _, dot, parent = host.partition(".")
    return bool(dot) and not host.startswith("*.") and f"*.{parent}" in names


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    """The DNS names and addresses of the certificate; its common name only if it has no DNS names."""
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        alternative = None
    names: list[str] = []
    if alternative is not None:
        names += [name.lower() for name in alternative.get_values_for_type(x509.DNSName)]
        names += [str(address) for address in alternative.get_values_for_type(x509.IPAddress)]
    if not names:
        names = [str(attribute.value).lower() for attribute in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return tuple(dict.fromkeys(names))


def _short(error: Exception) -> str:
    return str(error).split("\n", maxsplit=1)[0][:120]
