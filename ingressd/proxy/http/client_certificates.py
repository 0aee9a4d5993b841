"""Hosts that ask for client certificates: who may ask for what on which connection, and what upstreams are told.

The answers and fields are ingress-nginx's (`auth-tls-*`, `ssl-client-*`). The handshake has always succeeded; nothing
goes upstream for a client that is not let in.
"""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import quote

from ingressd.filters.base import Answer, field_name
from ingressd.filters.ssl_redirect import ACME_CHALLENGE, SslRedirect
from ingressd.protocol.h1 import RequestHead
from ingressd.proxy.runtime.forwarded import Forwarded
from ingressd.proxy.runtime.runtime import CompiledRoute
from ingressd.proxy.tls.clients import MISPLACED, ClientGuards, ClientIdentity, ClientPolicy

OURS: Final = frozenset(
    {
        b"ssl-client-cert",
        b"ssl-client-verify",
        b"ssl-client-subject-dn",
        b"ssl-client-issuer-dn",
        b"x-ssl-client-cert",
        b"x-ssl-client-verify",
        b"x-ssl-client-dn",
        b"x-forwarded-client-cert",
    }
)
"""Fields that say who a client is: for these hosts only we say it, not even a proxy that is otherwise trusted."""

_ACME: Final = ACME_CHALLENGE.encode() + b"/"
_HTML: Final = ((b"Content-Type", b"text/html"),)


def judge(
    guards: ClientGuards,
    host: bytes,
    identity: ClientIdentity | None,
    route: CompiledRoute | None,
    forwarded: Forwarded,
    path: bytes,
    *,
    tls: bool,
) -> Answer | None:
    """The answer to a request that its host's policy does not let through; None when it may go on, its fields set.

    `host` and `path` are normalised, `identity` is what the connection's handshake found (None where it asked for no
    certificate).
    """
    policy = guards.of(host)
    if policy is None:
        if identity is not None:
            return Answer(421, reason="the connection's host asks for client certificates, this one does not")
        if route is not None and route.policy.client_certificates:
            return Answer(403, reason=MISPLACED)
        return None
    if not tls and route is None:
        return None
    if policy.closed:
        return Answer(policy.closed, reason=policy.fault)
    if route is not None and route.policy.client_certificates and not guards.ask_for(route, policy):
        return Answer(403, reason=MISPLACED)
    head = forwarded.head
    if head.special is not None and not OURS.isdisjoint(head.special):
        lines = forwarded.lines.splitlines(keepends=True)
        forwarded.lines = b"".join([line for line in lines if field_name(line) not in OURS])
    if not tls:
        return _judge_plain(policy, route, forwarded, path)
    if (identity.scope if identity is not None else b"") != policy.scope:
        return Answer(421, reason="the connection's host asks for other client certificates than this one")
    if identity is None:
        head.fields.append(b"ssl-client-verify: NONE")
        return None
    fault = identity.fault(policy.unit.verify)
    if fault:
        return _refused(policy, fault, missing=not identity.der)
    if not policy.admits(identity.subject):
        return Answer(403, reason="the client certificate's subject does not match auth-tls-match-cn")
    _tell(head, identity, policy)
    return None


def _judge_plain(policy: ClientPolicy, route: CompiledRoute | None, forwarded: Forwarded, path: bytes) -> Answer | None:
    """Without TLS there is no certificate. What is redirected to https anyway is; the challenge that gets a host its
    first certificate comes in clear (RFC 8555, 8.3)."""
    if not policy.scope or path.startswith(_ACME) or (policy.unit.verify != "on" and policy.matcher is None):
        return None
    for request_filter in route.request_filters if route is not None else ():
        if isinstance(request_filter, SslRedirect):
            answer = request_filter.on_request(forwarded)
            if answer is not None:
                return answer
    if policy.unit.verify != "on":
        return Answer(403, reason="no client certificate to match with auth-tls-match-cn")
    return _refused(policy, "client sent no required certificate: the request did not come over TLS", missing=True)


def _refused(policy: ClientPolicy, fault: str, *, missing: bool) -> Answer:
    page = policy.unit.error_page
    if page:
        return Answer(302, ((b"Location", page.encode()),), reason=fault)
    return Answer(400, _HTML, _MISSING if missing else _WRONG, reason=fault)


def _tell(head: RequestHead, identity: ClientIdentity, policy: ClientPolicy) -> None:
    fields = head.fields
    fields.append(b"ssl-client-verify: " + identity.verify.encode("ascii", "replace"))
    if not identity.der:
        return
    fields.append(b"ssl-client-subject-dn: " + identity.subject.encode("ascii"))
    fields.append(b"ssl-client-issuer-dn: " + identity.issuer.encode("ascii"))
    if policy.unit.pass_certificate:
        # nginx's $ssl_client_escaped_cert.
        fields.append(b"ssl-client-cert: " + quote(ssl.DER_cert_to_PEM_cert(identity.der), safe="").encode("ascii"))


def _page(said: str) -> bytes:
    """nginx's pages for its codes 495 and 496, which it sends as 400."""
    return (
        f"<html>\r\n<head><title>400 {said}</title></head>\r\n<body>\r\n<center><h1>400 Bad Request</h1></center>\r\n"
        f"<center>{said}</center>\r\n</body>\r\n</html>\r\n"
    ).encode("ascii")


_WRONG: Final = _page("The SSL certificate error")
_MISSING: Final = _page("No required SSL certificate was sent")
