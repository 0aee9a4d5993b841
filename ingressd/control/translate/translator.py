"""The translator: which drafts, and then which units, a change makes dirty, and nothing else made again."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ingressd.control.objects.event import AnyObject, ObjectKey
from ingressd.control.objects.kubernetes import ConfigMap, EndpointSlice, Ingress
from ingressd.control.objects.static import (
    Flags,
    ProcessSettings,
    StaticListener,
    StaticRoute,
    StaticTls,
    StaticUpstream,
)
from ingressd.control.store.store import StoreView
from ingressd.control.translate.addresses import published_service, status_of
from ingressd.control.translate.book import Dirty, DraftBook
from ingressd.control.translate.certificates import CertificateReader
from ingressd.control.translate.check import check_ingress
from ingressd.control.translate.client_certificates import ClientUnits
from ingressd.control.translate.drafts import ObjectDraft, class_policy
from ingressd.control.translate.environment import ENVIRONMENT_KINDS, Environment, read_environment
from ingressd.control.translate.ingress import draft_ingress, fall_back
from ingressd.control.translate.refusals import without_blocked_words, without_catch_all
from ingressd.control.translate.routes import RouteUnits
from ingressd.control.translate.secure import CertificateUnits
from ingressd.control.translate.static import draft_route, draft_tls, listener_unit, static_certificate
from ingressd.control.translate.tls_hosts import read_certificate
from ingressd.control.translate.translation import Snapshot, Status, Translation
from ingressd.control.translate.upstreams import UpstreamBook
from ingressd.control.translate.wanted import Wanted
from ingressd.model.problem import Problem

_EVERYTHING = (
    ProcessSettings,
    Flags,
    ConfigMap,
    StaticListener,
    StaticUpstream,
    StaticRoute,
    StaticTls,
    Ingress,
)
"""The kinds that a translation from nothing starts at; the others are looked up by name."""


class Translator:
    """Objects to units. Keeps drafts, units and problems between calls; the answer depends on the view alone.

    Not for several threads. Everything it keeps is keyed by object or unit and goes when the object goes.
    """

    def __init__(self) -> None:
        self._reader = CertificateReader()
        self._memo: dict[ObjectKey, tuple[object, ObjectDraft]] = {}
        self._snapshot = Snapshot()
        self._wanted = Wanted()
        self._reset()

    def _reset(self) -> None:
        self._snapshot.clear()
        self._wanted.reset()
        self._environment: Environment | None = None
        self._book = DraftBook()
        self._upstreams = UpstreamBook(self._snapshot)
        self._certificates = CertificateUnits(self._snapshot, self._upstreams.ledger, self._reader)
        self._clients = ClientUnits(self._snapshot, self._upstreams.ledger)
        self._routes = RouteUnits(self._snapshot, self._upstreams.ledger)
        self._slices: dict[ObjectKey, tuple[str, str]] = {}
        self._statuses: dict[ObjectKey, Status] = {}
        self._status: Status = {}

    def translate(self, view: StoreView, changed: frozenset[ObjectKey] | None) -> Translation:
        """Bring the snapshot up to the view. `changed` are the keys that differ from the view before; None is all."""
        told: set[ObjectKey] = set()
        if changed is None or self._environment is None:
            told.update(self._statuses)
            self._reset()
            self._reader.forget(above=2 * view.count(StaticTls) + 2 * view.count(Ingress) + 64)
            changed = frozenset(key for kind in _EVERYTHING for key in view.keys(kind))
            self._slices = view.services_of_slices()
            before = Environment()
            environment = self._environment = read_environment(view)
        else:
            before = environment = self._environment
            published = published_service(environment.flags)
            if any(key.kind in ENVIRONMENT_KINDS or key == published for key in changed):
                environment = self._environment = read_environment(view)
        dirty = Dirty()
        self._apply_environment(view, before, environment, dirty=dirty)
        for key in sorted(changed):
            self._apply(view, key, environment=environment, dirty=dirty)
        self._certificates.refresh(view, self._book, environment, dirty=dirty)
        self._clients.refresh(view, self._book, dirty=dirty)
        self._wanted.refresh(self._book, environment, dirty=dirty)
        self._upstreams.refresh(view, self._book, environment, dirty=dirty)
        self._routes.refresh(
            self._book,
            environment,
            dirty=dirty,
            lookup=self._upstreams.lookup,
            flagged=self._upstreams.default_backend(),
        )
        self._certificates.refresh_hosts(self._book, environment, dirty=dirty)
        for key in dirty.policies:
            self._report(key, environment)
        told.update(key for key in dirty.policies if key.kind == "Ingress")
        units, removed = self._snapshot.changes()
        return Translation(
            units=self._snapshot.units,
            changed=units,
            removed=removed,
            problems=self._upstreams.ledger.problems(),
            statuses=self._statuses,
            told=frozenset(told),
            flags=environment.flags,
            wanted=self._wanted.keys,
            accepted=self._accepted(view, changed, environment=environment, dirty=dirty),
        )

    def check(self, view: StoreView, ingress: Ingress) -> tuple[Problem, ...]:
        """What would be wrong with an Ingress if it came now (see `check.check_ingress`); changes nothing.

        `view` is that of the last translation. Before the first there is nothing to compare with: RuntimeError.
        """
        if self._environment is None:
            raise RuntimeError("nothing is translated yet")
        return check_ingress(ingress, view, environment=self._environment, book=self._book)

    def _apply_environment(self, view: StoreView, before: Environment, now: Environment, *, dirty: Dirty) -> None:
        fresh = not self._snapshot.units
        if before == now and not fresh:
            return
        book = self._book
        self._snapshot.put("process", now.process)
        self._snapshot.put("policy/", now.route)
        for name in before.class_routes.keys() | now.class_routes.keys():
            self._snapshot.put(f"policy/{class_policy(name)}", now.class_routes.get(name))
        if before.process.proxy_protocol != now.process.proxy_protocol and not fresh:
            for key in view.keys(StaticListener):
                self._put_listener(view, key, now)
        self._upstreams.ledger.say("environment", now.problems)
        self._status = status_of(now.addresses)
        if before.scope != now.scope and not fresh:
            for key in view.keys(Ingress):
                book.put(key, self._draft_of(view, key, now), dirty)
        if before.upstream_rules != now.upstream_rules:
            dirty.objects.update(book.drafts)
            dirty.hosts.add("")
            dirty.upstreams.update(self._upstreams.names())
        if before.no_tls_redirect != now.no_tls_redirect:
            dirty.hosts.update(book.by_host)
        routes_differ = (before.route, before.class_routes) != (now.route, now.class_routes)
        if routes_differ or before.addresses != now.addresses:
            dirty.policies.update(book.drafts)
        if before.default_backend != now.default_backend or fresh:
            dirty.hosts.add("")
        if before.default_certificate != now.default_certificate or fresh:
            dirty.certificates.update(name for name in (before.default_certificate, now.default_certificate) if name)
            dirty.tls_hosts.update(book.by_tls_host, [""])

    def _apply(self, view: StoreView, key: ObjectKey, *, environment: Environment, dirty: Dirty) -> None:
        """What one changed object touches."""
        kind = key.kind
        if kind == "EndpointSlice":
            self._apply_slice(view, key, dirty)
        elif kind == "Service":
            dirty.objects.update(self._book.by_service.get((key.namespace, key.name)))
            dirty.upstreams.update(self._upstreams.of_service((key.namespace, key.name)))
            if environment.default_backend == f"{key.namespace}/{key.name}":
                dirty.hosts.add("")
        elif kind == "StaticUpstream":
            dirty.objects.update(self._book.by_service.get(("", key.name)))
            dirty.upstreams.add(f"/{key.name}")
        elif kind == "Secret":
            dirty.certificates.add(f"{key.namespace}/{key.name}")
        elif kind == "StaticListener":
            self._put_listener(view, key, environment)
        elif kind in ("Ingress", "StaticRoute", "StaticTls"):
            if kind == "StaticTls":
                dirty.certificates.add(static_certificate(key.name))
            self._book.put(key, self._draft_of(view, key, environment), dirty)

    def _put_listener(self, view: StoreView, key: ObjectKey, environment: Environment) -> None:
        found = view.get(key)
        proxy_protocol = environment.process.proxy_protocol
        unit = listener_unit(found, proxy_protocol=proxy_protocol) if isinstance(found, StaticListener) else None
        self._snapshot.put(f"listener/{key.name}", unit)

    def _apply_slice(self, view: StoreView, key: ObjectKey, dirty: Dirty) -> None:
        """A slice touches the Service it belongs to, and the one it belonged to before its label changed."""
        found = view.get(key)
        owners = {self._slices.pop(key, ("", ""))}
        if isinstance(found, EndpointSlice):
            self._slices[key] = _owner(found)
            owners.add(self._slices[key])
        for owner in owners:
            # A slice without the label has the owner (namespace, ""), which no upstream has.
            dirty.upstreams.update(self._upstreams.of_service(owner))

    def _draft_of(self, view: StoreView, key: ObjectKey, environment: Environment) -> ObjectDraft | None:
        """The draft in force for an object, None if it is gone or not ours."""
        found = view.get(key)
        if found is None:
            self._memo.pop(key, None)
            return None
        if isinstance(found, StaticTls):
            # Depends on the last good version too, so it is not remembered by the object alone.
            result = read_certificate(view, static_certificate(key.name), self._reader)
            return draft_tls(key, found, names=result.unit.names if result.unit else ())
        if isinstance(found, Ingress):
            scope = environment.scope
            if scope.watch_namespace and key.namespace != scope.watch_namespace:
                return None
            class_name = scope.classes.class_of(found)
            if class_name is None:
                orphan = scope.classes.orphan(found)
                return _left_out(self._pure_draft(view, key, found), orphan) if orphan else None
            draft = without_blocked_words(self._pure_draft(view, key, found), found, scope.blocked_words)
            if draft.refused:
                good = view.other_good(key)
                if isinstance(good, Ingress):
                    draft = fall_back(draft, without_blocked_words(draft_ingress(key, good), good, scope.blocked_words))
            if class_name in scope.with_policy:
                draft = msgspec.structs.replace(draft, class_name=class_name)
            return without_catch_all(draft) if scope.disable_catch_all else draft
        return self._pure_draft(view, key, found)

    def _pure_draft(self, view: StoreView, key: ObjectKey, found: AnyObject) -> ObjectDraft:
        """The draft that depends on nothing but the object, remembered with it."""
        memo, version = self._memo.get(key), view.resting(key)
        if memo is not None and memo[0] is version:
            return memo[1]
        if isinstance(found, Ingress):
            draft = draft_ingress(key, found)
        elif isinstance(found, StaticRoute):
            draft = draft_route(key, found)
        else:
            raise TypeError(f"{key} has no draft")
        self._memo[key] = (version, draft)
        return draft

    def _report(self, key: ObjectKey, environment: Environment) -> None:
        """What an object is told, its policy, its status."""
        draft = self._book.drafts.get(key)
        self._upstreams.ledger.say(key, draft.problems if draft else ())
        policy = f"policy/{key.namespace}/{key.name}"
        if draft is not None and draft.own_policy:
            base = environment.route_of(draft.class_name)
            closed = draft.failed_closed or base.failed_closed
            own = msgspec.structs.replace(base, **draft.route, failed_closed=closed)
            self._snapshot.put(policy, own)
        elif key.kind == "Ingress":
            self._snapshot.put(policy, None)
        if key.kind != "Ingress":
            return
        if draft is None or draft.left_out:
            self._statuses.pop(key, None)
        else:
            self._statuses[key] = self._status

    def _accepted(
        self, view: StoreView, changed: Iterable[ObjectKey], *, environment: Environment, dirty: Dirty
    ) -> frozenset[ObjectKey]:
        drafts = self._book.drafts
        accepted = {
            key for key in dirty.policies if key.kind == "Ingress" and key in drafts and not drafts[key].refused
        }
        accepted |= self._certificates.accepted(dirty.certificates)
        environmental = {key for key in changed if key.kind in ENVIRONMENT_KINDS} - environment.refused
        return frozenset(key for key in accepted | environmental if view.get(key) is not None)


def _owner(one: EndpointSlice) -> tuple[str, str]:
    return (one.metadata.namespace, one.service)


def _left_out(draft: ObjectDraft, problem: Problem) -> ObjectDraft:
    return ObjectDraft(draft.key, draft.rank, left_out=True, problems=(problem,))
