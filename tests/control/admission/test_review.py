"""One AdmissionReview and its answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingressd.control.admission.review import MAX_ERRORS, MAX_WARNING, MAX_WARNINGS, ReviewError, review
from ingressd.control.objects.kubernetes import Ingress
from ingressd.model.problem import Origin, Problem

KIND = {"group": "networking.k8s.io", "version": "v1", "kind": "Ingress"}
BACKEND = {"service": {"name": "a", "port": {"number": 80}}}
OBJECT = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "Ingress",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"defaultBackend": BACKEND},
}
ORIGIN = Origin("Ingress", "shop", "web")


class Checked:
    """A check that answers the same each time, and remembers what it was asked."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        self.asked: list[Ingress] = []

    def __call__(self, ingress: Ingress) -> tuple[Problem, ...]:
        self.asked.append(ingress)
        return self.problems


def body(**request: Any) -> bytes:
    asked = {"uid": "u-1", "operation": "CREATE", "kind": KIND, "name": "web", "namespace": "shop", "object": OBJECT}
    envelope = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    return json.dumps({**envelope, "request": {**asked, **request}}).encode()


def answer(check: Checked, **request: Any) -> dict[str, Any]:
    answered = json.loads(review(body(**request), check).body)
    assert (answered["apiVersion"], answered["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response: dict[str, Any] = answered["response"]
    assert response.pop("uid") == "u-1"
    return response


def error(field: str, message: str = "is wrong") -> Problem:
    return Problem("error", ORIGIN, "Wrong", field, message)


def warning(field: str, message: str = "is odd") -> Problem:
    return Problem("warning", ORIGIN, "Odd", field, message)


def test_nothing_wrong_is_allowed() -> None:
    check = Checked()
    assert answer(check) == {"allowed": True}
    assert [(one.metadata.namespace, one.metadata.name) for one in check.asked] == [("shop", "web")]


def test_every_error_is_named_with_its_field_and_warnings_go_beside() -> None:
    check = Checked(error("spec.rules[0].host"), warning("metadata"), error("spec.rules[1].host", "also"))
    assert answer(check, operation="UPDATE", oldObject=OBJECT) == {
        "allowed": False,
        "status": {
            "status": "Failure",
            "code": 400,
            "reason": "BadRequest",
            "message": "spec.rules[0].host: is wrong; spec.rules[1].host: also",
        },
        "warnings": ["metadata: is odd"],
    }


def test_warnings_alone_allow() -> None:
    assert answer(Checked(warning("a"), warning("", "odd"))) == {"allowed": True, "warnings": ["a: is odd", "odd"]}


def test_a_warning_is_one_short_line_of_a_header() -> None:
    check = Checked(warning("a", "x\r\nEvil: 1\x00"), *[warning(f"f{n}", "x" * 500) for n in range(50)])
    warnings = answer(check)["warnings"]
    assert warnings[0] == "a: x??Evil: 1?"
    assert len(warnings) == MAX_WARNINGS
    assert max(map(len, warnings)) == MAX_WARNING


def test_very_many_errors_end_in_a_count() -> None:
    message = answer(Checked(*[error(f"f{n}") for n in range(MAX_ERRORS + 5)]))["status"]["message"]
    assert message.endswith("f19: is wrong; and 5 more errors")


@pytest.mark.parametrize("operation", ["DELETE", "CONNECT"])
def test_other_operations_are_allowed_without_a_look(operation: str) -> None:
    check = Checked(error("x"))
    assert answer(check, operation=operation, object=None, oldObject=OBJECT) == {"allowed": True}
    assert check.asked == []


@pytest.mark.parametrize(
    "request_",
    [
        {"kind": {"group": "", "version": "v1", "kind": "Service"}},
        {"kind": {"group": "example.com", "version": "v1", "kind": "Ingress"}},
        {"subResource": "status"},
    ],
)
def test_other_kinds_and_the_status_are_allowed_without_a_look(request_: dict[str, Any]) -> None:
    check = Checked(error("x"))
    assert answer(check, **request_) == {"allowed": True}
    assert check.asked == []


def test_an_object_that_is_being_deleted_may_lose_its_finalizers() -> None:
    gone = {**OBJECT, "metadata": {**OBJECT["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    check = Checked(error("x"))
    assert answer(check, operation="UPDATE", object=gone) == {"allowed": True}
    assert check.asked == []


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"rules": "none"}, "spec.rules"),
        ({"rules": [{"http": {"paths": [{"path": 5}]}}]}, "spec.rules[0].http.paths[0].path"),
        ([], "spec"),
    ],
)
def test_what_does_not_decode_is_denied_by_field(spec: Any, field: str) -> None:
    check = Checked()
    response = answer(check, object={**OBJECT, "spec": spec})
    assert response["allowed"] is False
    assert response["status"]["message"].startswith(f"{field}: ")
    assert check.asked == []


@pytest.mark.parametrize("found", [None, "text", [], {}, {"metadata": None}])
def test_an_object_that_is_none_is_denied(found: Any) -> None:
    assert answer(Checked(), object=found)["allowed"] is False


@pytest.mark.parametrize(
    ("metadata", "name", "expected"),
    [
        ({"generateName": "cm-acme-http-solver-"}, "", "cm-acme-http-solver-0"),
        ({"generateName": "cm-acme-http-solver-"}, "cm-acme-http-solver-x7k2p", "cm-acme-http-solver-x7k2p"),
        ({"name": "own"}, "other", "own"),
    ],
)
def test_a_name_that_is_not_made_yet(metadata: dict[str, Any], name: str, expected: str) -> None:
    check = Checked()
    assert answer(check, name=name, object={**OBJECT, "metadata": metadata}) == {"allowed": True}
    assert (check.asked[0].metadata.namespace, check.asked[0].metadata.name) == ("shop", expected)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
        b"{}",
        body().replace(b"admission.k8s.io/v1", b"admission.k8s.io/v1beta1"),
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "Review", "request": {"uid": "u", "operation": "CREATE"}}',
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}',
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"operation": "CREATE"}}',
        body(uid=5),
    ],
)
def test_what_is_no_review_has_no_answer(raw: bytes) -> None:
    with pytest.raises(ReviewError):
        review(raw, Checked())


def test_two_reviews_do_not_know_of_each_other() -> None:
    first, second = Checked(error("x")), Checked()
    assert answer(first)["allowed"] is False
    assert answer(second)["allowed"] is True
    assert answer(first)["allowed"] is False
