"""All filters, in the order in which they run."""

from __future__ import annotations

from typing import Final

from ingressd.filters import gzip, hsts, request_headers, response_headers, ssl_redirect
from ingressd.filters.base import FilterSpec, RequestFilter, ResponseFilter
from ingressd.model.units import ProcessPolicy, Route, RoutePolicy

FILTERS: Final[tuple[FilterSpec, ...]] = (
    ssl_redirect.SPEC,
    request_headers.SPEC,
    response_headers.SPEC,
    hsts.SPEC,
    gzip.SPEC,
)


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
