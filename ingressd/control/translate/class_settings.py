"""`IngressClass.spec.parameters`: a ConfigMap whose keys are settings of the routes of that class alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import ConfigMap, IngressClass, IngressClassParameters
from ingressd.control.store.store import StoreView
from ingressd.model.problem import Origin, Problem
from ingressd.model.units import RoutePolicy
from ingressd.settings.configmap import is_process_wide, parse_settings

_TWINS: Final = ("allowlist-source-range", "whitelist-source-range")
"""Two names of one setting: whichever a class uses replaces both."""


class ClassSettings(NamedTuple):
    """Policies by class, for those with parameters. `refused` are ConfigMaps that must not become the last good."""

    policies: dict[str, RoutePolicy]
    problems: list[Problem]
    config_maps: frozenset[ObjectKey]
    refused: frozenset[ObjectKey]


def class_settings(
    view: StoreView,
    ours: frozenset[str],
    *,
    process_wide: RoutePolicy,
    base: Mapping[str, str],
    last_good: Mapping[str, str],
) -> ClassSettings:
    """The settings of each class of ours, over the process-wide ones (`base`, with their `last_good` values).

    Parameters that are not there, or that we cannot read, may guard the class: its routes close.
    """
    policies: dict[str, RoutePolicy] = {}
    problems: list[Problem] = []
    config_maps: set[ObjectKey] = set()
    refused: set[ObjectKey] = set()
    for name in sorted(ours):
        found = view.find(IngressClass, name=name)
        parameters = None if found is None else found.spec.parameters
        if parameters is None:
            continue
        fault = _fault(parameters)
        if fault:
            policies[name] = _closed(process_wide, name)
            problems.append(_class_problem(name, "ParametersNotSupported", message=fault))
            continue
        key = ObjectKey("ConfigMap", parameters.namespace, parameters.name)
        config_maps.add(key)
        current, good = view.get(key), view.last_good(key)
        if not isinstance(current, ConfigMap):
            policies[name] = _closed(process_wide, name)
            problems.append(_class_problem(name, "ParametersNotFound", message=f"{key} does not exist"))
            continue
        policy, found_problems = _policy(
            current.data, good.data if isinstance(good, ConfigMap) else {}, key=key, base=base, last_good=last_good
        )
        policies[name] = policy
        problems += found_problems
        if any(problem.reason == "InvalidValue" for problem in found_problems):
            refused.add(key)
    return ClassSettings(policies, problems, frozenset(config_maps), frozenset(refused))


def _fault(parameters: IngressClassParameters) -> str:
    if parameters.api_group or parameters.kind != "ConfigMap":
        kind = f"{parameters.kind}.{parameters.api_group}" if parameters.api_group else parameters.kind
        named = f"{kind or '(none)'} {'/'.join(filter(None, (parameters.namespace, parameters.name)))}"
        return f"{named} is of a kind that is not known here, only ConfigMaps are"
    if parameters.scope != "Namespace" or not parameters.namespace:
        return f"ConfigMap {parameters.name} is named without its namespace: expected scope Namespace and a namespace"
    return "" if parameters.name else f"expected the name of a ConfigMap in namespace {parameters.namespace}"


def _closed(policy: RoutePolicy, name: str) -> RoutePolicy:
    return msgspec.structs.replace(policy, failed_closed=f"spec.parameters of IngressClass {name}")


def _policy(
    mapped: Mapping[str, str],
    good: Mapping[str, str],
    *,
    key: ObjectKey,
    base: Mapping[str, str],
    last_good: Mapping[str, str],
) -> tuple[RoutePolicy, list[Problem]]:
    """The policy of a class, and what is wrong with its ConfigMap. A malformed value falls back to the last good one of
    the class, else to the process-wide one."""
    origin = Origin(*key)
    message = "this key is the same for every route: it has no effect in the parameters of a class"
    problems = [
        Problem("error", origin, "ProcessWideKey", f"data.{name}", message)
        for name in sorted(mapped)
        if is_process_wide(name)
    ]
    own = {name: value for name, value in mapped.items() if not is_process_wide(name)}
    under = {name: value for name, value in base.items() if name not in _TWINS or not own.keys() & set(_TWINS)}
    before = {
        **last_good,
        **{name: base[name] for name in own if name in base},
        **{name: value for name, value in good.items() if name in own},
    }
    parsed = parse_settings({**under, **own}, last_good=before)
    problems += [
        Problem(found.severity, origin, found.reason, f"data.{found.key}", found.message)
        for found in parsed.problems
        if found.key in own
    ]
    return msgspec.convert(parsed.route, RoutePolicy), problems


def _class_problem(name: str, reason: str, *, message: str) -> Problem:
    message += ": every route of the class answers 503"
    return Problem("error", Origin("IngressClass", "", name), reason, "spec.parameters", message)
