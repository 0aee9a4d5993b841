"""Wishes for certificates to `Certificate` and `TlsHost` units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import Secret
from ingressd.control.objects.static import StaticTls
from ingressd.control.store.store import StoreView
from ingressd.control.translate.certificates import CertificateReader, Pair, certificate_unit, covers
from ingressd.control.translate.drafts import ObjectDraft, TlsDraft, whole
from ingressd.model.problem import Origin, Problem
from ingressd.model.secret import PrivateBytes, without_keys
from ingressd.model.units import Certificate, TlsHost


class CertificateResult(NamedTuple):
    """`unit` None: nothing usable, and `fault` says why. `accepted`: the current version is good, if there is one."""

    unit: Certificate | None
    fault: str = ""
    problems: tuple[Problem, ...] = ()
    accepted: ObjectKey | None = None

    @property
    def reason(self) -> str:
        """Why there is no `unit`, in one word: its object is not there, or says something wrong."""
        return "CertificateNotUsable" if self.problems else "CertificateNotFound"


def certificate_key(name: str) -> ObjectKey:
    """The object behind a certificate unit's name: a Secret, or for "/NAME" an entry of `tls`."""
    namespace, _, own = name.partition("/")
    return ObjectKey("Secret", namespace, own) if namespace else ObjectKey("StaticTls", "", own)


def read_certificate(view: StoreView, name: str, reader: CertificateReader) -> CertificateResult:
    """The certificate of that name; its last good version while the current one is broken."""
    key = certificate_key(name)
    origin = Origin("Config", "", "tls", key.name) if key.kind == "StaticTls" else Origin(*key)
    current = view.get(key)
    if current is None:
        return CertificateResult(None, f"{key} does not exist")
    pem, pair = _pair(current, reader)
    if not pair.fault:
        unit = certificate_unit(name, pair, origin=origin, cert_pem=pem[0], key_pem=pem[1])
        return CertificateResult(unit, accepted=key)
    problem = Problem("error", origin, "InvalidCertificate", "data" if key.kind == "Secret" else "certFile", pair.fault)
    good = view.last_good(key)
    if good is not None and good is not current:
        pem, last = _pair(good, reader)
        if not last.fault:
            unit = certificate_unit(name, last, origin=origin, cert_pem=pem[0], key_pem=pem[1])
            message = "this version is refused; the last good version of the certificate goes on serving"
            kept = Problem("warning", origin, "LastGoodKept", "", message)
            return CertificateResult(unit, problems=(problem, kept))
    return CertificateResult(None, f"{key} cannot be used: {pair.fault}", (problem,))


def _pair(found: object, reader: CertificateReader) -> tuple[tuple[bytes, PrivateBytes], Pair]:
    if isinstance(found, StaticTls):
        if not found.cert_pem:
            return (b"", found.key_pem), Pair(fault="its files cannot be read")
        return (found.cert_pem, found.key_pem), reader.read(found.cert_pem, found.key_pem)
    empty = PrivateBytes(b"")
    cert, key = b"", empty
    if isinstance(found, Secret):
        cert = found.data.get("tls.crt", empty).reveal()
        key = found.data.get("tls.key", empty)
    missing = [name for name, value in (("tls.crt", cert), ("tls.key", key.reveal())) if not value]
    if missing:
        return (cert, key), Pair(fault=f"there is no {' and no '.join(missing)}")
    cert = without_keys(cert)
    return (cert, key), reader.read(cert, key)


def assemble_tls_host(
    host: str, drafts: Sequence[ObjectDraft], *, certificates: Mapping[str, CertificateResult], default: str | None
) -> tuple[TlsHost, list[Problem]]:
    """The certificate of a host. `drafts` come in order of rank, and the first decides, as in ingress-nginx.

    A host whose certificate is missing, broken or for other names gets the default one (the name `default`, or None for
    the self-signed one).
    """
    problems: list[Problem] = []
    chosen: str | None = None
    first: TlsDraft | None = None
    for draft in drafts:
        wish = draft.tls[host]
        name, faults = _choose(host, wish, certificates)
        problems += faults
        if first is None:
            first, chosen = wish, name
        elif wish.listed and not _same(name, chosen, certificates):
            message = f"the certificate of host {host} is already given by {first.origin}, which comes first"
            problems.append(Problem("warning", whole(wish.origin), "CertificateConflict", wish.field, message))
    return TlsHost(host=host, certificate=default if chosen is None else chosen), problems


def _choose(
    host: str, wish: TlsDraft, certificates: Mapping[str, CertificateResult]
) -> tuple[str | None, list[Problem]]:
    problems: list[Problem] = []
    for name in wish.certificates:
        result = certificates[name]
        if result.unit is not None and covers(result.unit.names, host):
            return name, []
        if not wish.listed:
            continue
        if result.unit is None:
            message = f"{result.fault}: the default certificate is served"
            problems.append(Problem("error", whole(wish.origin), result.reason, wish.field, message))
        else:
            names = ", ".join(result.unit.names) or "no name"
            message = f"the certificate is for {names} and not for host {host}: the default certificate is served"
            problems.append(Problem("error", whole(wish.origin), "CertificateDoesNotCover", wish.field, message))
    return None, problems


def _same(one: str | None, other: str | None, certificates: Mapping[str, CertificateResult]) -> bool:
    """Whether two certificates are one, perhaps copied into several namespaces."""
    if one is None or other is None:
        return one == other
    left, right = certificates[one].unit, certificates[other].unit
    return left is not None and right is not None and left.cert_pem == right.cert_pem


def expired(certificates: Sequence[Certificate], now_s: float) -> list[Problem]:
    """A problem for each certificate that is past its end. Not part of translation, which knows no clock."""
    return [
        Problem(
            "error", unit.origin, "CertificateExpired", "", f"the certificate for {', '.join(unit.names)} has expired"
        )
        for unit in certificates
        if unit.not_after_s < now_s
    ]
