"""A pair that cannot serve must say why, without a word of the key; and parsing happens once a content."""

from pathlib import Path

import pytest

from ingressd.control.translate import certificates
from ingressd.control.translate.certificates import CertificateReader, covers, read_pair
from ingressd.model.secret import PrivateBytes

PEMS = Path(__file__).parents[2] / "golden" / "pems"


def pem(name: str) -> bytes:
    return (PEMS / name).read_bytes()


@pytest.mark.parametrize(
    ("cert", "key", "fault"),
    [
        (b"", pem("a.example.key"), "the certificate does not parse as PEM"),
        (b"nonsense", pem("a.example.key"), "the certificate does not parse as PEM"),
        (pem("a.example.crt")[:200], pem("a.example.key"), "the certificate does not parse as PEM"),
        (pem("a.example.crt"), b"nonsense SECRET", "the private key does not parse as unencrypted PEM"),
        (pem("a.example.crt"), pem("a.example.crt"), "the private key does not parse as unencrypted PEM"),
        (pem("a.example.crt"), pem("b.example.key"), "the private key does not belong to the certificate"),
    ],
)
def test_faults(cert: bytes, key: bytes, fault: str) -> None:
    pair = read_pair(cert, PrivateBytes(key))
    assert pair.fault.startswith(fault)
    assert "SECRET" not in pair.fault


def test_a_chain_is_read_by_its_leaf() -> None:
    pair = read_pair(pem("two.example.crt") + pem("a.example.crt"), PrivateBytes(pem("two.example.key")))
    assert pair.fault == ""
    assert pair.names == ("one.two.example", "two.two.example")


@pytest.mark.parametrize(
    ("names", "host", "good"),
    [
        (("a.example",), "a.example", True),
        (("a.example",), "b.a.example", False),
        (("*.example",), "a.example", True),
        (("*.example",), "b.a.example", False),
        (("*.example",), "example", False),
        (("*.example",), "*.example", True),
        (("a.example",), "*.example", False),
        (("*",), "example", False),
        ((), "a.example", False),
    ],
)
def test_names_cover_hosts_by_one_label(names: tuple[str, ...], host: str, good: bool) -> None:
    assert covers(names, host) is good


def test_a_content_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    def counting(cert: bytes, key: PrivateBytes) -> certificates.Pair:
        parsed.append(cert)
        return read_pair(cert, key)

    monkeypatch.setattr(certificates, "read_pair", counting)
    reader = CertificateReader()
    for _ in range(3):
        reader.read(pem("a.example.crt"), PrivateBytes(pem("a.example.key")))
    assert len(parsed) == 1
    reader.read(pem("a.example.crt"), PrivateBytes(pem("b.example.key")))
    assert len(parsed) == 2
