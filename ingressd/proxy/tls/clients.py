"""Which certificates a host asks of its clients, and who a client turned out to be.

A host's policy is chosen before the handshake, by the name that the client asks for. Everything that a handshake is
judged by (how, by which authorities, by which revocations, how deep) is the policy's scope, a digest: connections carry
the scope under which their client was verified, sessions resume under the same scope only, and a request for a host of
another scope is misdirected.
"""

from __future__ import annotations

import hashlib
import logging
import os
import ssl
from collections.abc import Mapping
from typing import Any, Final, Protocol

import re2

from ingressd.model.units import ClientAuthority, ClientCertificates, ClientVerification, TlsPolicy
from ingressd.proxy.tls.certificate_cost import MOST_BYTES
from ingressd.proxy.tls.contexts import server_context
from ingressd.proxy.tls.libssl import LibSsl

_TOLERATED: Final = frozenset({18, 19, 20, 21, 27})
"""X509_V_ERR_* that only say "nobody I know": what `optional_no_ca` lets pass (`ngx_ssl_verify_error_optional`)."""

_UNREADABLE: Final = 1
"""X509_V_ERR_UNSPECIFIED, for a certificate whose names cannot be read."""

CERTIFICATE_BYTES: Final = 4096
"""For each certificate of the longest chain that a host takes: what a client may show. Anybody may show something."""

KNOWN_BYTES: Final = 32 * 1024
"""What a connection costs more when its client was asked for certificates, and showed some of usual size …"""
USUAL_BYTES: Final = 2048
HELD_PER_BYTE: Final = 42
"""… and for each byte beyond, as far as `MOST_BYTES`: OpenSSL keeps a name of three bytes in 125."""

MISPLACED: Final = "the route asks for client certificates, and its host for none or for others"
"""Why a guarded route is not served on a host."""

log = logging.getLogger("ingressd.tls")


class Table(Protocol):
    """What is asked of the route table."""

    def knows(self, host: bytes) -> bool:
        """Whether an exact or wildcard host takes it."""

    def has(self, host: bytes) -> bool:
        """Whether it has routes of its own."""

    def takes_misses(self, leaf: object) -> bool:
        """Whether this is the route of every path that its host knows nothing of."""


class ClientIdentity:
    """Who is at the other end of a connection, verified under `scope`. `code` is an X509_V_ERR_*, 0 for a good one."""

    __slots__ = ("code", "der", "error", "held_bytes", "issuer", "scope", "subject")

    def __init__(
        self, scope: bytes, der: bytes = b"", subject: str = "", issuer: str = "", code: int = 0, error: str = ""
    ) -> None:
        self.scope = scope
        self.der = der
        """The certificate, b"" when none was sent."""
        self.subject = subject
        self.issuer = issuer
        self.code = code
        self.error = error
        self.held_bytes = KNOWN_BYTES
        """What the certificates cost us as long as the connection lives."""

    def __repr__(self) -> str:
        return f"<ClientIdentity {self.verify} {self.subject!r}>"

    @property
    def verify(self) -> str:
        """nginx's `$ssl_client_verify`."""
        if not self.der:
            return "NONE"
        return f"FAILED:{self.error}" if self.code else "SUCCESS"

    def fault(self, verify: ClientVerification) -> str:
        """Why this client is not let in where `verify` holds; "" when it is."""
        if not self.der:
            return "client sent no required certificate" if verify == "on" else ""
        if not self.code or (verify == "optional_no_ca" and self.code in _TOLERATED):
            return ""
        return f"client certificate: {self.error}"


