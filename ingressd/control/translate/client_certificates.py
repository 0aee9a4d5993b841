"""What objects ask of the clients of their hosts to `ClientAuthority` and `ClientCertificates` units.

Nothing here falls back: an authority that is missing or broken closes the hosts that name it, whatever it was before.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec
from cryptography import x509

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import Secret
from ingressd.control.objects.static import StaticTls
from ingressd.control.store.store import StoreView
from ingressd.control.translate.annotations.client_certificates import ClientsDraft
from ingressd.control.translate.annotations.known import PREFIX
from ingressd.control.translate.book import Dirty, DraftBook
from ingressd.control.translate.drafts import ObjectDraft
from ingressd.control.translate.ledger import ProblemLedger
from ingressd.control.translate.tls_hosts import certificate_key
from ingressd.control.translate.translation import Snapshot
from ingressd.model.problem import Origin, Problem
from ingressd.model.secret import PrivateBytes, without_keys
from ingressd.model.units import ClientAuthority, ClientCertificates

NO_AUTHORITY: Final = 403
"""What a host whose authority is missing or broken answers, as in ingress-nginx."""
UNREADABLE: Final = 503
"""What a host answers whose policy cannot be read."""

_CRL: Final = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


class _Authority(NamedTuple):
    """`unit` None: nothing usable, and `fault` says why; `there`: whether the object exists."""

    unit: ClientAuthority | None
    fault: str = ""
    there: bool = True


class ClientUnits:
    """Authorities by name, as long as somebody names them, and the policies of hosts."""

    def __init__(self, snapshot: Snapshot, ledger: ProblemLedger) -> None:
        self._snapshot = snapshot
        self._ledger = ledger
        self._authorities: dict[str, _Authority] = {}

    def refresh(self, view: StoreView, book: DraftBook, *, dirty: Dirty) -> None:
        """Read the authorities among the dirty certificates again, and make the policies of dirty hosts."""
        for name in dirty.certificates:
            users = book.by_authority.get(name)
            before = self._authorities.pop(name, None)
            found: _Authority | None = None
            if users:
                found = self._authorities[name] = read_authority(view, name)
            if found == before:
                continue
            self._snapshot.put(f"authority/{name}", found and found.unit)
            for key in users:
                dirty.clients.update(book.drafts[key].asking_hosts)
        for host in dirty.clients:
            drafts = book.ranked(book.by_asking_host.get(host))
            unit, problems = self._assemble(host, drafts)
            self._snapshot.put(f"clients/{host}", unit)
            self._ledger.say(("clients", host), tuple(problems))

    def _assemble(self, host: str, drafts: list[ObjectDraft]) -> tuple[ClientCertificates | None, list[Problem]]:
        """The first draft decides, as in ingress-nginx: a handshake can ask for one thing only."""
        if not drafts:
            return None, []
        first, *others = drafts
        wish = first.clients or ClientsDraft()
        unit = ClientCertificates(
            host=host,
            origin=_origin(first),
            verify=wish.verify,
            authority="" if wish.verify == "off" else wish.authority,
            depth=wish.depth,
            error_page=wish.error_page,
            pass_certificate=wish.pass_certificate,
            match_cn=wish.match_cn,
            covers=wish.covers,
        )
        problems: list[Problem] = []
        if wish.fault:
            unit = msgspec.structs.replace(unit, closed=UNREADABLE, fault=wish.fault)
            if wish.covers:  # An annotation that cannot be read has been reported as such.
                message = f"{wish.fault}: host {host} answers {UNREADABLE} to everybody"
                problems.append(Problem("error", unit.origin, "FileUnreadable", _field(wish), message))
        elif unit.authority:
            authority = self._authorities[unit.authority]
            if authority.unit is None:
                unit = msgspec.structs.replace(unit, closed=NO_AUTHORITY, fault=authority.fault)
                reason = "InvalidClientAuthority" if authority.there else "ClientAuthorityNotFound"
                message = f"{authority.fault}: host {host or '(any)'} answers {NO_AUTHORITY} to everybody"
                problems.append(Problem("error", unit.origin, reason, _field(wish), message))
        for other in others:
            if other.clients is not None and not self._same(other.clients, wish):
                message = (
                    f"host {host or '(any)'} has the client-certificate policy of {unit.origin}, which comes first"
                )
                where = _field(other.clients)
                problems.append(Problem("warning", _origin(other), "ClientCertificatesConflict", where, message))
        return unit, problems

    def _same(self, one: ClientsDraft, other: ClientsDraft) -> bool:
        """Whether two objects ask for the same, perhaps by copies of one Secret."""
        left, right = self._authorities.get(one.authority), self._authorities.get(other.authority)
        bare_one, bare_other = (msgspec.structs.replace(draft, authority="", field="") for draft in (one, other))
        if bare_one != bare_other:
            return False
        if one.authority == other.authority:
            return True
        if left is None or right is None or left.unit is None or right.unit is None:
            return False
        return (left.unit.ca_pem, left.unit.crl_pem) == (right.unit.ca_pem, right.unit.crl_pem)


def read_authority(view: StoreView, name: str) -> _Authority:
    """The authority in a Secret (`ca.crt`, `ca.crl`) or beside a certificate of the configuration file."""
    key = certificate_key(name)
    found = view.get(key)
    if found is None:
        return _Authority(None, f"{key} does not exist", there=False)
    ca, crl = _pems(found)
    fault = authority_fault(ca, crl)
    if fault:
        return _Authority(None, f"{key} cannot be used: {fault}")
    return _Authority(ClientAuthority(name, ca, crl))


def authority_fault(ca_pem: bytes, crl_pem: bytes) -> str:
    """What is wrong with the certificates or revocation lists of an authority, "" if nothing is."""
    if not ca_pem:
        return "there is no ca.crt"
    try:
        x509.load_pem_x509_certificates(ca_pem)
    except ValueError:
        return "ca.crt does not parse as PEM certificates"
    if not crl_pem:
        return ""
    lists = _CRL.findall(crl_pem)
    try:
        for one in lists:
            x509.load_pem_x509_crl(one)
    except ValueError:
        lists = []
    return "" if lists else "ca.crl does not parse as PEM revocation lists"


def _pems(found: object) -> tuple[bytes, bytes]:
    if isinstance(found, StaticTls) and found.clients is not None:
        return found.clients.ca_pem, found.clients.crl_pem
    if isinstance(found, Secret):
        empty = PrivateBytes(b"")
        return tuple(without_keys(found.data.get(name, empty).reveal()) for name in ("ca.crt", "ca.crl"))  # type: ignore[return-value]
    return b"", b""


def _origin(draft: ObjectDraft) -> Origin:
    key: ObjectKey = draft.key
    return Origin("Config", "", "tls", key.name) if key.kind == "StaticTls" else Origin(*key)


def _field(draft: ClientsDraft) -> str:
    return draft.field if draft.covers else PREFIX + draft.field
