"""What would be wrong with an Ingress if it came now: for the admission webhook, which asks before it is stored.

Nothing is translated for it: the object's own draft is made, and looked up among those in force.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import Ingress
from ingressd.control.store.store import StoreView
from ingressd.control.translate.annotations.known import PREFIX
from ingressd.control.translate.book import DraftBook
from ingressd.control.translate.drafts import ObjectDraft, Rank, RouteDraft, ServiceBackend
from ingressd.control.translate.environment import Environment
from ingressd.control.translate.ingress import draft_ingress
from ingressd.control.translate.refusals import without_blocked_words, without_catch_all
from ingressd.control.translate.services import resolve_service
from ingressd.model.problem import Origin, Problem

_NOT_ITS_FAULT: Final = frozenset({"AnnotationNotBuilt", "FailedClosed"})
"""What we do not do yet is no mistake of the object: a warning."""

# internal/ingress/inspector/rules.go of ingress-nginx.
_PLAIN_PATH: Final = re.compile(r"/[A-Za-z0-9._/-]*").fullmatch


def check_ingress(
    ingress: Ingress, view: StoreView, *, environment: Environment, book: DraftBook
) -> tuple[Problem, ...]:
    """Every error for which the object should be refused, and every warning; nothing for an object that is not ours.

    A path that somebody else has is an error, whoever is the older: what is served now stays where it is. What depends
    on other objects, which may come later, is a warning. `ingress` has its name and namespace.
    """
    scope = environment.scope
    key = ObjectKey("Ingress", ingress.metadata.namespace, ingress.metadata.name)
    if (scope.watch_namespace and key.namespace != scope.watch_namespace) or scope.classes.class_of(ingress) is None:
        return ()
    draft = without_blocked_words(draft_ingress(key, ingress), ingress, scope.blocked_words)
    if scope.disable_catch_all:
        draft = without_catch_all(draft)
    problems = [_lenient(problem) for problem in draft.problems]
    problems += _odd_paths(ingress, strict=environment.strict_path_type)
    for host, routes in draft.hosts.items():
        problems += _conflicts(host, routes, book, key=key)
    problems += _default_conflict(draft, book)
    problems += _other_clients(draft, book)
    problems += _missing_backends(draft, view, environment)
    return tuple(dict.fromkeys(problems))


def _lenient(problem: Problem) -> Problem:
    return msgspec.structs.replace(problem, severity="warning") if problem.reason in _NOT_ITS_FAULT else problem


def _odd_paths(ingress: Ingress, *, strict: bool) -> Iterator[Problem]:
    origin = Origin("Ingress", ingress.metadata.namespace, ingress.metadata.name)
    for index, rule in enumerate(ingress.spec.rules):
        for at, path in enumerate(rule.http.paths if rule.http is not None else ()):
            if path.path_type == "ImplementationSpecific" or not path.path or _PLAIN_PATH(path.path):
                continue
            field = f"spec.rules[{index}].http.paths[{at}].path"
            message = f"path {path.path} cannot be used with pathType {path.path_type}"
            yield Problem("error" if strict else "warning", origin, "StrictPathType", field, message)


def _conflicts(host: str, routes: tuple[RouteDraft, ...], book: DraftBook, *, key: ObjectKey) -> Iterator[Problem]:
    """Paths that another object has, or that the object itself has twice.

    Exact and Prefix of one path are two rules, as in Kubernetes; ingress-nginx's own check compares the path alone.
    """
    paths = {route.path for route in routes}
    live: dict[tuple[str, str], tuple[Rank, Origin]] = {}
    for holder in book.holders(host, paths):
        draft = book.drafts[holder]
        for held in draft.hosts[host]:
            if held.path in paths:
                place = (held.path_type, held.path)
                if place not in live or draft.rank < live[place][0]:
                    live[place] = (draft.rank, held.origin)
    taken = {place: origin for place, (_, origin) in live.items() if not _is(origin, key)}
    for route in routes:
        winner = taken.setdefault((route.path_type, route.path), route.origin)
        if winner is not route.origin:
            yield _taken(host, route, winner)


def _is(origin: Origin, key: ObjectKey) -> bool:
    return origin.name == key.name and origin.namespace == key.namespace and origin.kind == key.kind


def _taken(host: str, route: RouteDraft, winner: Origin) -> Problem:
    if winner.kind == "Config":
        where = "in routes of the configuration file"
    else:
        where = f"in ingress {winner.namespace}/{winner.name}"
    message = f'host "{host or "_"}" and path "{route.path}" is already defined {where}'
    return Problem("error", msgspec.structs.replace(route.origin, rule=""), "PathConflict", _path(route), message)


def _path(route: RouteDraft) -> str:
    return f"{route.origin.rule}.path"


def _default_conflict(draft: ObjectDraft, book: DraftBook) -> Iterator[Problem]:
    if draft.default is None:
        return
    live = min((book.drafts[key] for key in book.with_default), key=lambda one: one.rank, default=None)
    if live is None or live.key == draft.key:
        return
    origin = msgspec.structs.replace(draft.default.origin, rule="")
    message = f"the default backend of hosts that have none of their own is given by {live.key}"
    yield Problem("warning", origin, "DefaultBackendConflict", "spec.defaultBackend", message)


def _other_clients(draft: ObjectDraft, book: DraftBook) -> Iterator[Problem]:
    """Hosts that have another policy for client certificates already: a handshake can ask for one thing only."""
    wish = draft.clients
    for host in draft.asking_hosts:
        others = (book.drafts[key] for key in book.by_asking_host.get(host) if key != draft.key)
        other = min(others, key=lambda one: one.rank, default=None)
        if wish is not None and other is not None and other.clients != wish:
            origin = Origin("Ingress", draft.key.namespace, draft.key.name)
            message = (
                f"host {host or '(any)'} has the client-certificate policy of {other.key} already: the older counts"
            )
            yield Problem("warning", origin, "ClientCertificatesConflict", PREFIX + wish.field, message)


def _missing_backends(draft: ObjectDraft, view: StoreView, environment: Environment) -> Iterator[Problem]:
    wishes = [wish for routes in draft.hosts.values() for wish in routes]
    if draft.default is not None:
        wishes.append(draft.default)
    for wish in wishes:
        if isinstance(wish.backend, ServiceBackend):
            resolved = resolve_service(view, wish.backend, rules=environment.upstream_rules)
            if resolved.upstream is None:
                inside = "" if wish is draft.default else ".backend"
                origin = msgspec.structs.replace(wish.origin, rule="")
                field = f"{wish.origin.rule}{inside}.service"
                yield Problem("warning", origin, resolved.reason, field, resolved.message)
