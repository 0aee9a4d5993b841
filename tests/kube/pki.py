"""The cluster's authority, what it issues, and the key that signs service-account tokens."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from stage.certificates import Pair

_DAY = datetime.timedelta(days=1)


def new_key() -> bytes:
    """A private key, PEM."""
    return key_pem(ec.generate_private_key(ec.SECP256R1()))


def public_of(key: bytes) -> bytes:
    """The public half of a private key, both PEM."""
    public = serialization.load_pem_private_key(key, None).public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, plain)


@dataclass(frozen=True)
class Authority:
    """A certificate authority."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, name: str) -> Authority:
        """A self-signed one."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_subject(name), _subject(name), key)
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, name: str, *, organization: str = "", dns: tuple[str, ...] = (), addresses: tuple[str, ...] = ()
    ) -> Pair:
        """A certificate for a server or a client. `name` is a client's user, `organization` its group."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_subject(name, organization), self.certificate.subject, key)
        alternative: list[x509.GeneralName] = [x509.DNSName(host) for host in dns]
        alternative += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        if alternative:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        return Pair(certificate.public_bytes(serialization.Encoding.PEM), key_pem(key))


def _subject(name: str, organization: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if organization:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + 30 * _DAY)
    )


def kubeconfig(server: str, authority_pem: bytes, *, client: Pair | None = None, token: str = "") -> str:
    """A kubeconfig with everything inside it: JSON, which is YAML."""
    user: dict[str, str] = {"token": token} if token else {}
    if client is not None:
        user = {"client-certificate-data": _base64(client.cert), "client-key-data": _base64(client.key)}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "test", "cluster": {"server": server, "certificate-authority-data": _base64(authority_pem)}}
            ],
            "users": [{"name": "user", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
            "current-context": "test",
        },
        indent=1,
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
