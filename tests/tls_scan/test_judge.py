"""The judge of scanners' reports says no to what is weak."""

from __future__ import annotations

import json

import pytest

from tls_scan.judge import of_sslscan, of_testssl

GOOD = '<cipher bits="128" cipher="ECDHE-ECDSA-AES128-GCM-SHA256" strength="strong" /><fallback supported="1" />'


def document(inside: str) -> str:
    return f"<document><ssltest>{GOOD}{inside}</ssltest></document>"


def test_a_good_report_has_no_finding() -> None:
    assert of_sslscan(document('<protocol type="tls" version="1.3" enabled="1" /><heartbleed vulnerable="0" />')) == []


@pytest.mark.parametrize(
    "weak",
    [
        '<protocol type="tls" version="1.1" enabled="1" />',
        '<cipher bits="56" cipher="X" strength="strong" />',
        '<cipher bits="128" cipher="ECDHE-RSA-AES128-CBC" strength="acceptable" />',
        '<cipher bits="128" cipher="X" strength="weak" />',
        '<group bits="80" name="secp160k1" />',
        '<heartbleed sslversion="TLSv1.2" vulnerable="1" />',
        '<compression supported="1" />',
        '<renegotiation supported="1" secure="0" />',
        '<fallback supported="0" />',
        "<signature-algorithm>sha1WithRSAEncryption</signature-algorithm>",
        '<pk type="RSA" bits="1024" />',
    ],
)
def test_each_weakness_of_sslscan_is_one(weak: str) -> None:
    assert len(of_sslscan(document(weak))) == 1


def test_an_empty_report_is_a_finding() -> None:
    assert of_sslscan("<document></document>")
    assert of_sslscan("<document><ssltest /></document>")


@pytest.mark.parametrize(
    ("name", "severity", "counts"),
    [
        ("BEAST", "MEDIUM", True),
        ("ROBOT", "CRITICAL", True),
        ("cert_expirationStatus <cert#1>", "HIGH", True),
        ("LUCKY13", "LOW", False),
        ("cert_chain_of_trust <cert#1>", "CRITICAL", False),
        ("cert_revocation", "HIGH", False),
    ],
)
def test_testssl_counts_from_medium_but_for_the_certificates_trust(name: str, severity: str, counts: bool) -> None:
    report = json.dumps([{"id": name, "severity": severity, "finding": "x"}])
    assert bool(of_testssl(report)) == counts
