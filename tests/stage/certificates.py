"""Throw-away certificates: self-signed and issued by an authority of the test run."""

from __future__ import annotations

import datetime
import functools
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both PEM."""

    cert: bytes
    key: bytes


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _builder(common_name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + 30 * _DAY)
    )


def _alternative(names: tuple[str, ...]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_alternative_name(name) for name in names])


def _alternative_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@functools.cache
def authority(common_name: str = "test authority") -> Pair:
    """A certificate authority, made once for each name."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(common_name, _name(common_name), key)
    certificate = builder.add_extension(x509.BasicConstraints(True, None), critical=True).sign(key, hashes.SHA256())
    return _pem(certificate, key)


@functools.cache
def selfsigned(*names: str) -> Pair:
    """A self-signed certificate for these DNS names; the first is its common name."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _builder(names[0], _name(names[0]), key).add_extension(_alternative(names), critical=False)
    return _pem(certificate.sign(key, hashes.SHA256()), key)


@functools.cache
def issued(*names: str, by: str = "test authority") -> Pair:
    """A certificate for these DNS names and addresses from `authority(by)`."""
    issuer = authority(by)
    issuer_key = serialization.load_pem_private_key(issuer.key, None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(names[0], x509.load_pem_x509_certificate(issuer.cert).subject, key)
    return _pem(builder.add_extension(_alternative(names), critical=False).sign(issuer_key, hashes.SHA256()), key)


def revoked(pair: Pair, *, by: str = "test authority") -> bytes:
    """A list of `authority(by)` with this certificate, PEM."""
    issuer = authority(by)
    issuer_key = serialization.load_pem_private_key(issuer.key, None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    now = datetime.datetime.now(datetime.UTC)
    serial = x509.load_pem_x509_certificate(pair.cert).serial_number
    return (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.load_pem_x509_certificate(issuer.cert).subject)
        .last_update(now - _DAY)
        .next_update(now + 30 * _DAY)
        .add_revoked_certificate(x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build())
        .sign(issuer_key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def names_of(der: bytes | None) -> tuple[str, list[str]]:
    """The common name and the DNS names of a DER certificate; ("", []) without one."""
    if not der:
        return "", []
    certificate = x509.load_der_x509_certificate(der)
    common = [str(a.value) for a in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return (common or [""])[0], []
    return (common or [""])[0], alternative.get_values_for_type(x509.DNSName)


def covers(names: list[str], host: str) -> bool:
    """Does one of these DNS names cover `host` (exactly, or with a wildcard for the left-most label)?"""
    _, _, parent = host.lower().partition(".")
    return any(name.lower() in (host.lower(), "*." + parent) for name in names)
