"""What an Ingress is told about its annotations."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

import msgspec

from ingressd.control.translate.annotations.client_certificates import (
    SECRET,
    ClientsDraft,
    parse_client_certificates,
)
from ingressd.control.translate.annotations.known import (
    BUILT,
    GUARDING_VALUES,
    GUARDS,
    KNOWN,
    OFF,
    PLAIN,
    PREFIX,
    SNIPPETS,
    SWITCHES,
    TRUE,
)
from ingressd.filters.base import AnnotationFault
from ingressd.filters.registry import parse_annotations
from ingressd.model.problem import Origin, Problem, Severity


class AnnotationReport(msgspec.Struct, frozen=True):
    """`failed_closed` is the security annotation for which all routes answer 503, "" if there is none; `route` are the
    fields of `RoutePolicy` that the annotations set, `clients` what is asked of the clients of its hosts."""

    problems: tuple[Problem, ...] = ()
    route: dict[str, Any] = {}
    failed_closed: str = ""
    clients: ClientsDraft | None = None
    refused: bool = False
    left_out: bool = False


NOTHING = AnnotationReport()

MAX_UNKNOWN: Final = 16
"""Unknown annotations of one object that are named, each at the price of a look through all that are known. An object
may carry thousands of them, and its author need not be who runs the cluster."""


def report_annotations(annotations: Mapping[str, str], *, origin: Origin) -> AnnotationReport:
    """Judge every annotation under ingress-nginx's prefix; all others are none of our business."""
    ours = {key.removeprefix(PREFIX): value.strip() for key, value in annotations.items() if key.startswith(PREFIX)}
    if not ours:
        return NOTHING
    parsed = parse_annotations(ours)
    clients = parse_client_certificates(ours, namespace=origin.namespace)
    faults = (*parsed.faults, *clients.faults)
    problems = [_fault(origin, fault) for fault in faults]
    guards = [PREFIX + fault.name for fault in faults if fault.closes]
    for name in clients.idle:
        message = f"this annotation has no effect without {PREFIX}{SECRET}"
        problems.append(_problem("warning", origin, "AnnotationWithoutEffect", field=PREFIX + name, message=message))
    refused = left_out = False
    unknown = 0
    for name in sorted(ours):
        key, value = PREFIX + name, ours[name]
        if name in BUILT:
            continue
        if name in SNIPPETS:
            refused = True
            message = "snippets are refused, and the whole object with them: use typed annotations instead"
            problems.append(_problem("error", origin, "AnnotationRefused", field=key, message=message))
        elif name == "canary" and value in TRUE:
            left_out = True
            message = "canaries are not built yet: the whole object is left out, so that it takes no main route"
            problems.append(_problem("error", origin, "AnnotationNotBuilt", field=key, message=message))
        elif _guards(name, value):
            guards.append(key)
            message = "this security policy is not built yet: every route of the object answers 503"
            problems.append(_problem("error", origin, "FailedClosed", field=key, message=message))
        elif name in PLAIN or name in GUARDS:
            message = "this annotation is not built yet and has no effect"
            problems.append(_problem("warning", origin, "AnnotationNotBuilt", field=key, message=message))
        elif (unknown := unknown + 1) <= MAX_UNKNOWN:
            near = get_close_matches(name, KNOWN, n=1, cutoff=0.6)
            message = "unknown annotation" + (f"; the nearest known one is {PREFIX}{near[0]}" if near else "")
            problems.append(_problem("warning", origin, "UnknownAnnotation", field=key, message=message))
        if name in SNIPPETS and name in GUARDS:
            guards.append(key)
    if unknown > MAX_UNKNOWN:
        message = f"{unknown - MAX_UNKNOWN} more unknown annotations"
        problems.append(_problem("warning", origin, "UnknownAnnotation", field="metadata.annotations", message=message))
    closed = min(guards, default="")
    return AnnotationReport(tuple(sorted(problems)), parsed.route, closed, clients.draft, refused, left_out)


def _fault(origin: Origin, fault: AnnotationFault) -> Problem:
    closed = ": every route of the object answers 503" if fault.closes else ""
    return _problem("error", origin, "InvalidAnnotation", field=PREFIX + fault.name, message=fault.message + closed)


def _guards(name: str, value: str) -> bool:
    if name in GUARDING_VALUES:
        return value.upper() in GUARDING_VALUES[name]
    return name in GUARDS and not (name in SWITCHES and value in OFF)


def _problem(severity: Severity, origin: Origin, reason: str, *, field: str, message: str) -> Problem:
    return Problem(severity=severity, origin=origin, reason=reason, field=field, message=message)
