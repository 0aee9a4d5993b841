"""What is the same for every object: settings, flags, classes. Made anew when one of those objects changes."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import ConfigMap
from ingressd.control.objects.static import Flags, ProcessSettings
from ingressd.control.store.store import StoreView
from ingressd.control.translate.addresses import Addresses, published_addresses
from ingressd.control.translate.class_settings import class_settings
from ingressd.control.translate.classes import ClassRule, class_rule
from ingressd.model.problem import Origin, Problem
from ingressd.model.units import Balancer, HeaderPairs, ProcessPolicy, RoutePolicy
from ingressd.settings.configmap import ParsedSettings, SettingProblem, parse_headers, parse_settings
from ingressd.settings.flags import ProcessFlags, parse_flags

SETTINGS_KEY = ObjectKey("ProcessSettings", "", "settings")
FLAGS_KEY = ObjectKey("Flags", "", "flags")
ENVIRONMENT_KINDS = frozenset(
    {"ProcessSettings", "Flags", "IngressClass", "ConfigMap", "StaticListener", "NodeAddresses"}
)


class Scope(msgspec.Struct, frozen=True):
    """Which Ingresses are served, and how far they reach. `with_policy` are the classes with settings of their own;
    an object that has one of `blocked_words` in an annotation is refused."""

    classes: ClassRule = ClassRule()
    with_policy: frozenset[str] = frozenset()
    watch_namespace: str = ""
    disable_catch_all: bool = False
    blocked_words: tuple[str, ...] = ()


class UpstreamRules(msgspec.Struct, frozen=True):
    """What every upstream has in common. `zone` is ours, for topology hints."""

    balancer: Balancer = "round_robin"
    hash_by: str = ""
    zone: str = ""
    external_names: bool = False


class Environment(msgspec.Struct, frozen=True):
    """References are "namespace/name", "" for none. `route` is the process-wide policy, `class_routes` those of classes
    with parameters. `config_maps` are all that are looked at, existing or not; `refused` are objects that must not
    become the last good."""

    scope: Scope = Scope()
    upstream_rules: UpstreamRules = UpstreamRules()
    process: ProcessPolicy = ProcessPolicy()
    route: RoutePolicy = RoutePolicy()
    class_routes: dict[str, RoutePolicy] = {}
    no_tls_redirect: tuple[str, ...] = ()
    strict_path_type: bool = True
    default_backend: str = ""
    default_certificate: str = ""
    addresses: Addresses | None = ()
    flags: ProcessFlags = ProcessFlags()
    problems: tuple[Problem, ...] = ()
    config_maps: frozenset[ObjectKey] = frozenset()
    refused: frozenset[ObjectKey] = frozenset()

    def route_of(self, class_name: str) -> RoutePolicy:
        """The policy of a class's routes; "" is no class."""
        return self.class_routes.get(class_name, self.route)


def read_environment(view: StoreView) -> Environment:
    """Everything process-wide out of the store. A malformed value is a problem, and that of the last good stands."""
    base = view.get(SETTINGS_KEY)
    settings = base if isinstance(base, ProcessSettings) else ProcessSettings()
    flags, problems, refused = _flags(view)
    sources = _sources(view, settings, flags=flags)
    parsed = parse_settings(sources.values, last_good=sources.last_good)
    setting_problems, refused_settings = _judged(parsed, settings, sources.key)
    problems += sources.problems + setting_problems
    classes, class_problems = class_rule(
        view,
        name=flags.ingress_class or settings.ingress_class,
        controller=flags.controller_class or settings.ingress_controller,
        without_class=flags.watch_ingress_without_class,
        by_name=flags.ingress_class_by_name,
    )
    problems += class_problems
    route = msgspec.convert(parsed.route, RoutePolicy)
    of_classes = class_settings(
        view, classes.ours, process_wide=route, base=sources.values, last_good=sources.last_good
    )
    problems += of_classes.problems
    addresses, address_problems = published_addresses(view, flags, settings)
    problems += address_problems
    return Environment(
        scope=Scope(
            classes=classes,
            with_policy=frozenset(of_classes.policies),
            watch_namespace=flags.watch_namespace,
            disable_catch_all=flags.disable_catch_all,
            blocked_words=parsed.blocked_words,
        ),
        upstream_rules=UpstreamRules(
            balancer=parsed.upstream.get("balancer", "round_robin"),
            hash_by=parsed.upstream.get("hash_by", ""),
            zone=settings.zone,
            external_names=not flags.disable_svc_external_name,
        ),
        process=_process(view, settings, parsed, flags=flags, problems=problems),
        route=route,
        class_routes=of_classes.policies,
        no_tls_redirect=parsed.no_tls_redirect,
        strict_path_type=parsed.strict_path_type,
        default_backend=flags.default_backend_service or "",
        default_certificate=flags.default_ssl_certificate or "",
        addresses=addresses,
        flags=flags,
        problems=tuple(problems),
        config_maps=_named(sources.key, parsed) | of_classes.config_maps,
        refused=refused | refused_settings | of_classes.refused,
    )


