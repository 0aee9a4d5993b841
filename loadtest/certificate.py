"""Self-signed certificates, ECDSA P-256; the one that everybody shows is for `localhost`."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def self_signed(host: str) -> tuple[bytes, bytes]:
    """Certificate and key, PEM, valid for 30 days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Write cert.pem and key.pem for `localhost` into a folder; cert.pem.key, a link, is where HAProxy looks for it."""
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    for file, content in zip((cert_file, key_file), self_signed("localhost"), strict=True):
        file.write_bytes(content)
    (folder / "cert.pem.key").symlink_to(key_file)
    return cert_file, key_file
