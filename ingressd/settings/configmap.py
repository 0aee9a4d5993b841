"""ingress-nginx's ConfigMap keys: parsed into plain values by the model's field names, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from ingressd.settings import values as v
from ingressd.settings.configmap_later import NGINX_ONLY, NOT_BUILT
from ingressd.settings.configmap_table import BUILT, GZIP_TYPES, SETTINGS
from ingressd.settings.nearest import did_you_mean
from ingressd.settings.setting import Setting

HeaderPairs = tuple[tuple[str, str], ...]

MAX_HINTS: Final = 16
"""Unknown keys for which the nearest known one is looked for: a ConfigMap may have thousands."""

ACME_LOCATION: Final = "/.well-known/acme-challenge"
_FRAMING: Final = frozenset(
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"]
)
_HSTS: Final = {
    "hsts-max-age": "max_age_s",
    "hsts-include-subdomains": "include_subdomains",
    "hsts-preload": "preload",
}
_GZIP: Final = {
    "gzip-level": "level",
    "gzip-min-length": "min_length_bytes",
    "gzip-types": "types",
    "gzip-disable": "disable_user_agents",
}


_FOR_ROUTES: Final = frozenset(
    {
        *(setting.key for setting in BUILT if setting.group == "route"),
        *("disable-access-log", "disable-http-access-log", "retry-non-idempotent"),
    }
)


class SettingProblem(msgspec.Struct, frozen=True):
    """One key that does not do what was asked: malformed, unknown or not built yet. The default or last good stands."""

    key: str
    message: str
    reason: Literal["InvalidValue", "UnknownKey", "NotBuilt"]
    severity: Literal["error", "warning"] = "error"


class ParsedSettings(msgspec.Struct, frozen=True):
    """Only what was set, as plain values by field name, ready for `msgspec.convert` into the model.

    `process` → ProcessPolicy (nested: `tls`, `gzip`, `hsts`, `access_log` hold only the fields that were set, except
    that `gzip` and `hsts` may be None), `route` → RoutePolicy, `upstream` → defaults of Upstream (`balancer`,
    `hash_by`). `add_headers` and `set_headers` name the ConfigMaps ("namespace/name") whose `data` are the header
    pairs, "" for none: give their data to `parse_headers`. Routes whose path begins with one of `no_tls_redirect` are
    not redirected to HTTPS. An Ingress with one of `blocked_words` in an annotation is refused; `strict_path_type` is
    for the admission webhook.
    """

    process: dict[str, Any] = {}
    route: dict[str, Any] = {}
    upstream: dict[str, Any] = {}
    add_headers: str = ""
    set_headers: str = ""
    no_tls_redirect: tuple[str, ...] = (ACME_LOCATION,)
    blocked_words: tuple[str, ...] = ()
    strict_path_type: bool = True
    problems: tuple[SettingProblem, ...] = ()


def parse_settings(values: Mapping[str, str], *, last_good: Mapping[str, str] | None = None) -> ParsedSettings:
    """Parse a ConfigMap's `data` or the file's `settings`. A malformed value falls back to that of `last_good`.

    Two things fail closed instead: a malformed `proxy-real-ip-cidr` trusts nobody, and a key that guards routes and is
    malformed or not built sets `failed_closed` in `route`.
    """
    problems: list[SettingProblem] = []
    parsed: dict[str, Any] = {}
    guarded: str | None = None
    unknown = 0
    for key in sorted(values):
        setting = SETTINGS.get(key)
        if setting is None:
            unknown += 1
            hint = did_you_mean(key, SETTINGS) if unknown <= MAX_HINTS else ""
            problems.append(SettingProblem(key, f"unknown key{hint}", "UnknownKey"))
        elif setting.parse is None:
            problem = _not_acted_on(setting, values[key].strip())
            if problem is not None:
                problems.append(problem)
                if setting.guards:
                    guarded = guarded or key
        elif not _parse_one(setting, values[key], last_good or {}, into=(parsed, problems)) and setting.guards:
            guarded = guarded or key
    return _arranged(parsed, guarded=guarded, problems=tuple(problems))


def is_process_wide(key: str) -> bool:
    """Whether a key is honoured and is the same for every route, so that it cannot be set for one class of them."""
    setting = SETTINGS.get(key)
    return setting is not None and setting.parse is not None and key not in _FOR_ROUTES


def parse_headers(values: Mapping[str, str]) -> tuple[HeaderPairs, tuple[SettingProblem, ...]]:
    """The data of a ConfigMap that `add-headers` or `proxy-set-headers` names, as header pairs in order of name.

    Refused: what is no header name, what would change the framing of a message, values with control characters
    (CR, LF, NUL: header injection), and nginx variables, which are not built yet.
    """
    pairs: list[tuple[str, str]] = []
    problems: list[SettingProblem] = []
    for name in sorted(values):
        value = values[name].strip(" \t")
        try:
            v.header_name(name)
            v.no_control(value)
            value.encode("latin-1")
            if name.lower() in _FRAMING:
                raise ValueError("this field belongs to the connection and cannot be set")
        except UnicodeEncodeError:
            problems.append(SettingProblem(name, "characters outside ISO 8859-1", "InvalidValue"))
        except ValueError as exc:
            problems.append(SettingProblem(name, str(exc), "InvalidValue"))
        else:
            if "$" in value:
                problems.append(SettingProblem(name, f"nginx variables are not built yet: {value!r}", "NotBuilt"))
            else:
                pairs.append((name, value))
    return tuple(pairs), tuple(problems)


def settings_reference() -> str:
    """The table of all keys as Markdown, for docs/settings.md."""
    built = [f"| `{s.key}`{' (ours)' if s.ours else ''} | {_code(s.default)} | {s.about} |" for s in BUILT]
    later = [f"| `{s.key}` | {_code(s.default)} | {s.about}{_taken(s)} |" for s in NOT_BUILT]
    nginx = [f"| `{s.key}` | {s.about} |" for s in NGINX_ONLY]
    return "\n".join(
        [
            "| key | default | what it does |\n|---|---|---|",
            *built,
            "\nKnown, not built yet: reported as an error by name, unless the value asks for what we do anyway.\n",
            "| key | ingress-nginx's default | what it would do |\n|---|---|---|",
            *later,
            "\nAbout nginx's own machinery: accepted with a warning, without effect.\n",
            "| key | about |\n|---|---|",
            *nginx,
            "",
        ]
    )


def _code(text: str) -> str:
    return f"`{text}`" if text else "(empty)"


def _taken(setting: Setting) -> str:
    words = [_code(word) for word in setting.as_we_do]
    taken = f"; taken: {', '.join(words)}" if words else ""
    return taken + ("; while it is set, every route answers 503" if setting.guards else "")


def _not_acted_on(setting: Setting, value: str) -> SettingProblem | None:
    if setting.group == "nginx only":
        return SettingProblem(setting.key, f"has no effect here: {setting.about}", "NotBuilt", "warning")
    if value in setting.as_we_do:
        return None
    closed = "; every route answers 503 while it is set" if setting.guards else ""
    return SettingProblem(setting.key, f"not built yet{closed}", "NotBuilt")


def _parse_one(
    setting: Setting, text: str, last_good: Mapping[str, str], *, into: tuple[dict[str, Any], list[SettingProblem]]
) -> bool:
    """Parse a value; whether it was good."""
    parsed, problems = into
    assert setting.parse is not None
    try:
        parsed[setting.key] = setting.parse(text)
        return True
    except ValueError as exc:
        closed = "; every route that it guards answers 503" if setting.guards else ""
        problems.append(SettingProblem(setting.key, f"{exc}{closed}", "InvalidValue"))
    if setting.key == "proxy-real-ip-cidr":
        parsed[setting.key] = ()
    elif setting.key in last_good and not setting.guards:
        try:
            parsed[setting.key] = setting.parse(last_good[setting.key])
        except ValueError:
            pass  # It was refused then too, and said so; the default stands.
    return False


def _arranged(parsed: dict[str, Any], *, guarded: str | None, problems: tuple[SettingProblem, ...]) -> ParsedSettings:
    groups: dict[str, dict[str, Any]] = {"process": {}, "route": {}, "upstream": {}}
    for key, value in parsed.items():
        setting = SETTINGS[key]
        if setting.field:
            outer, _, inner = setting.field.rpartition(".")
            group = groups[setting.group]
            (group.setdefault(outer, {}) if outer else group)[inner] = value
    process, route, upstream = groups["process"], groups["route"], groups["upstream"]
    if "large-client-header-buffers" in parsed:
        count, each = parsed["large-client-header-buffers"]
        process.update(request_line_bytes=each, field_line_bytes=each, head_bytes=count * each)
    if parsed.get("hsts") is False:
        process["hsts"] = None
    elif inner_values := _renamed(parsed, _HSTS):
        process["hsts"] = inner_values
    if "use-gzip" in parsed:
        gzip = {"types": v.media_types(GZIP_TYPES), **_renamed(parsed, _GZIP)}
        process["gzip"] = gzip if parsed["use-gzip"] else None
    if level := parsed.get("error-log-level"):
        process["log_level"] = level
    if access_log := _access_log(parsed):
        process["access_log"] = access_log
    if parsed.get("disable-access-log") or parsed.get("disable-http-access-log"):
        route["access_log"] = False
    if parsed.get("retry-non-idempotent"):
        route["next_upstream"] = (*route.get("next_upstream", ("error", "timeout")), "non_idempotent")
    if parsed.get("allowlist-source-range"):
        route["allowed_sources"] = parsed["allowlist-source-range"]
    if parsed.get("upstream-hash-by"):
        upstream.update(balancer="hash", hash_by=parsed["upstream-hash-by"])
    if guarded is not None:
        route["failed_closed"] = guarded
    return ParsedSettings(
        process=process,
        route=route,
        upstream=upstream,
        add_headers=parsed.get("add-headers", ""),
        set_headers=parsed.get("proxy-set-headers", ""),
        no_tls_redirect=parsed.get("no-tls-redirect-locations", (ACME_LOCATION,)),
        blocked_words=parsed.get("annotation-value-word-blocklist", ()),
        strict_path_type=parsed.get("strict-validate-path-type", True),
        problems=problems,
    )


def _renamed(parsed: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {field: parsed[key] for key, field in names.items() if key in parsed}


def _access_log(parsed: Mapping[str, Any]) -> dict[str, Any]:
    names = {"log-format-upstream": "format", "skip-access-log-urls": "skip_urls"}
    out = {field: value for field, value in _renamed(parsed, names).items() if value}
    for key in ("http-access-log-path", "access-log-path"):
        if parsed.get(key):
            out["path"] = parsed[key]
            break
    if parsed.get("log-format-escape-json"):
        out["escape"] = "json"
    elif parsed.get("log-format-escape-none"):
        out["escape"] = "none"
    return out
