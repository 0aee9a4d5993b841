"""Health checks of an upstream: their keys, in the configuration file and as annotations of a Service.

The file has them under `upstreams.NAME.healthCheck` (`path`, `interval`, …), a Service as
`ingressd.dev/health-check-path` and so on. Both are read here, key by key, from text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from ingressd.settings.config import HealthCheck
from ingressd.settings.section import Section, describe, endpoint_host, split_host_port
from ingressd.settings.values import integer, seconds

PREFIX: Final = "ingressd.dev/health-check-"
MIN_INTERVAL_S: Final = 0.1
"""Nobody's probes come more often."""
MAX_INTERVAL_S: Final = 3600.0
MAX_TIMEOUT_S: Final = 60.0
MAX_THRESHOLD: Final = 100
MAX_PATH_BYTES: Final = 1024

_PATH: Final = re.compile(r"/[!-~]*\Z")
_STATUSES: Final = re.compile(r"([1-9][0-9]{2})(?:-([1-9][0-9]{2}))?\Z")


class Key(NamedTuple):
    """One key: its name in the file, as an annotation behind `PREFIX`, the field, and how its text is read."""

    name: str
    annotation: str
    field: str
    parse: Callable[[str], Any]


def _path(text: str) -> str:
    if _PATH.match(text) is None or "#" in text:
        raise ValueError(f"expected a path like /healthz, got {text!r}")
    if len(text) > MAX_PATH_BYTES:
        raise ValueError(f"expected at most {MAX_PATH_BYTES} bytes")
    return text


def _seconds_between(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = seconds(text)
        if not least <= value <= most:
            raise ValueError(f"expected a time from {least:g}s to {most:g}s, got {text!r}")
        return value

    return parse


def _statuses(text: str) -> tuple[tuple[int, int], ...]:
    out = []
    for part in text.split(","):
        found = _STATUSES.match(part.strip())
        least, most = (int(found[1]), int(found[2] or found[1])) if found is not None else (0, 0)
        if not 200 <= least <= most <= 599:
            raise ValueError(f"expected statuses like 200-399 or 200,204 between 200 and 599, got {text!r}")
        out.append((least, most))
    return tuple(out)


def _host(text: str) -> str:
    if not text:
        return ""
    try:
        host, port = split_host_port(text)
    except ValueError:
        host, port = text, 0
    found = endpoint_host(host)
    found = f"[{found}]" if ":" in found else found
    return f"{found}:{port}" if port else found


KEYS: Final = (
    Key("path", "path", "path", _path),
    Key("interval", "interval", "interval_s", _seconds_between(MIN_INTERVAL_S, MAX_INTERVAL_S)),
    Key("timeout", "timeout", "timeout_s", _seconds_between(MIN_INTERVAL_S, MAX_TIMEOUT_S)),
    Key("healthyThreshold", "healthy-threshold", "healthy_threshold", integer(1, MAX_THRESHOLD)),
    Key("unhealthyThreshold", "unhealthy-threshold", "unhealthy_threshold", integer(1, MAX_THRESHOLD)),
    Key("expectedStatuses", "expected-statuses", "expected_statuses", _statuses),
    Key("host", "host", "host", _host),
)


def read_section(section: Section) -> HealthCheck | None:
    """`healthCheck` of an upstream; None when something in it is wrong, which is noted."""
    section.known(*(key.name for key in KEYS))
    if section.ok and section.get("path") is None:
        section.wrong((), "'path' is missing")
    values: dict[str, Any] = {}
    for key in KEYS:
        raw = section.get(key.name)
        if raw is None:
            continue
        text = _as_text(raw)
        try:
            if text is None:
                raise ValueError(f"expected a string, got {describe(raw)}")
            values[key.field] = key.parse(text)
        except ValueError as error:
            section.wrong((key.name,), str(error))
    return HealthCheck(**values) if section.ok else None


def _as_text(raw: Any) -> str | None:
    """Numbers may be written without quotes, statuses as a list."""
    if isinstance(raw, list):
        parts = [_as_text(item) for item in raw if not isinstance(item, list)]
        return ",".join(part or "" for part in parts)
    if isinstance(raw, bool) or not isinstance(raw, str | int):
        return None
    return str(raw)


class AnnotationMistake(NamedTuple):
    """An annotation that cannot be read, or (`idle`) has no effect."""

    annotation: str
    message: str
    idle: bool = False


def read_annotations(values: Mapping[str, str]) -> tuple[HealthCheck | None, tuple[AnnotationMistake, ...]]:
    """The check that a Service asks for; `values` are keyed as behind `PREFIX`.

    A key that cannot be read has its default; without a path that can be read, nothing is probed.
    """
    if not values:
        return None, ()
    fields: dict[str, Any] = {}
    mistakes = []
    for key in KEYS:
        text = values.get(key.annotation)
        if text is None:
            continue
        try:
            fields[key.field] = key.parse(text.strip())
        except ValueError as error:
            instead = "the default counts" if key.field != "path" else "its endpoints are not probed"
            mistakes.append(AnnotationMistake(key.annotation, f"{error}; {instead}"))
    if "path" in fields:
        return HealthCheck(**fields), tuple(mistakes)
    if "path" not in values:
        message = f"this annotation has no effect without {PREFIX}path"
        mistakes = [AnnotationMistake(key.annotation, message, True) for key in KEYS if key.annotation in values]
    return None, tuple(mistakes)
