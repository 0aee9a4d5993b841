"""Dirty hosts to `VirtualHost` units."""

from __future__ import annotations

from ingressd.control.translate.book import Dirty, DraftBook
from ingressd.control.translate.drafts import ServiceBackend
from ingressd.control.translate.environment import Environment
from ingressd.control.translate.hosts import HostRules, Lookup, assemble_host, global_default
from ingressd.control.translate.ledger import ProblemLedger
from ingressd.control.translate.translation import Snapshot
from ingressd.control.translate.upstreams import DEFAULT_KEY
from ingressd.model.problem import Origin
from ingressd.model.units import Route, VirtualHost

_FLAG = Origin("Config", "", "flags", "default-backend-service")


class RouteUnits:
    """Makes virtual hosts out of the book; keeps nothing."""

    def __init__(self, snapshot: Snapshot, ledger: ProblemLedger) -> None:
        self._snapshot = snapshot
        self._ledger = ledger

    def refresh(
        self, book: DraftBook, environment: Environment, *, dirty: Dirty, lookup: Lookup, flagged: ServiceBackend | None
    ) -> None:
        """Make the dirty hosts again. `flagged` is the backend of flag default-backend-service."""
        for host in dirty.hosts:
            drafts = book.ranked(book.by_host.get(host))
            rules = HostRules(book.has_tls(host), environment.no_tls_redirect)
            vhost, problems = assemble_host(host, drafts, rules=rules, lookup=lookup)
            if not host:
                default, lost = global_default(book.ranked(book.with_default), lookup=lookup)
                default = default or _flag_route(flagged, lookup)
                vhost = VirtualHost(host="", routes=vhost.routes, default=default)
                problems += lost
            there = drafts or vhost.default is not None
            self._snapshot.put(f"host/{host}", vhost if there else None)
            self._ledger.say(("host", host), tuple(problems))


def _flag_route(flagged: ServiceBackend | None, lookup: Lookup) -> Route | None:
    if flagged is None:
        return None
    return Route(
        origin=_FLAG,
        path_type="Prefix",
        path="/",
        upstream=lookup(DEFAULT_KEY, flagged).upstream,
        service=flagged.service,
    )
