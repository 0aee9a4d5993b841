"""One AdmissionReview to its answer (admission.k8s.io/v1), without I/O.

Errors and warnings are those of `translate.check`. Anything that is not an Ingress being created or updated is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import msgspec

from ingressd.control.objects.decode import DecodeError, decode_value
from ingressd.control.objects.kubernetes import Ingress
from ingressd.model.problem import Origin, Problem

API_VERSION: Final = "admission.k8s.io/v1"
MAX_ERRORS: Final = 20
MAX_WARNINGS: Final = 20
MAX_WARNING: Final = 256
"""The API server cuts longer warnings, and all of them together at 4,096 characters (api-conventions, "Warnings")."""

Check = Callable[[Ingress], tuple[Problem, ...]]


class ReviewError(ValueError):
    """What came is no AdmissionReview that we know."""


class Reviewed(NamedTuple):
    """The answer as JSON. `denied` says why, "" when it is allowed; `named` is the object, for a log line."""

    body: bytes
    denied: str = ""
    named: str = ""


class _Kind(msgspec.Struct, frozen=True):
    group: str = ""
    kind: str = ""


class _Request(msgspec.Struct, rename="camel"):
    uid: str
    operation: str
    kind: _Kind = _Kind()
    sub_resource: str = ""
    name: str = ""
    namespace: str = ""
    object: Any = None


class _Review(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    request: _Request | None = None


_decoder: Final = msgspec.json.Decoder(_Review)


def review(body: bytes, check: Check) -> Reviewed:
    """Answer a review. Raises ReviewError."""
    try:
        asked = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReviewError(f"not an AdmissionReview: {error}") from None
    if (asked.api_version, asked.kind) != (API_VERSION, "AdmissionReview") or asked.request is None:
        raise ReviewError(f"expected an AdmissionReview of {API_VERSION} with a request")
    request = asked.request
    named = f"{request.namespace}/{request.name}"
    problems = _problems(request, check) if _concerns_us(request) else ()
    errors = [problem for problem in problems if problem.severity == "error"]
    warnings = [problem for problem in problems if problem.severity == "warning"]
    denied = _joined(errors)
    return Reviewed(_answer(request.uid, denied, [_said(one)[:MAX_WARNING] for one in warnings]), denied, named)


def _concerns_us(request: _Request) -> bool:
    return (
        request.operation in ("CREATE", "UPDATE")
        and (request.kind.group, request.kind.kind) == ("networking.k8s.io", "Ingress")
        and not request.sub_resource
    )


def _problems(request: _Request, check: Check) -> tuple[Problem, ...]:
    """What is wrong with the object. One that is being deleted only loses its finalizers: that must not be stopped."""
    found = request.object
    metadata = found.get("metadata") if isinstance(found, dict) else None
    if isinstance(metadata, dict):
        if metadata.get("deletionTimestamp"):
            return ()
        # With `generateName` an API server may ask before the name is made.
        metadata.setdefault("name", request.name or f"{metadata.get('generateName', 'unnamed-')}0")
        metadata.setdefault("namespace", request.namespace)
    try:
        _, ingress = decode_value("Ingress", found)
    except DecodeError as error:
        origin = Origin("Ingress", request.namespace, request.name)
        return (Problem("error", origin, "InvalidIngress", error.field, error.message),)
    assert isinstance(ingress, Ingress)
    return check(ingress)


def _said(problem: Problem) -> str:
    text = f"{problem.field}: {problem.message}" if problem.field else problem.message
    # A warning becomes a header field: RFC 9110, 5.5 allows no line ends.
    return "".join(char if char.isprintable() else "?" for char in text)


def _joined(errors: list[Problem]) -> str:
    said = [_said(problem) for problem in errors[:MAX_ERRORS]]
    if len(errors) > MAX_ERRORS:
        said.append(f"and {len(errors) - MAX_ERRORS} more errors")
    return "; ".join(said)


def _answer(uid: str, denied: str, warnings: Iterable[str]) -> bytes:
    response: dict[str, Any] = {"uid": uid, "allowed": not denied}
    if denied:
        # As ingress-nginx answers; the API server gives code and reason to the client.
        response["status"] = {"status": "Failure", "code": 400, "reason": "BadRequest", "message": denied}
    if said := list(warnings)[:MAX_WARNINGS]:
        response["warnings"] = said
    return msgspec.json.encode({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response})
