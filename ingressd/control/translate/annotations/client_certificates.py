"""ingress-nginx's `auth-tls-*`: which certificates an Ingress asks of the clients of its hosts.

They speak for whole hosts, since a handshake knows no path. What cannot be read closes the host: a policy that is not
honoured must not look like one that is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, get_args

import msgspec

from ingressd.filters.base import AnnotationFault
from ingressd.model.units import ClientVerification
from ingressd.settings.client_certificate import MAX_DEPTH, error_page, subject_expression
from ingressd.settings.values import boolean

SECRET: Final = "auth-tls-secret"  # noqa: S105 - an annotation's name
VERIFY: Final = "auth-tls-verify-client"
DEPTH: Final = "auth-tls-verify-depth"
ERROR_PAGE: Final = "auth-tls-error-page"
FORWARD: Final = "auth-tls-pass-certificate-to-upstream"
MATCH_CN: Final = "auth-tls-match-cn"

ANNOTATIONS: Final = (
    (SECRET, "namespace/name of the Secret with `ca.crt` (who may issue client certificates) and perhaps `ca.crl`."),
    (VERIFY, "`on` (default), `off`, `optional`, or `optional_no_ca`: a certificate of anybody's will do."),
    (DEPTH, "How many intermediate certificates a client's chain may have. Default 1."),
    (ERROR_PAGE, "URL to redirect to (302) in place of the answer 400."),
    (FORWARD, "Send the certificate upstream, as `ssl-client-cert`. Default false."),
    (MATCH_CN, "RE2 expression with `CN=` that must be found in the certificate's subject, else 403."),
)

OFF_WORDS: Final = frozenset({"0", "f", "F", "false", "FALSE", "False", "off"})
_NAME: Final = re.compile(r"([a-z0-9.-]+)/([a-z0-9.-]+)").fullmatch


class ClientsDraft(msgspec.Struct, frozen=True):
    """What one object asks of the clients of its hosts, as in `ClientCertificates`. `field` is where it says so."""

    verify: ClientVerification = "on"
    authority: str = ""
    depth: int = 1
    error_page: str = ""
    pass_certificate: bool = False
    match_cn: str = ""
    covers: bool = False
    fault: str = ""
    field: str = SECRET


class ParsedClients(NamedTuple):
    """The policy, None for none. `idle` are annotations that have no effect."""

    draft: ClientsDraft | None = None
    faults: tuple[AnnotationFault, ...] = ()
    idle: tuple[str, ...] = ()


NOTHING: Final = ParsedClients()


def parse_client_certificates(annotations: Mapping[str, str], *, namespace: str) -> ParsedClients:
    """What the annotations (without prefix) of an object in `namespace` say."""
    present = [name for name, _ in ANNOTATIONS if name in annotations]
    if not present:
        return NOTHING
    faults: list[AnnotationFault] = []
    values: dict[str, object] = {}
    for name in present:
        try:
            field, value = _READERS[name](annotations[name], namespace)
        except ValueError as error:
            faults.append(AnnotationFault(name, str(error), closes=True))
        else:
            values[field] = value
    if SECRET not in annotations:
        off = values.get("verify") == "off" or annotations.get(VERIFY) in OFF_WORDS
        faults = [fault for fault in faults if fault.name != VERIFY or not off]
        if not faults and not off and (VERIFY in present or MATCH_CN in present):
            name = VERIFY if VERIFY in present else MATCH_CN
            faults = [AnnotationFault(name, f"there is no {SECRET} to say whose certificates are good", closes=True)]
        if not faults:
            return ParsedClients(idle=tuple(present))
    if faults:
        return ParsedClients(ClientsDraft(fault=f"{faults[0].name}: {faults[0].message}"), tuple(faults))
    return ParsedClients(ClientsDraft(**values))  # type: ignore[arg-type]


def _secret(value: str, namespace: str) -> tuple[str, object]:
    found = _NAME(value)
    if found is None:
        raise ValueError(f"expected namespace/name, got {value!r}")
    if found[1] != namespace:
        # `allow-cross-namespace-resources` of ingress-nginx, off by default there.
        raise ValueError("a Secret of another namespace is not used")
    return "authority", value


def _verify(value: str, namespace: str) -> tuple[str, object]:
    if value not in get_args(ClientVerification):
        raise ValueError(f"expected on, off, optional or optional_no_ca, got {value!r}")
    return "verify", value


def _depth(value: str, namespace: str) -> tuple[str, object]:
    if not value.isascii() or not value.isdigit() or int(value[:4]) > MAX_DEPTH:
        raise ValueError(f"expected a whole number from 1 to {MAX_DEPTH}, got {value!r}")
    return "depth", int(value) or 1


_READERS: Final[dict[str, Callable[[str, str], tuple[str, object]]]] = {
    SECRET: _secret,
    VERIFY: _verify,
    DEPTH: _depth,
    ERROR_PAGE: lambda value, namespace: ("error_page", error_page(value)),
    FORWARD: lambda value, namespace: ("pass_certificate", value not in OFF_WORDS and boolean(value)),
    MATCH_CN: lambda value, namespace: ("match_cn", subject_expression(value)),
}
