"""Backends looked up, and the upstreams that somebody uses."""

from __future__ import annotations

from collections.abc import Collection

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import Service, ServiceBackendPort
from ingressd.control.objects.static import StaticUpstream
from ingressd.control.store.store import StoreView
from ingressd.control.translate.book import Dirty, DraftBook, ServiceName
from ingressd.control.translate.drafts import (
    Backend,
    ObjectDraft,
    ResourceBackend,
    ServiceBackend,
    StaticBackend,
    whole,
)
from ingressd.control.translate.environment import FLAGS_KEY, Environment, UpstreamRules
from ingressd.control.translate.index import Index
from ingressd.control.translate.ledger import ProblemLedger
from ingressd.control.translate.services import Resolved, UpstreamUnits, resolve_service, service_units, static_units
from ingressd.control.translate.translation import Snapshot
from ingressd.model.problem import Origin, Problem

DEFAULT_KEY = FLAGS_KEY
"""The object that uses the upstream of flag default-backend-service."""

_NOWHERE = Resolved(None)
_Resolutions = dict[Backend, Resolved] | tuple[Backend, Resolved]
"""Where backends lead. Most objects have one, which is kept as a pair: a dict costs 232 bytes."""


class UpstreamBook:
    """What each object's backends lead to, and who uses each upstream.

    Keyed by object and by upstream name; an upstream goes with its last user, a static one with its object.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.ledger = ProblemLedger()
        self._snapshot = snapshot
        self._resolved: dict[ObjectKey, _Resolutions] = {}
        self._users: Index[str, ObjectKey] = Index()
        self._of_service: Index[ServiceName, str] = Index()
        self._static: set[str] = set()

    def names(self) -> set[str]:
        """The upstreams of Services in use, and every static one."""
        return self._static.union(self._users)

    def of_service(self, service: ServiceName) -> Collection[str]:
        """The upstreams in use that are ports of a Service."""
        return self._of_service.get(service)

    def lookup(self, key: ObjectKey, backend: Backend) -> Resolved:
        """Where a backend of an object leads, as of the last `refresh`."""
        return _as_dict(self._resolved.get(key)).get(backend, _NOWHERE)

    def default_backend(self) -> ServiceBackend | None:
        """The backend of flag default-backend-service, if it leads anywhere."""
        found = _as_dict(self._resolved.get(DEFAULT_KEY))
        return next((b for b, r in found.items() if r.upstream and isinstance(b, ServiceBackend)), None)

    def refresh(self, view: StoreView, book: DraftBook, environment: Environment, *, dirty: Dirty) -> None:
        """Look up the backends of dirty objects again, then make the dirty upstreams again."""
        rules = environment.upstream_rules
        for key in dirty.objects:
            draft = book.drafts.get(key)
            resolved = {} if draft is None else {b: _resolve(view, b, rules) for b in draft.backends()}
            self._set(key, resolved, dirty)
            self.ledger.say(("backends", key), () if draft is None else _backend_problems(draft, resolved))
            if draft is not None:
                dirty.hosts.update(draft.hosts)
                if draft.default is not None:
                    dirty.hosts.add("")
        if "" in dirty.hosts:
            self._refresh_default(view, environment, dirty)
        for name in dirty.upstreams:
            self._refresh_upstream(view, name, rules)

    def _refresh_default(self, view: StoreView, environment: Environment, dirty: Dirty) -> None:
        """Flag default-backend-service: the Service's first port, as in ingress-nginx (getDefaultUpstream)."""
        reference = environment.default_backend
        resolved: dict[Backend, Resolved] = {}
        problems: tuple[Problem, ...] = ()
        if reference:
            namespace, _, name = reference.rpartition("/")
            service = view.find(Service, namespace=namespace, name=name)
            number = service.spec.ports[0].port if service is not None and service.spec.ports else 0
            backend = ServiceBackend(namespace, name, ServiceBackendPort(number=number))
            result = _resolve(view, backend, environment.upstream_rules)
            resolved[backend] = result
            if result.upstream is None:
                origin = Origin("Config", "", "flags")
                message = f"{result.message.partition(': ')[0]}: what no rule takes answers 404"
                problems = (Problem("error", origin, result.reason, "default-backend-service", message),)
        self._set(DEFAULT_KEY, resolved, dirty)
        self.ledger.say(("backends", DEFAULT_KEY), problems)

    def _set(self, key: ObjectKey, resolved: dict[Backend, Resolved], dirty: Dirty) -> None:
        before = _as_dict(self._resolved.get(key))
        if resolved:
            self._resolved[key] = resolved if len(resolved) > 1 else next(iter(resolved.items()))
        else:
            self._resolved.pop(key, None)
        old = {one.upstream for one in before.values() if one.upstream}
        new = {one.upstream for one in resolved.values() if one.upstream}
        for name in old - new:
            self._users.discard(name, key)
            if name not in self._users:
                dirty.upstreams.add(name)
                self._of_service.discard(_service(name), name)
        for name in new - old:
            if name not in self._users:
                dirty.upstreams.add(name)
                self._of_service.add(_service(name), name)
            self._users.add(name, key)

    def _refresh_upstream(self, view: StoreView, name: str, rules: UpstreamRules) -> None:
        units: UpstreamUnits | None = None
        if name.startswith("/"):
            static = view.find(StaticUpstream, name=name[1:])
            units = None if static is None else static_units(static, rules=rules)
            (self._static.discard if units is None else self._static.add)(name)
        elif name in self._users:
            units = service_units(view, name, rules=rules)
        self._snapshot.put(f"upstream/{name}", units and units.upstream)
        self._snapshot.put(f"endpoints/{name}", units and units.endpoints)
        self.ledger.say(("upstream", name), units.problems if units else ())


def _as_dict(found: _Resolutions | None) -> dict[Backend, Resolved]:
    if found is None:
        return {}
    return found if isinstance(found, dict) else {found[0]: found[1]}


def _resolve(view: StoreView, backend: Backend, rules: UpstreamRules) -> Resolved:
    if isinstance(backend, ServiceBackend):
        return resolve_service(view, backend, rules=rules)
    if isinstance(backend, StaticBackend):
        if view.find(StaticUpstream, name=backend.upstream) is not None:
            return Resolved(f"/{backend.upstream}")
        return Resolved(None, "UpstreamNotFound", f"there is no upstream {backend.upstream!r}: the route answers 503")
    return _NOWHERE


def _backend_problems(draft: ObjectDraft, resolved: dict[Backend, Resolved]) -> tuple[Problem, ...]:
    wishes = [wish for routes in draft.hosts.values() for wish in routes]
    if draft.default is not None:
        wishes.append(draft.default)
    found: list[Problem] = []
    for wish in wishes:
        result = resolved[wish.backend]
        if result.upstream is None and not isinstance(wish.backend, ResourceBackend):
            origin = wish.origin
            inside = "" if wish is draft.default else ".backend"
            field = "upstream" if origin.kind == "Config" else f"{origin.rule}{inside}.service"
            found.append(Problem("error", whole(origin), result.reason, field, result.message))
    return tuple(found)


def _service(name: str) -> ServiceName:
    namespace, _, rest = name.partition("/")
    return (namespace, rest.rpartition(":")[0]) if namespace else ("", rest)
