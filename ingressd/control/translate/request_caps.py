"""A Service's annotations about the requests that one endpoint may have at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingressd.model.problem import Origin, Problem
from ingressd.settings.config import RequestCap
from ingressd.settings.request_cap import ANNOTATIONS, REQUEST_CAP


def cap_of_service(annotations: Mapping[str, str], origin: Origin) -> tuple[RequestCap | None, tuple[Problem, ...]]:
    """What a Service asks for. What cannot be read of it has its default, and without `max-requests` there is no cap.

    A cap bounds work and guards no secret, so a value that cannot be read closes no route.
    """
    problems = []
    found: dict[str, Any] = {}
    for name, (field, parse) in REQUEST_CAP.items():
        key = ANNOTATIONS[name]
        text = annotations.get(key)
        if text is None:
            continue
        try:
            found[field] = parse(text)
        except ValueError as error:
            instead = "there is no cap" if field == "max_requests" else "the default is used"
            problems.append(Problem("error", origin, "InvalidAnnotation", key, f"{error}: {instead}"))
        else:
            if ANNOTATIONS["maxRequests"] not in annotations:
                message = f"it means nothing without {ANNOTATIONS['maxRequests']}"
                problems.append(Problem("warning", origin, "AnnotationWithoutEffect", key, message))
    return RequestCap(**found) if "max_requests" in found else None, tuple(problems)
