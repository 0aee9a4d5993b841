"""`ssl.SSLContext`s from values: what both directions set alike, and the way a key gets in."""

from __future__ import annotations

import os
import ssl
from typing import Final

from ingressd.model.secret import PrivateBytes
from ingressd.model.units import TlsPolicy
from ingressd.proxy.tls.libssl import LibSsl

ALPN: Final = ("http/1.1",)

DEFAULT_CIPHERS: Final = ":".join(
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "DHE-RSA-AES128-GCM-SHA256",
        "DHE-RSA-AES256-GCM-SHA384",
    )
)
"""`ssl-ciphers` of ingress-nginx 1.15. The suites of TLS 1.3 are OpenSSL's; `ssl` cannot choose among them."""

CACHED_SESSIONS: Final = 4096
"""Sessions of TLS 1.2 clients without tickets, in each worker."""

_VERSIONS: Final = {
    "TLSv1": (ssl.TLSVersion.TLSv1, ssl.OP_NO_TLSv1),
    "TLSv1.1": (ssl.TLSVersion.TLSv1_1, ssl.OP_NO_TLSv1_1),
    "TLSv1.2": (ssl.TLSVersion.TLSv1_2, ssl.OP_NO_TLSv1_2),
    "TLSv1.3": (ssl.TLSVersion.TLSv1_3, ssl.OP_NO_TLSv1_3),
}
_IGNORED_VERSIONS: Final = frozenset({"SSLv2", "SSLv3"})
"""nginx takes these words; no OpenSSL that we run on can speak them."""


def server_context(policy: TlsPolicy, *, libssl: LibSsl | None, alpn: tuple[str, ...] = ALPN) -> ssl.SSLContext:
    """A context for accepted connections, without a certificate. Raises ValueError for a policy that cannot be."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    set_versions(context, policy.protocols)
    set_ciphers(context, policy.ciphers or DEFAULT_CIPHERS, protocols=policy.protocols)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if alpn:
        context.set_alpn_protocols(list(alpn))
    resumable = policy.session_tickets or policy.session_cache
    if not resumable:
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    if libssl is not None:
        libssl.judge_hellos(context)
        libssl.set_session_timeout(context, policy.session_timeout_s)
        libssl.set_session_cache(context, CACHED_SESSIONS if resumable else 0)
    return context


def webhook_context(cert_pem: bytes, key_pem: PrivateBytes) -> ssl.SSLContext:
    """A context for the admission webhook: TLS 1.2 and up, whatever the settings allow clients of routes. Raises
    ValueError for a pair that cannot be used."""
    context = server_context(TlsPolicy(), libssl=None)
    load_pair(context, cert_pem, key_pem)
    return context


def set_versions(context: ssl.SSLContext, protocols: tuple[str, ...]) -> None:
    """Allow exactly these versions, in nginx's words ("TLSv1.2"). Raises ValueError."""
    unknown = [word for word in protocols if word not in _VERSIONS and word not in _IGNORED_VERSIONS]
    if unknown:
        raise ValueError(f"unknown TLS version {unknown[0]!r}")
    chosen = [version for word, (version, _) in _VERSIONS.items() if word in protocols]
    if not chosen:
        raise ValueError("no TLS version is left")
    context.minimum_version, context.maximum_version = chosen[0], chosen[-1]
    for word, (version, without) in _VERSIONS.items():
        if chosen[0] < version < chosen[-1] and word not in protocols:
            context.options |= without


def set_ciphers(context: ssl.SSLContext, ciphers: str, *, protocols: tuple[str, ...]) -> None:
    """Set the cipher list of TLS 1.2 and below. Raises ValueError for a list that selects none."""
    if "TLSv1" in protocols or "TLSv1.1" in protocols:
        # OpenSSL 3 allows the digests of TLS 1.0 and 1.1 at security level 0 only.
        ciphers += ":@SECLEVEL=0"
    try:
        context.set_ciphers(ciphers)
    except ssl.SSLError as error:
        raise ValueError(f"no usable cipher in {ciphers!r}") from error


def load_pair(context: ssl.SSLContext, cert_pem: bytes, key_pem: PrivateBytes) -> None:
    """Load a chain and its key through a memfd, so that the key is never a file on a disk. Raises ValueError."""
    descriptor = os.memfd_create("pair", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(cert_pem.rstrip() + b"\n" + key_pem.reveal())
        # A password of no bytes: OpenSSL must fail on an encrypted key, not ask a terminal.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=b"")
    except (ssl.SSLError, OSError) as error:
        raise ValueError(_reason(error)) from error
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    """What to tell the owner of a pair, without the path of a memfd."""
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return "the key does not belong to the certificate"
    if reason:
        return f"cannot be loaded: {reason.replace('_', ' ').lower()}"
    return "cannot be loaded: not a certificate chain and its key in PEM form"
