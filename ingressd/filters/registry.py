"""All filters, in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ingressd.filters import (
    connection_header,
    gzip,
    hsts,
    request_headers,
    response_headers,
    source_ranges,
    ssl_redirect,
)
from ingressd.filters.base import AnnotationFault, FilterSpec, ParsedAnnotations, RequestFilter, ResponseFilter
from ingressd.model.units import ProcessPolicy, Route, RoutePolicy

FILTERS: Final[tuple[FilterSpec, ...]] = (
    ssl_redirect.SPEC,
    source_ranges.SPEC,
    request_headers.SPEC,
    connection_header.SPEC,
    response_headers.SPEC,
    hsts.SPEC,
    gzip.SPEC,
)

ANNOTATIONS: Final = frozenset(name for spec in FILTERS for name, _ in spec.annotations)
"""Every annotation that a filter honours, without prefix."""


def parse_annotations(annotations: Mapping[str, str]) -> ParsedAnnotations:
    """What an object's annotations (without prefix) set, all filters together."""
    route: dict[str, Any] = {}
    faults: list[AnnotationFault] = []
    for spec in FILTERS:
        if spec.parse_annotations is not None:
            parsed = spec.parse_annotations(annotations)
            route.update(parsed.route)
            faults += parsed.faults
    return ParsedAnnotations(route, tuple(faults))


def compile_filters(
    process: ProcessPolicy, policy: RoutePolicy, route: Route | None
) -> tuple[tuple[RequestFilter, ...], tuple[ResponseFilter, ...]]:
    """The filters that have something to do on this route; `route` None: on answers to requests that match no route."""
    requests = [spec.compile_request(process, policy, route) for spec in FILTERS if spec.compile_request is not None]
    responses = [spec.compile_response(process, policy, route) for spec in FILTERS if spec.compile_response is not None]
    return (
        tuple(compiled for compiled in requests if compiled is not None),
        tuple(compiled for compiled in responses if compiled is not None),
    )


def settings_documentation() -> tuple[tuple[str, str, str], ...]:
    """(setting, filter, one line) for each setting a filter serves, for the generated documentation."""
    return tuple((setting, spec.name, line) for spec in FILTERS for setting, line in spec.settings)
