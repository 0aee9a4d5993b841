"""`clientCertificate` of an entry of `tls`, and the values that it shares with ingress-nginx's `auth-tls-*`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, cast

import re2

from ingressd.settings.config import ClientCertificateConfig, ClientVerification
from ingressd.settings.section import Section

MAX_DEPTH: Final = 100
VERIFICATIONS: Final = ("on", "off", "optional", "optional_no_ca")
_URL: Final = re.compile(r"https?://[!#%&'()*+,./0-9:;=?@A-Z_a-z~\[\]-]+\Z")


def client_certificate(entry: Section) -> ClientCertificateConfig:
    """The section of an entry of `tls`, which then needs hosts: who is to be asked must not depend on a file."""
    section = entry.section("clientCertificate")
    section.known("verify", "caFile", "crlFile", "verifyDepth", "errorPage", "passCertificate", "matchCn")
    if not entry.strings("hosts"):
        entry.wrong((), "clientCertificate needs 'hosts'")
    clients = ClientCertificateConfig(
        ca_file=section.file_path("caFile", required=True),
        crl_file=section.file_path("crlFile"),
        verify=_verification(section),
        depth=section.integer("verifyDepth", 1, least=1, most=MAX_DEPTH),
        error_page=_checked(section, "errorPage", error_page),
        pass_certificate=section.boolean("passCertificate", False),
        match_cn=_checked(section, "matchCn", subject_expression),
    )
    entry.ok = entry.ok and section.ok
    return clients


def _verification(section: Section) -> ClientVerification:
    """YAML 1.1 reads `on` and `off` without quotes as truth values."""
    value = section.get("verify")
    if isinstance(value, bool):
        return "on" if value else "off"
    return cast(ClientVerification, section.choice("verify", VERIFICATIONS, default="on"))


def subject_expression(text: str) -> str:
    """An RE2 expression to find in a certificate's subject. Raises ValueError."""
    if "CN=" not in text:
        raise ValueError(f"expected an expression with CN=, got {text!r}")
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(text, options)
    except re2.error as error:
        said = error.args[0] if error.args else b""
        reason = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        raise ValueError(f"{text!r} is no expression that RE2 knows: {reason}") from None
    return text


def error_page(text: str) -> str:
    """A URL to redirect to. Raises ValueError."""
    if _URL.match(text) is None:
        raise ValueError(f"expected an http or https URL, got {text!r}")
    return text


def _checked(section: Section, key: str, check: Callable[[str], str]) -> str:
    text = section.text(key)
    if text:
        try:
            check(text)
        except ValueError as error:
            section.wrong((key,), str(error))
    return text
