"""Strict-Transport-Security (RFC 6797) on answers over TLS, in place of what the upstream says."""

from __future__ import annotations

from typing import Final

from ingressd.filters.base import FilterSpec, RequestView
from ingressd.model.units import ProcessPolicy, Route, RoutePolicy
from ingressd.protocol.fields import STRICT_TRANSPORT_SECURITY
from ingressd.protocol.h1 import ResponseHead


class Hsts:
    """Adds the field to what goes out over TLS, and drops the upstream's own there.

    RFC 6797, 7.2: "An HSTS Host MUST NOT include the STS header field in HTTP responses conveyed over non-secure
    transport". What an upstream sends there is its own affair; browsers ignore it.
    """

    __slots__ = ("_line",)

    def __init__(self, line: bytes) -> None:
        self._line = line

    def on_response(self, request: RequestView, response: ResponseHead) -> None:
        """Set the field."""
        if request.scheme == b"https":
            if response.special is not None:
                response.special.pop(STRICT_TRANSPORT_SECURITY, None)
            response.fields.append(self._line)

    def own_lines(self, request: RequestView) -> bytes:
        """The same on an answer of our own."""
        return self._line + b"\r\n" if request.scheme == b"https" else b""


def _compile(process: ProcessPolicy, policy: RoutePolicy, route: Route | None) -> Hsts | None:
    hsts = process.hsts
    # Not where the certificate is only the default one: a browser that learnt to insist on TLS could not get in.
    if hsts is None or route is None or not route.has_tls:
        return None
    line = b"Strict-Transport-Security: max-age=%d" % hsts.max_age_s
    line += b"; includeSubDomains" if hsts.include_subdomains else b""
    return Hsts(line + b"; preload" if hsts.preload else line)


SPEC: Final = FilterSpec(
    name="hsts",
    settings=(
        ("hsts", "Send Strict-Transport-Security over TLS, for hosts with a certificate of their own. Default true."),
        ("hsts-max-age", "Seconds a browser shall insist on TLS. Default 31536000."),
        ("hsts-include-subdomains", "Extend that to all subdomains. Default true."),
        ("hsts-preload", "Allow browsers to ship with that rule. Default false."),
    ),
    compile_response=_compile,
)