def _flags(view: StoreView) -> tuple[ProcessFlags, list[Problem], frozenset[ObjectKey]]:
    current, good = view.get(FLAGS_KEY), view.last_good(FLAGS_KEY)
    values = current.values if isinstance(current, Flags) else {}
    flags, found = parse_flags(values, last_good=good.values if isinstance(good, Flags) else None)
    origin = Origin("Config", "", "flags")
    problems = [_problem(problem, origin) for problem in found]
    return flags, problems, _refusal(found, FLAGS_KEY)


class _Sources(NamedTuple):
    """Where the process-wide settings come from: the ConfigMap `key` (None for none) and the file, whose keys win."""

    key: ObjectKey | None
    values: dict[str, str]
    last_good: dict[str, str]
    problems: list[Problem]


def _sources(view: StoreView, settings: ProcessSettings, *, flags: ProcessFlags) -> _Sources:
    problems: list[Problem] = []
    reference = settings.config_map or flags.configmap or ""
    key = _config_map_key(reference) if reference else None
    current, good = (view.get(key), view.last_good(key)) if key else (None, None)
    mapped = current.data if isinstance(current, ConfigMap) else {}
    if key and current is None:
        place = Origin("Config", "", "settingsConfigMap" if settings.config_map else "flags")
        message = f"ConfigMap {reference} does not exist: its settings are unset"
        problems.append(_warning(place, "ConfigMapNotFound", field="", message=message))
    good_file = view.last_good(SETTINGS_KEY)
    last_good = {
        **(good.data if isinstance(good, ConfigMap) else {}),
        **(good_file.values if isinstance(good_file, ProcessSettings) else {}),
    }
    return _Sources(key, {**mapped, **settings.values}, last_good, problems)


def _judged(
    parsed: ParsedSettings, settings: ProcessSettings, key: ObjectKey | None
) -> tuple[list[Problem], frozenset[ObjectKey]]:
    """What is wrong with the settings, told where they stand, and what must not become the last good."""
    in_file = [problem for problem in parsed.problems if problem.key in settings.values]
    in_map = [problem for problem in parsed.problems if problem.key not in settings.values]
    problems = [_problem(problem, Origin("Config", "", "settings")) for problem in in_file]
    if key is None:
        return problems, _refusal(in_file, SETTINGS_KEY)
    problems += [_problem(problem, Origin(*key), "data.") for problem in in_map]
    return problems, _refusal(in_file, SETTINGS_KEY) | _refusal(in_map, key)


def _named(key: ObjectKey | None, parsed: ParsedSettings) -> frozenset[ObjectKey]:
    """The ConfigMaps that process-wide settings name, and that of the settings."""
    headers = {_config_map_key(reference) for reference in (parsed.add_headers, parsed.set_headers) if reference}
    return frozenset(headers if key is None else {key, *headers})


def _process(
    view: StoreView, settings: ProcessSettings, parsed: ParsedSettings, *, flags: ProcessFlags, problems: list[Problem]
) -> ProcessPolicy:
    values: dict[str, Any] = dict(parsed.process)
    log = {"path": settings.access_log_path, "format": settings.access_log_format}
    values["access_log"] = {**log, **values.get("access_log", {})}
    if flags.shutdown_grace_period_s is not None:
        values["shutdown_grace_period_s"] = flags.shutdown_grace_period_s
    if parsed.add_headers:
        values["add_headers"] = _headers(view, parsed.add_headers, key="add-headers", problems=problems)
    if parsed.set_headers:
        values["set_headers"] = _headers(view, parsed.set_headers, key="proxy-set-headers", problems=problems)
    return msgspec.convert(values, ProcessPolicy)


def _headers(view: StoreView, reference: str, *, key: str, problems: list[Problem]) -> HeaderPairs:
    at = _config_map_key(reference)
    current, good = view.get(at), view.last_good(at)
    if not isinstance(current, ConfigMap):
        message = f"ConfigMap {reference} does not exist: no header is set"
        problems.append(_warning(Origin("Config", "", "settings"), "ConfigMapNotFound", field=key, message=message))
        return ()
    pairs, found = parse_headers(current.data)
    problems += [_problem(problem, Origin("ConfigMap", at.namespace, at.name), "data.") for problem in found]
    if found and isinstance(good, ConfigMap):
        return _repaired(pairs, parse_headers(good.data)[0], broken={problem.key for problem in found})
    return pairs


def _repaired(pairs: HeaderPairs, good: HeaderPairs, *, broken: set[str]) -> HeaderPairs:
    """The headers, with the last good value of those that are broken now."""
    return tuple(sorted({**{name: value for name, value in good if name in broken}, **dict(pairs)}.items()))


def _config_map_key(reference: str) -> ObjectKey:
    namespace, _, name = reference.rpartition("/")
    return ObjectKey("ConfigMap", namespace or "default", name)


def _refusal(found: tuple[SettingProblem, ...] | list[SettingProblem], key: ObjectKey) -> frozenset[ObjectKey]:
    return frozenset({key}) if any(problem.reason == "InvalidValue" for problem in found) else frozenset()


def _problem(found: SettingProblem, origin: Origin, prefix: str = "") -> Problem:
    return Problem(found.severity, origin, found.reason, prefix + found.key, found.message)


def _warning(origin: Origin, reason: str, *, field: str, message: str) -> Problem:
    return Problem("warning", origin, reason, field, message)
