"""What the API server would refuse in an Ingress, for the sources that have none in front of them.

An object with any of these is refused whole, and its last good version goes on serving
(k8s.io/kubernetes/pkg/apis/networking/validation).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from ingressd.control.objects.kubernetes import HTTPIngressPath, Ingress, IngressBackend

PATH_TYPES: Final = frozenset({"Exact", "Prefix", "ImplementationSpecific"})

_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_HOST: Final = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*").fullmatch
_ADDRESS: Final = re.compile(r"[0-9]+(?:\.[0-9]+){3}").fullmatch
_STRANGE: Final = re.compile(r"//|/\.\.?(?:/|$)|%2[fF]|%00|\x00").search

Fault = tuple[str, str]
"""The field and what is wrong with it."""


def host_fault(host: str) -> str:
    """What is wrong with the host of a rule, "" if nothing is. Upper case is as good as lower."""
    host = host.lower()
    if _ADDRESS(host):
        return "must be a DNS name, not an IP address"
    if len(host) > 253 or not _HOST(host):
        return "must be a DNS name, or a wildcard with a star as its whole first label"
    return ""


def path_fault(path: str) -> str:
    """What is wrong with the path of a rule, "" if nothing is."""
    if not path.startswith("/"):
        return "must be absolute: begin with a slash"
    if strange := _STRANGE(path):
        return f"must not hold {strange.group()!r}, which no request has after normalisation"
    if "%" in path:
        try:
            unquote_to_bytes(path).decode()
        except UnicodeDecodeError:
            return "must be UTF-8 after percent-decoding"
    return ""


def plain_path(path: str, *, path_type: str) -> str:
    """The form of a faultless path in a unit: decoded, and without the trailing slash that Prefix ignores."""
    if "%" in path:
        path = unquote_to_bytes(path).decode()
    if path_type == "Exact":
        return path
    return path.rstrip("/") or "/"


def ingress_faults(ingress: Ingress) -> list[Fault]:
    """Everything for which the object is refused, in order of field."""
    spec = ingress.spec
    faults: list[Fault] = []
    if not spec.rules and spec.default_backend is None:
        faults.append(("spec", "either `defaultBackend` or `rules` must be specified"))
    if spec.default_backend is not None:
        faults += _backend_faults(spec.default_backend, "spec.defaultBackend")
    for index, rule in enumerate(spec.rules):
        field = f"spec.rules[{index}]"
        if rule.host and (fault := host_fault(rule.host)):
            faults.append((f"{field}.host", f"{rule.host!r}: {fault}"))
        if rule.http is None:
            continue
        if not rule.http.paths:
            faults.append((f"{field}.http.paths", "must hold at least one path"))
        for at, path in enumerate(rule.http.paths):
            faults += _path_faults(path, f"{field}.http.paths[{at}]")
    for index, tls in enumerate(spec.tls):
        for at, host in enumerate(tls.hosts):
            if fault := host_fault(host):
                faults.append((f"spec.tls[{index}].hosts[{at}]", f"{host!r}: {fault}"))
    return faults


def _path_faults(path: HTTPIngressPath, field: str) -> Iterator[Fault]:
    if path.path_type not in PATH_TYPES:
        known = "Exact, Prefix or ImplementationSpecific"
        yield f"{field}.pathType", f"{path.path_type!r} is not {known}" if path.path_type else f"must be {known}"
    if path.path or path.path_type != "ImplementationSpecific":
        fault = path_fault(path.path)
        if fault:
            yield f"{field}.path", f"{path.path!r}: {fault}"
    yield from _backend_faults(path.backend, f"{field}.backend")


def _backend_faults(backend: IngressBackend, field: str) -> Iterator[Fault]:
    if (backend.service is None) == (backend.resource is None):
        yield field, "must have exactly one of `service` and `resource`"
    if backend.service is None:
        return
    if not backend.service.name:
        yield f"{field}.service.name", "must name a Service"
    port = backend.service.port
    if bool(port.name) == bool(port.number):
        yield f"{field}.service.port", "must have exactly one of `name` and `number`"
    elif not port.name and not 1 <= port.number <= 65535:
        yield f"{field}.service.port.number", f"{port.number} is not between 1 and 65535"
