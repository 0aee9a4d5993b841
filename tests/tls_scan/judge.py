"""What in a report of sslscan or testssl.sh is a finding."""

from __future__ import annotations

import json
from typing import Final
from xml.etree import ElementTree

GRAVE: Final = ("MEDIUM", "HIGH", "CRITICAL")

OF_THE_CERTIFICATE: Final = frozenset({"cert_chain_of_trust", "cert_trust", "cert_revocation", "cert_caIssuers"})
"""Findings of testssl.sh that only say that the scanned certificate is made for the scan: its authority is unknown and
publishes nothing."""

PROTOCOLS: Final = ("1.2", "1.3")
WEAK: Final = ("RC4", "DES", "NULL", "EXP", "ADH", "AECDH", "MD5", "CBC")
CIPHER_BITS, GROUP_BITS, RSA_BITS = 128, 112, 2048


def of_testssl(report: str) -> list[str]:
    """The findings of medium severity and above in `--jsonfile`."""
    found = []
    for one in json.loads(report):
        name = one["id"].partition(" ")[0]
        if one["severity"] in GRAVE and name not in OF_THE_CERTIFICATE:
            found.append(f"{one['severity']} {one['id']}: {one['finding']}")
    return found


def unchecked_by_testssl(report: str) -> list[str]:
    """What testssl.sh could not find out, and says so."""
    return [f"{one['id']}: {one['finding']}" for one in json.loads(report) if one["severity"] in ("WARN", "FATAL")]


def of_sslscan(report: str) -> list[str]:
    """What is weak in `--xml`; sslscan itself gives no severities."""
    # The report of a program that we have just run ourselves.
    test = ElementTree.fromstring(report).find("ssltest")
    if test is None:
        return ["there is no result"]
    found = []
    for protocol in test.iter("protocol"):
        if protocol.get("enabled") == "1" and protocol.get("version") not in PROTOCOLS:
            found.append(f"protocol {protocol.get('type')} {protocol.get('version')} is enabled")
    for cipher in test.iter("cipher"):
        name = cipher.get("cipher", "")
        poor = cipher.get("strength") not in ("strong", "acceptable")
        if poor or int(cipher.get("bits", "0")) < CIPHER_BITS or any(word in name for word in WEAK):
            found.append(f"cipher {name} is {cipher.get('strength')}")
    for group in test.iter("group"):
        if int(group.get("bits", "0")) < GROUP_BITS:
            found.append(f"group {group.get('name')} has {group.get('bits')} bits")
    for flaw in test.iter("heartbleed"):
        if flaw.get("vulnerable") != "0":
            found.append(f"heartbleed over {flaw.get('sslversion')}")
    for one in test.iter("compression"):
        if one.get("supported") == "1":
            found.append("compression is on")
    for one in test.iter("renegotiation"):
        if one.get("supported") == "1" and one.get("secure") != "1":
            found.append("insecure renegotiation")
    for one in test.iter("fallback"):
        if one.get("supported") == "0":
            found.append("no TLS Fallback SCSV")
    for algorithm in test.iter("signature-algorithm"):
        if any(word in (algorithm.text or "").lower() for word in ("md5", "sha1")):
            found.append(f"certificate signed with {algorithm.text}")
    for key in test.iter("pk"):
        if key.get("type") == "RSA" and int(key.get("bits", "0")) < RSA_BITS:
            found.append(f"RSA key of {key.get('bits')} bits")
    if not list(test.iter("cipher")):
        found.append("no cipher was accepted")
    return found
