"""The certificate of last resort. Made once per start by the controller, since workers do not import cryptography."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ingressd.model.problem import Origin
from ingressd.model.secret import PrivateBytes
from ingressd.model.units import Certificate
from ingressd.proxy.tls.store import SELF_SIGNED


def make_self_signed(now_s: float) -> Certificate:
    """A new pair under ingress-nginx's names, good for a year from `now_s`, seconds since 1970.

    Publish it under `key_of(certificate)`; `TlsStore` gives it to every name that no other certificate covers.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Acme Co"),
            x509.NameAttribute(NameOID.COMMON_NAME, "Kubernetes Ingress Controller Fake Certificate"),
        ]
    )
    now = datetime.fromtimestamp(now_s, UTC)
    until = now + timedelta(days=365)
    serial = x509.random_serial_number()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("ingress.local")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Certificate(
        name=SELF_SIGNED,
        origin=Origin("Config", "", "tls"),
        cert_pem=certificate.public_bytes(Encoding.PEM),
        key_pem=PrivateBytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())),
        names=("ingress.local",),
        not_after_s=until.timestamp(),
        serial=f"{serial:x}",
        issuer=name.rfc4514_string(),
    )
