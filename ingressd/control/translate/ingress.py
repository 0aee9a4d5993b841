"""One Ingress to its draft: a pure function of the object alone, so that it can be remembered with it."""

from __future__ import annotations

import functools
from typing import Any, Final

import msgspec

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import Ingress, IngressBackend
from ingressd.control.translate.annotations.client_certificates import ClientsDraft
from ingressd.control.translate.annotations.report import report_annotations
from ingressd.control.translate.drafts import (
    Backend,
    ObjectDraft,
    Rank,
    ResourceBackend,
    RouteDraft,
    ServiceBackend,
    TlsDraft,
    whole,
)
from ingressd.control.translate.validate import ingress_faults, plain_path
from ingressd.model.problem import Origin, Problem

_NO_TLS: Final[dict[str, TlsDraft]] = {}


def draft_ingress(key: ObjectKey, ingress: Ingress) -> ObjectDraft:
    """The draft of an Ingress that is ours. Never raises for a mistake in the object: the draft's problems tell."""
    origin = Origin("Ingress", key.namespace, key.name)
    created = ingress.metadata.creation_timestamp
    rank = Rank(True, created.timestamp() if created else 0.0, key.namespace, key.name)
    report = report_annotations(ingress.metadata.annotations, origin=origin)
    clients = report.clients
    problems = list(report.problems)
    faults = ingress_faults(ingress)
    problems += [_error(origin, "InvalidIngress", field=field, message=message) for field, message in faults]
    if faults or report.refused or report.left_out:
        refused = bool(faults) or report.refused
        return ObjectDraft(
            key,
            rank,
            failed_closed=report.failed_closed,
            clients=clients,
            left_out=True,
            refused=refused,
            problems=tuple(problems),
        )
    hosts = _hosts(ingress, key, problems=problems)
    return ObjectDraft(
        key,
        rank,
        hosts=hosts,
        default=_default(ingress, key, problems=problems),
        tls=_tls(ingress, key, hosts=hosts),
        failed_closed=report.failed_closed,
        route=_asking(report.route, clients),
        clients=clients,
        problems=tuple(problems),
    )


def fall_back(broken: ObjectDraft, good: ObjectDraft | None) -> ObjectDraft:
    """What serves in place of a refused version: the last good one, under the problems of the broken.

    A security policy never falls back: if the broken version has one that is not honoured, the good one's routes close.
    """
    if good is None or good.refused:
        return broken
    kept = Problem(
        severity="warning",
        origin=Origin("Ingress", broken.key.namespace, broken.key.name),
        reason="LastGoodKept",
        field="",
        message="this version is refused; the last good version of the object goes on serving",
    )
    clients = broken.clients or good.clients
    return msgspec.structs.replace(
        good,
        route=_asking(good.route, clients),
        refused=True,
        failed_closed=broken.failed_closed or good.failed_closed,
        clients=clients,
        problems=(*broken.problems, kept),
    )


def _asking(route: dict[str, Any], clients: ClientsDraft | None) -> dict[str, Any]:
    """The routes' fields, marked when their object asks for client certificates."""
    return {**route, "client_certificates": True} if clients is not None and clients.verify != "off" else route


def _hosts(ingress: Ingress, key: ObjectKey, *, problems: list[Problem]) -> dict[str, tuple[RouteDraft, ...]]:
    found: dict[str, list[RouteDraft]] = {}
    backends: dict[Backend, Backend] = {}  # One object for all routes to the same place.
    for index, rule in enumerate(ingress.spec.rules):
        host = rule.host.lower()
        if rule.http is None:
            # "If unspecified, the rule defaults to a catch-all": IngressRuleValue in the API reference.
            found.setdefault(host, [])
            if ingress.spec.default_backend is None:
                origin = Origin("Ingress", key.namespace, key.name, f"spec.rules[{index}]")
                message = "a rule without `http` goes to `defaultBackend`, and the object has none"
                problems.append(_error(origin, "NoBackend", field=f"spec.rules[{index}].http", message=message))
            continue
        routes = found.setdefault(host, [])
        for at, path in enumerate(rule.http.paths):
            field = _field_of_path(index, at)
            origin = Origin("Ingress", key.namespace, key.name, field)
            backend = _backend(path.backend, origin, problems=problems)
            routes.append(
                RouteDraft(
                    "Exact" if path.path_type == "Exact" else "Prefix",
                    plain_path(path.path or "/", path_type=path.path_type),
                    backends.setdefault(backend, backend),
                    origin,
                )
            )
    return {host: tuple(routes) for host, routes in found.items()}


def _default(ingress: Ingress, key: ObjectKey, *, problems: list[Problem]) -> RouteDraft | None:
    backend = ingress.spec.default_backend
    if backend is None:
        return None
    origin = Origin("Ingress", key.namespace, key.name, "spec.defaultBackend")
    return RouteDraft("Prefix", "/", _backend(backend, origin, problems=problems), origin)


@functools.lru_cache(maxsize=1024)
def _field_of_path(rule: int, path: int) -> str:
    """The same string for the same place in every object."""
    return f"spec.rules[{rule}].http.paths[{path}]"


def _backend(backend: IngressBackend, origin: Origin, *, problems: list[Problem]) -> Backend:
    if backend.service is not None:
        return ServiceBackend(origin.namespace, backend.service.name, backend.service.port)
    resource = backend.resource
    described = f"{resource.kind}.{resource.api_group} {resource.name}" if resource else "nothing"
    message = f"backends of kind resource ({described}) are not supported: the route answers 404"
    inside = "" if origin.rule == "spec.defaultBackend" else ".backend"
    problems.append(_error(origin, "ResourceBackend", field=f"{origin.rule}{inside}.resource", message=message))
    return ResourceBackend(described)


def _tls(ingress: Ingress, key: ObjectKey, *, hosts: dict[str, tuple[RouteDraft, ...]]) -> dict[str, TlsDraft]:
    if not ingress.spec.tls:
        return _NO_TLS
    wishes: dict[str, TlsDraft] = {}
    secrets = tuple(dict.fromkeys(tls.secret_name for tls in ingress.spec.tls if tls.secret_name))
    names = tuple(f"{key.namespace}/{secret}" for secret in secrets)
    for index, tls in enumerate(ingress.spec.tls):
        field = f"spec.tls[{index}]"
        origin = Origin("Ingress", key.namespace, key.name, field)
        own = (f"{key.namespace}/{tls.secret_name}",) if tls.secret_name else ()
        for host in tls.hosts:
            wishes.setdefault(host.lower(), TlsDraft(own, True, origin, field))
    # A host that no entry lists is served with the certificate that covers it, else with the default one, and is
    # redirected like the listed ones (ingress-nginx, extractTLSSecretName and createServers).
    origin = Origin("Ingress", key.namespace, key.name, "spec.tls")
    for host in hosts:
        if host:
            wishes.setdefault(host, TlsDraft(names, False, origin, "spec.tls"))
    return wishes


def _error(origin: Origin, reason: str, *, field: str, message: str) -> Problem:
    return Problem(severity="error", origin=whole(origin), reason=reason, field=field, message=message)
