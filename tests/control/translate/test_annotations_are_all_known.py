"""Every annotation ends in exactly one fate, and no security policy in the wrong one."""

import pytest

from ingressd.control.translate.annotations.known import GUARDS, KNOWN, OFF, PLAIN, PREFIX, SNIPPETS, SWITCHES
from ingressd.control.translate.annotations.report import MAX_UNKNOWN, report_annotations
from ingressd.model.problem import Origin

ORIGIN = Origin("Ingress", "default", "web")


def test_the_lists_do_not_overlap_and_hold_every_snippet() -> None:
    assert not PLAIN & GUARDS
    assert SNIPPETS <= PLAIN | GUARDS
    assert len(KNOWN) > 120


@pytest.mark.parametrize("name", KNOWN)
def test_each_is_reported_by_name(name: str) -> None:
    report = report_annotations({PREFIX + name: "x"}, origin=ORIGIN)
    assert [problem.field for problem in report.problems] == [PREFIX + name]
    assert bool(report.failed_closed) == (name in GUARDS)
    assert report.refused == (name in SNIPPETS)


@pytest.mark.parametrize("value", sorted(OFF))
@pytest.mark.parametrize("name", sorted(SWITCHES))
def test_a_switch_that_is_off_closes_nothing(name: str, value: str) -> None:
    report = report_annotations({PREFIX + name: value}, origin=ORIGIN)
    assert report.failed_closed == ""
    assert [problem.severity for problem in report.problems] == ["warning"]


@pytest.mark.parametrize("name", ["auth-url", "whitelist-source-range", "auth-tls-secret", "enable-modsecurity"])
def test_an_empty_guard_is_malformed_and_closes(name: str) -> None:
    assert report_annotations({PREFIX + name: ""}, origin=ORIGIN).failed_closed == PREFIX + name


@pytest.mark.parametrize(("value", "closed"), [("HTTPS", True), ("grpcs", True), ("HTTP", False), ("GRPC", False)])
def test_tls_to_upstreams_is_a_guard(value: str, closed: bool) -> None:
    assert bool(report_annotations({PREFIX + "backend-protocol": value}, origin=ORIGIN).failed_closed) == closed


def test_annotations_of_others_are_not_ours() -> None:
    assert report_annotations({"example.com/x": "y", "kubernetes.io/ingress.class": "z"}, origin=ORIGIN).problems == ()


def test_thousands_of_unknown_ones_are_counted_and_a_few_named() -> None:
    annotations = {f"{PREFIX}zz{number:04}": "" for number in range(MAX_UNKNOWN + 7)}
    problems = report_annotations(annotations, origin=ORIGIN).problems
    assert len(problems) == MAX_UNKNOWN + 1
    assert [p.message for p in problems if p.field == "metadata.annotations"] == ["7 more unknown annotations"]


def test_a_guard_behind_thousands_of_unknown_ones_still_closes() -> None:
    annotations = {f"{PREFIX}aa{number:04}": "" for number in range(MAX_UNKNOWN + 7)}
    report = report_annotations({**annotations, PREFIX + "auth-url": "http://a"}, origin=ORIGIN)
    assert report.failed_closed == PREFIX + "auth-url"