class ClientPolicy:
    """A host's policy, compiled. `scope` is b"" where no client is asked, because of `verify: off` or `closed`."""

    __slots__ = ("_authority", "closed", "fault", "matcher", "scope", "unit")

    def __init__(self, unit: ClientCertificates, authority: ClientAuthority | None, *, possible: bool) -> None:
        """`possible`: this interpreter's `ssl` can be made to verify clients. Without it every such host is closed."""
        self.unit = unit
        self.closed = unit.closed
        self.fault = unit.fault
        self.scope = b""
        self.matcher: Any = None
        self._authority = authority
        if self.closed or unit.verify == "off":
            return
        if not possible:
            self.close(503, "the ssl module of this Python cannot be made to verify clients")
        elif authority is None:
            self.close(403, f"the authority {unit.authority} is not there")
        else:
            self._open(authority)

    def _open(self, authority: ClientAuthority) -> None:
        unit = self.unit
        if unit.match_cn:
            try:
                self.matcher = re2.compile(unit.match_cn)
            except re2.error as error:
                self.close(503, f"auth-tls-match-cn: {error}")
                return
        parts = (unit.verify.encode(), b"%d" % unit.depth, authority.ca_pem, authority.crl_pem)
        self.scope = hashlib.blake2b(b"".join(b"%d:%b" % (len(part), part) for part in parts), digest_size=32).digest()

    def close(self, status: int, fault: str) -> None:
        """Let nobody in: whoever asks is answered `status`."""
        self.closed, self.fault, self.scope = status, fault, b""
        log.error("host %s answers %d: %s", self.unit.host or "(any)", status, fault)

    def admits(self, subject: str) -> bool:
        """Whether the subject is one that `match_cn` wants."""
        return self.matcher is None or self.matcher.search(subject) is not None

    def context(self, tls: TlsPolicy, libssl: LibSsl) -> ssl.SSLContext:
        """A new context that asks for certificates, without one of its own. Raises ValueError."""
        context = server_context(tls, libssl=libssl)
        authority = self._authority
        if authority is None:
            raise ValueError("there is no authority")
        descriptor = os.memfd_create("authorities", os.MFD_CLOEXEC)
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(authority.ca_pem.rstrip() + b"\n" + authority.crl_pem)
            path = f"/proc/self/fd/{descriptor}"
            context.load_verify_locations(path)
            libssl.ask_for_certificates(context, path)
        except (ssl.SSLError, OSError) as error:
            raise ValueError(f"the authorities cannot be loaded: {getattr(error, 'reason', None) or error}") from error
        finally:
            os.close(descriptor)
        if authority.crl_pem:
            # As nginx's ssl_crl: every certificate of a chain needs a list of its issuer.
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
        # Tickets only: a cache for each of many contexts would be memory that clients fill.
        libssl.set_session_cache(context, 0)
        libssl.set_verify_depth(context, self.unit.depth)
        # Beyond half of what they may hold they are refused whatever they are; until then they wait in a buffer.
        libssl.set_longest_chain(context, min(CERTIFICATE_BYTES * (self.unit.depth + 1), MOST_BYTES // 2))
        libssl.set_session_scope(context, self.scope)
        return context


def identify(connection: Any, scope: bytes, libssl: LibSsl, *, shown_bytes: int = 0) -> ClientIdentity:
    """Who a finished handshake was with. `connection` is an `ssl.SSLObject` or what is below it; `shown_bytes` is what
    came of the client after its ClientHello."""
    identity = _identify(connection, scope, libssl)
    beyond = max(shown_bytes, len(identity.der)) - USUAL_BYTES
    identity.held_bytes = min(MOST_BYTES, KNOWN_BYTES + HELD_PER_BYTE * max(0, beyond))
    return identity


def _identify(connection: Any, scope: bytes, libssl: LibSsl) -> ClientIdentity:
    der = connection.getpeercert(True)
    if not der:
        return ClientIdentity(scope)
    code = libssl.verify_result(connection)
    try:
        subject, issuer = libssl.names.of(der)
    except ValueError as error:
        return ClientIdentity(scope, der, code=code or _UNREADABLE, error=str(error))
    return ClientIdentity(scope, der, subject, issuer, code, libssl.verify_error(code) if code else "")


class ClientGuards:
    """The policies of all hosts. Compiled when they are asked for first, kept as long as no unit of theirs changes."""

    __slots__ = ("_authorities", "_compiled", "_policies", "_possible", "_table")

    def __init__(
        self,
        policies: Mapping[bytes, ClientCertificates],
        authorities: Mapping[str, ClientAuthority],
        table: Table,
        *,
        possible: bool,
    ) -> None:
        """`policies` by host, as in `ClientCertificates.host`."""
        self._policies = policies
        self._authorities = authorities
        self._table = table
        self._possible = possible
        self._compiled: dict[bytes, ClientPolicy] = {}

    def __repr__(self) -> str:
        return f"<ClientGuards of {len(self._policies)} hosts>"

    def with_table(self, table: Table) -> ClientGuards:
        """The same policies over other routes."""
        guards = ClientGuards(self._policies, self._authorities, table, possible=self._possible)
        guards._compiled = self._compiled
        return guards

    def of(self, host: bytes) -> ClientPolicy | None:
        """The policy that holds for a normalised host, None where clients are not asked for anything.

        Hosts are matched as the route table does: a host with routes of its own is not its wildcard's, unless that
        says that it covers it, and then it comes before what objects say of the host.
        """
        unit = self._policies.get(host)
        if unit is None or not unit.covers:
            wildcard = self._policies.get(b"*" + host[host.find(b".") :]) if b"." in host else None
            if wildcard is not None and (wildcard.covers or (unit is None and not self._table.has(host))):
                unit = wildcard
            elif unit is None and not self._table.knows(host):
                unit = self._policies.get(b"")
            if unit is None:
                return None
        key = unit.host.encode()
        policy = self._compiled.get(key)
        if policy is None:
            authority = self._authorities.get(unit.authority)
            policy = self._compiled[key] = ClientPolicy(unit, authority, possible=self._possible)
        return policy

    def ask_for(self, route: object, policy: ClientPolicy | None) -> bool:
        """Whether a host with this policy asks for what a guarded route wants: the route's own object may have no say
        there, because another was first or because the route takes the misses of every host."""
        if policy is None or not policy.scope:
            return False
        if not self._table.takes_misses(route):
            return True
        own = self.of(b"")
        return own is not None and (own.scope, own.unit.match_cn) == (policy.scope, policy.unit.match_cn)
