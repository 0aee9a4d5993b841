"""Drafts of one host to its `VirtualHost`: merged, the losers told who won."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from ingressd.control.objects.event import ObjectKey
from ingressd.control.translate.drafts import (
    Backend,
    ObjectDraft,
    ResourceBackend,
    RouteDraft,
    ServiceBackend,
    whole,
)
from ingressd.control.translate.services import Resolved
from ingressd.model.problem import Origin, Problem
from ingressd.model.units import Route, VirtualHost

Lookup = Callable[[ObjectKey, Backend], Resolved]


class HostRules(msgspec.Struct, frozen=True):
    """What a host's routes have in common. Paths that begin with one of `no_tls_redirect` are not redirected."""

    has_tls: bool = False
    no_tls_redirect: tuple[str, ...] = ()


def assemble_host(
    host: str, drafts: Sequence[ObjectDraft], *, rules: HostRules, lookup: Lookup
) -> tuple[VirtualHost, list[Problem]]:
    """Merge the drafts of a host, which come in order of rank. For one path type and path the first wins."""
    problems: list[Problem] = []
    winners: dict[tuple[str, str], Route] = {}
    default: Route | None = None
    for draft in drafts:
        for wish in draft.hosts.get(host, ()):
            winner = winners.get((wish.path_type, wish.path))
            if winner is None:
                winners[wish.path_type, wish.path] = make_route(wish, draft, rules=rules, lookup=lookup)
            else:
                problems.append(_lost(host, wish, winner.origin))
        if draft.default is not None and host:
            if default is None:
                default = make_route(draft.default, draft, rules=rules, lookup=lookup)
            else:
                problems.append(_default_lost(draft.default, default.origin, where=f"of host {host}"))
    routes = sorted(winners.values(), key=_precedence)
    return VirtualHost(host=host, routes=tuple(routes), default=default), problems


def make_route(wish: RouteDraft, draft: ObjectDraft, *, rules: HostRules, lookup: Lookup) -> Route:
    """The route of a draft, whether or not its backend leads anywhere."""
    backend = wish.backend
    return Route(
        origin=wish.origin,
        path_type=wish.path_type,
        path=wish.path,
        upstream=lookup(draft.key, backend).upstream,
        status=404 if isinstance(backend, ResourceBackend) else 503,
        policy=draft.policy,
        has_tls=rules.has_tls and not wish.path.startswith(rules.no_tls_redirect),
        service=backend.service if isinstance(backend, ServiceBackend) else "",
    )


def global_default(drafts: Sequence[ObjectDraft], *, lookup: Lookup) -> tuple[Route | None, list[Problem]]:
    """The default that takes what no rule of any host takes: that of the first draft, in order of rank."""
    problems: list[Problem] = []
    winner: Route | None = None
    for draft in drafts:
        if draft.default is None:
            continue
        if winner is None:
            winner = make_route(draft.default, draft, rules=HostRules(), lookup=lookup)
        else:
            problems.append(
                _default_lost(draft.default, winner.origin, where="of the hosts that have none of their own")
            )
    return winner, problems


def _precedence(route: Route) -> tuple[int, str, bool]:
    """Longer paths first, Exact before Prefix: the order in which `explain` and people read them."""
    return (-route.path.rstrip("/").count("/"), route.path, route.path_type != "Exact")


def _lost(host: str, wish: RouteDraft, winner: Origin) -> Problem:
    return Problem(
        severity="error",
        origin=whole(wish.origin),
        reason="PathConflict",
        field=f"{wish.origin.rule}.path" if wish.origin.kind == "Ingress" else "path",
        message=f"{wish.path_type} {host or '(any host)'}{wish.path} is already taken by {winner}, which comes first",
    )


def _default_lost(wish: RouteDraft, winner: Origin, *, where: str) -> Problem:
    message = f"the default backend {where} is already taken by {winner}, which comes first"
    return Problem("warning", whole(wish.origin), "DefaultBackendConflict", wish.origin.rule, message)
