"""Which certificate a connection gets, decided before its handshake.

One front context gives every connection its options and its session tickets; the chosen certificate's context is put
on the connection before the first byte is read. Tickets belong to the front (OpenSSL keeps them with the context that a
connection was made from), so sessions outlive a change of certificates. The exchange of contexts changes certificates
only: OpenSSL does not take over the verification of clients with it, so a connection to a host that verifies clients is
made from a context of its own, for its policy and its certificate.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from ingressd.model.units import Certificate, TlsHost, TlsPolicy
from ingressd.proxy.tls.clients import ClientGuards, ClientIdentity, identify
from ingressd.proxy.tls.contexts import load_pair, server_context
from ingressd.proxy.tls.libssl import LibSsl
from ingressd.proxy.tls.tickets import TicketSecret

SELF_SIGNED: Final = "/self-signed"
"""Name of the `Certificate` for names that no other certificate covers."""

MAX_CONTEXTS: Final = 1024
"""Contexts in memory (19 KiB each); the others are made again when a client asks for them (0.7 ms)."""

EAGER_CERTIFICATES: Final = 32
"""Pairs that one `apply` loads at once; when more change, the rest is loaded at the first handshake that needs it. Each
takes up to a millisecond, for which a start waits; the controller has tried every pair before."""

SLICE_S: Final = 0.005

_CERTIFICATE: Final = "certificate/"
_HOST: Final = "tls/"

log = logging.getLogger("ingressd.tls")


class Selection:
    """What a connection is made from: `front.wrap_bio(…)`, then `.context = certificate` if there is another one.

    `scope` is that of the client certificates asked for, b"" when none are.
    """

    __slots__ = ("certificate", "front", "host", "scope")

    def __init__(
        self, front: ssl.SSLContext, certificate: ssl.SSLContext | None, host: str, scope: bytes = b""
    ) -> None:
        self.front = front
        self.scope = scope
        self.certificate = certificate
        self.host = host
        """What decided: a name, a wildcard, or "" when only the default was left."""


class _Pair:
    """A certificate that was good when last tried, one that has still to be tried, and the context while in memory."""

    __slots__ = ("certificate", "context", "untried")

    def __init__(self, certificate: Certificate | None) -> None:
        self.certificate = certificate
        self.untried: Certificate | None = None
        self.context: ssl.SSLContext | None = None


class TlsStore:
    """The certificates and server names of one worker."""

    __slots__ = (
        "_asking",
        "_clock",
        "_front",
        "_hosts",
        "_libssl",
        "_live",
        "_now_s",
        "_pairs",
        "_policy",
        "_secret",
        "guards",
    )

    def __init__(self, *, clock: Callable[[], float], secret: TicketSecret | None, libssl: LibSsl | None) -> None:
        """`clock` is monotonic; without `secret` or `libssl` a session resumes in this worker only."""
        self._clock = clock
        self._now_s = 0.0
        self._secret = secret
        self._libssl = libssl
        if libssl is None:
            log.warning("this ssl module cannot be given ticket keys: TLS sessions resume within one worker only")
        self._policy = TlsPolicy()
        self._front = self._make_front(self._policy)
        self._hosts: dict[str, str | None] = {}
        self._pairs: dict[str, _Pair] = {}
        self._live: OrderedDict[str, None] = OrderedDict()
        self._asking: OrderedDict[tuple[bytes, str], tuple[Certificate, ssl.SSLContext]] = OrderedDict()
        """Contexts that ask for client certificates, by scope and name of the certificate of ours they show."""
        self.guards: ClientGuards | None = None
        """Which hosts ask for client certificates; None when none does."""

    def __repr__(self) -> str:
        return f"<TlsStore {len(self._pairs)} certificates, {len(self._hosts)} names, {len(self._live)} in memory>"

    async def apply(
        self,
        *,
        certificates: Mapping[str, Certificate],
        hosts: Mapping[str, TlsHost],
        removed: Iterable[str] = (),
        policy: TlsPolicy | None = None,
    ) -> dict[str, str]:
        """Take over what changed, by unit key; everything goes live together when this returns.

        Yields to the loop while it loads. `removed` holds unit keys; those of other units are ignored. `policy` None
        leaves it as it is. Returns the refused keys with reasons; what they name stays as it was.
        """
        refused: dict[str, str] = {}
        front: ssl.SSLContext | None = None
        if policy is not None and policy != self._policy:
            try:
                front = self._make_front(policy)
            except ValueError as error:
                refused["process"] = str(error)
        target = policy if policy is not None and front is not None else self._policy
        loaded = await self._load(certificates, target, refused)
        if front is not None:
            self._front, self._policy = front, target
            for name in self._live:
                self._pairs[name].context = None
            self._live.clear()
            self._asking.clear()
        for name, (certificate, context) in loaded.items():
            self._replace(name, certificate, context)
        for key, host in hosts.items():
            self._hosts[key.removeprefix(_HOST)] = host.certificate
        self._remove(removed)
        return refused

    def context_for(self, sni: str | None) -> Selection | None:
        """Exact name, else a wildcard of one label, else the default certificate, else the self-signed one.

        `sni` is lowercase. None when there is nothing to offer, or the name is unknown and unknown names are rejected
        (`ssl-reject-handshake`): answer with the alert unrecognized_name.
        """
        host = sni or ""
        hosts = self._hosts
        if host not in hosts:
            host = "*" + host[host.find(".") :] if "." in host else ""
            if host not in hosts:
                host = ""
        if not host and self._policy.reject_unknown_sni:
            return None
        for name in (hosts.get(host), hosts.get(""), SELF_SIGNED):
            if name is not None:
                context = self._context(name)
                if context is not None:
                    asking = self._asking_context(sni or "", name) if self.guards is not None else None
                    return asking or Selection(self._front, context, host)
        return None

    def identify(self, connection: Any, scope: bytes, *, shown_bytes: int) -> ClientIdentity | None:
        """Who the client of a finished handshake under a scope is; `shown_bytes` came behind its ClientHello."""
        if self._libssl is None:
            return None
        return identify(connection, scope, self._libssl, shown_bytes=shown_bytes)

    def _asking_context(self, sni: str, name: str) -> Selection | None:
        """What asks for client certificates and shows the certificate `name`; None if this server name does not ask."""
        guards, libssl = self.guards, self._libssl
        policy = guards.of(sni.encode()) if guards is not None else None
        certificate = self._pairs[name].certificate
        if policy is None or not policy.scope or libssl is None or certificate is None:
            return None
        key = (policy.scope, name)
        kept = self._asking.get(key)
        if kept is None or kept[0] is not certificate:
            try:
                context = policy.context(self._policy, libssl)
                load_pair(context, certificate.cert_pem, certificate.key_pem)
            except ValueError as error:
                policy.close(403, str(error))
                return None
            if self._secret is not None:
                libssl.set_ticket_keys(context, self._secret.keys(policy.scope))
            kept = self._asking[key] = (certificate, context)
            if len(self._asking) > MAX_CONTEXTS:
                self._asking.popitem(last=False)
        self._asking.move_to_end(key)
        return Selection(kept[1], None, sni, policy.scope)

    def rotate(self, now_s: float) -> None:
        """Step the ticket keys to the day of `now_s`, seconds since 1970. Call it every minute or so."""
        self._now_s = now_s
        if self._secret is not None and self._libssl is not None and self._secret.advance(now_s):
            self._libssl.set_ticket_keys(self._front, self._secret.keys())
            for (scope, _), (_, context) in self._asking.items():
                self._libssl.set_ticket_keys(context, self._secret.keys(scope))
            log.info("session ticket keys rotated")

    def _make_front(self, policy: TlsPolicy) -> ssl.SSLContext:
        front = server_context(policy, libssl=self._libssl)
        if self._libssl is not None and self._secret is not None:
            self._libssl.set_ticket_keys(front, self._secret.keys())
        return front

    async def _load(
        self, certificates: Mapping[str, Certificate], policy: TlsPolicy, refused: dict[str, str]
    ) -> dict[str, tuple[Certificate, ssl.SSLContext | None]]:
        loaded: dict[str, tuple[Certificate, ssl.SSLContext | None]] = {}
        pause_at = self._clock() + SLICE_S
        eager = EAGER_CERTIFICATES
        for key, certificate in certificates.items():
            name = key.removeprefix(_CERTIFICATE)
            pair = self._pairs.get(name)
            before = pair.untried or pair.certificate if pair is not None else None
            if _same(before, certificate):
                continue
            # Somebody put an old file back: clients would turn away from it, and not from the one that serves.
            if before is not None and certificate.not_after_s < self._now_s <= before.not_after_s:
                refused[key] = "it has expired, and the one that it replaces has not"
                continue
            context = None
            if eager > 0:
                eager -= 1
                try:
                    context = self._make_context(certificate, policy)
                except ValueError as error:
                    refused[key] = str(error)
                    continue
                if self._clock() >= pause_at:
                    await asyncio.sleep(0)
                    pause_at = self._clock() + SLICE_S
            loaded[name] = (certificate, context)
        return loaded

    def _make_context(self, certificate: Certificate, policy: TlsPolicy) -> ssl.SSLContext:
        context = server_context(policy, libssl=self._libssl)
        load_pair(context, certificate.cert_pem, certificate.key_pem)
        return context

    def _replace(self, name: str, certificate: Certificate, context: ssl.SSLContext | None) -> None:
        pair = self._pairs.get(name)
        if pair is None:
            pair = self._pairs[name] = _Pair(None)
        if context is None:
            pair.untried = certificate
        else:
            pair.certificate, pair.untried = certificate, None
            self._keep(name, pair, context)

    def _remove(self, removed: Iterable[str]) -> None:
        for key in removed:
            if key.startswith(_CERTIFICATE):
                name = key.removeprefix(_CERTIFICATE)
                self._pairs.pop(name, None)
                self._live.pop(name, None)
                for asking in [one for one in self._asking if one[1] == name]:
                    del self._asking[asking]
            elif key.startswith(_HOST):
                self._hosts.pop(key.removeprefix(_HOST), None)

    def _context(self, name: str) -> ssl.SSLContext | None:
        pair = self._pairs.get(name)
        if pair is None:
            return None
        if pair.untried is None and pair.context is not None:
            self._live.move_to_end(name)
            return pair.context
        for certificate in (pair.untried, pair.certificate):
            if certificate is None:
                continue
            try:
                context = self._make_context(certificate, self._policy)
            except ValueError as error:
                log.warning("certificate %s (%s) is not used: %s", name, certificate.origin, error)
                continue
            pair.certificate, pair.untried = certificate, None
            self._keep(name, pair, context)
            return context
        pair.untried = None
        return None

    def _keep(self, name: str, pair: _Pair, context: ssl.SSLContext) -> None:
        pair.context = context
        self._live[name] = None
        self._live.move_to_end(name)
        if len(self._live) > MAX_CONTEXTS:
            oldest, _ = self._live.popitem(last=False)
            self._pairs[oldest].context = None


def _same(old: Certificate | None, new: Certificate) -> bool:
    return old is not None and old.cert_pem == new.cert_pem and old.key_pem == new.key_pem
