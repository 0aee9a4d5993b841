"""Make the certificates that goldens name. Run once; the files are committed, so that goldens stay the same.

Run: python tests/golden/make_pems.py
"""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEMS = Path(__file__).parent / "pems"
WANTED = {
    "a.example": (["a.example"], 2120),
    "b.example": (["b.example"], 2120),
    "wild.example": (["*.wild.example"], 2120),
    "two.example": (["one.two.example", "two.two.example"], 2120),
    "default": (["*"], 2120),
    "expired.example": (["expired.example"], 2021),
    "common-name": ([], 2120),
}


def main() -> None:
    """Write the pairs that are not there yet."""
    for name, (hosts, year) in WANTED.items():
        if (PEMS / f"{name}.crt").exists():
            continue
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0] if hosts else "cn.example")])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(int.from_bytes(name.encode()[:8], "big"))
            .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(year, 1, 1, tzinfo=UTC))
        )
        if hosts:
            names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(key, hashes.SHA256())
        (PEMS / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (PEMS / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


if __name__ == "__main__":
    main()
