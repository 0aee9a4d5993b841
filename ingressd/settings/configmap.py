"""ingress-nginx's ConfigMap keys: parsed, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec


class SettingProblem(msgspec.Struct, frozen=True):
    """One key that does not do what was asked: malformed, unknown or not built yet. The default or last good stands."""

    key: str
    message: str
    reason: Literal["InvalidValue", "UnknownKey", "NotBuilt"]
    severity: Literal["error", "warning"] = "error"


class ParsedSettings(msgspec.Struct, frozen=True):
    """Only what was set, as plain values by field name, ready for `msgspec.convert` into the model.

    `process` → ProcessPolicy (nested: `tls`, `gzip`, `hsts`, `access_log` hold only the fields that were set, except
    that `gzip` and `hsts` may be None), `route` → RoutePolicy, `upstream` → defaults of Upstream (`balancer`).
    `add_headers` and `set_headers` name the ConfigMaps ("namespace/name") whose `data` are the header pairs, "" for
    none: give their data to `parse_headers`. `log_level` is that of the operational log, None when not set.
    """

    process: dict[str, Any] = {}
    route: dict[str, Any] = {}
    upstream: dict[str, Any] = {}
    add_headers: str = ""
    set_headers: str = ""
    log_level: str | None = None
    problems: tuple[SettingProblem, ...] = ()


def parse_settings(values: Mapping[str, str], *, last_good: Mapping[str, str] | None = None) -> ParsedSettings:
    """Parse a ConfigMap's `data` or the file's `settings`. A malformed value falls back to that of `last_good`."""
    raise NotImplementedError


def parse_headers(
    values: Mapping[str, str],
) -> tuple[tuple[tuple[str, str], ...], tuple[SettingProblem, ...]]:
    """The data of a ConfigMap that `add-headers` or `proxy-set-headers` names, as header pairs in order of name."""
    raise NotImplementedError


def settings_reference() -> str:
    """The table of all keys as Markdown, for docs/settings.md."""
    raise NotImplementedError
