"""Redirect plain HTTP to https (ingress-nginx `redirect_to_https`, rootfs/etc/nginx/lua/lua_ingress.lua)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ingressd.filters.base import AnnotationFault, Answer, FilterSpec, ParsedAnnotations, RequestView
from ingressd.model.units import ProcessPolicy, Route, RoutePolicy
from ingressd.settings.values import boolean

_SWITCHES: Final = {"ssl-redirect": "ssl_redirect", "force-ssl-redirect": "force_ssl_redirect"}

ACME_CHALLENGE: Final = "/.well-known/acme-challenge"
"""A route of its own for HTTP-01 must answer over HTTP, or no first certificate can be had (RFC 8555, 8.3)."""


class SslRedirect:
    """Answers `code` with the https URL of the same host and target.

    As in ingress-nginx the Location names no port, and a slash at its very end is cut off.
    """

    __slots__ = ("_code",)

    def __init__(self, code: int) -> None:
        self._code = code

    def on_request(self, request: RequestView) -> Answer | None:
        """Redirect when the client came by http, and a proxy we trust does not say otherwise."""
        if request.forwarded_scheme != b"http":
            return None
        host = _without_port(request.host)
        if not host:
            return Answer(400, reason="no host to redirect to")
        target = request.head.target.removesuffix(b"/")
        return Answer(self._code, ((b"Location", b"https://%b%b" % (host, target)),))


def _without_port(authority: bytes) -> bytes:
    if authority.endswith(b"]"):
        return authority
    host, colon, _ = authority.rpartition(b":")
    return host if colon else authority


def _parse(annotations: Mapping[str, str]) -> ParsedAnnotations:
    """Each replaces the setting of its name. As in ingress-nginx that setting stands where a value cannot be read."""
    route: dict[str, Any] = {}
    faults: list[AnnotationFault] = []
    for name, field in _SWITCHES.items():
        if name in annotations:
            try:
                route[field] = boolean(annotations[name])
            except ValueError as error:
                faults.append(AnnotationFault(name, f"{error}: the setting of that name counts"))
    return ParsedAnnotations(route, tuple(faults))


def _compile(process: ProcessPolicy, policy: RoutePolicy, route: Route | None) -> SslRedirect | None:
    if route is None or route.path.startswith(ACME_CHALLENGE):
        return None
    if policy.force_ssl_redirect or (policy.ssl_redirect and route.has_tls):
        return SslRedirect(process.redirect_code)
    return None


SPEC: Final = FilterSpec(
    name="ssl_redirect",
    settings=(
        ("ssl-redirect", "Redirect http to https for hosts whose object has a tls section. Default true."),
        ("force-ssl-redirect", "Redirect http to https even without a tls section. Default false."),
        ("http-redirect-code", "Status of the redirect: 301, 302, 307 or 308. Default 308."),
    ),
    annotations=(
        ("ssl-redirect", "Redirect http to https for hosts whose object has a tls section."),
        ("force-ssl-redirect", "Redirect http to https even without a tls section."),
    ),
    parse_annotations=_parse,
    compile_request=_compile,
)
