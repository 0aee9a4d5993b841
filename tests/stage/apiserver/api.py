"""What each request means: paths and verbs over the storage. Knows nothing of connections and faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from stage.apiserver import answers
from stage.apiserver.answers import ApiFailureError
from stage.apiserver.pages import Pages
from stage.apiserver.resources import Catalogue, Resource, Target
from stage.apiserver.selectors import Select, selecting
from stage.apiserver.storage import Storage, Stored
from stage.apiserver.watching import Send, Sent, Watch
from stage.apiserver.wire import Request

_MERGES = ("application/merge-patch+json", "application/strategic-merge-patch+json")
_VERSION = {"major": "1", "minor": "36", "gitVersion": "v1.36.3-fake", "platform": "linux/amd64"}


class Answered(NamedTuple):
    """A whole answer."""

    code: int
    body: bytes


class Api:
    """The API over one storage. `gone_as` says how a watch from a compacted version ends."""

    def __init__(self, catalogue: Catalogue, sent: Callable[[Sent], None]) -> None:
        self.catalogue = catalogue
        self.storage = Storage()
        self.watches: set[Watch] = set()
        self.gone_as = "event"
        self._pages = Pages()
        self._sent = sent

    def compact(self) -> None:
        """Older versions are gone."""
        self.storage.compact()
        self._pages.forget()

    # ------------------------------------------------------------------ requests
    def verb(self, request: Request) -> str:
        """get, list, watch, create, update, patch, delete; "get" for what is no resource."""
        target = self.catalogue.target(request.path)
        if request.method == "GET":
            if target is None:
                return "get"
            if request.query.get("watch") in ("1", "true"):
                return "watch"
            return "get" if target.name else "list"
        return {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}.get(request.method, "get")

    def answer(self, request: Request) -> Answered:
        """The answer to anything but a watch. Raises ApiFailureError."""
        if request.path == "/version":
            return Answered(200, msgspec.json.encode(_VERSION))
        if request.path in ("/healthz", "/livez", "/readyz"):
            return Answered(200, b"ok")
        target = self.catalogue.target(request.path)
        if target is None:
            return self._discovery(request.path)
        if request.verb == "list":
            return self._list(target, request)
        if request.verb == "get":
            found = self.storage.collection(target.resource).objects.get((target.namespace, target.name))
            if found is None:
                raise answers.not_found(target.resource, target.name)
            partial = _wants_partial(request, "PartialObjectMetadata")
            return Answered(200, found.partial() if partial else found.whole(target.resource))
        if request.verb == "create" and not target.name:
            return Answered(201, self._write(target, request).whole(target.resource))
        if request.verb in ("update", "patch") and target.name:
            return Answered(200, self._write(target, request).whole(target.resource))
        if request.verb == "delete" and target.name and not target.subresource:
            return self._delete(target, request)
        raise ApiFailureError(405, "the server does not allow this method on the requested resource")

    def _discovery(self, path: str) -> Answered:
        """The APIResourceList of a group's version."""
        resources = [one for one in self.catalogue.resources if one.root == path.rstrip("/")]
        if not resources:
            raise answers.no_such_path()
        found = []
        for one in resources:
            verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
            entry = {"name": one.plural, "singularName": "", "namespaced": one.namespaced, "kind": one.kind}
            found.append({**entry, "verbs": verbs})
            if one.status:
                found.append({**entry, "name": f"{one.plural}/status", "verbs": ["get", "patch", "update"]})
        head = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": resources[0].api_version}
        return Answered(200, msgspec.json.encode({**head, "resources": found}))

    # ------------------------------------------------------------------ lists
    def _list(self, target: Target, request: Request) -> Answered:
        query = request.query
        partial = _wants_partial(request, "PartialObjectMetadataList")
        select = selecting(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        version, found, start = self._listed(target, query, select)
        # From the cache of the real one, which ignores the limit for "any version".
        limit = 0 if query.get("resourceVersion") == "0" else int(query.get("limit") or 0)
        page = found[start : start + limit] if limit else found[start:]
        metadata: dict[str, Any] = {"resourceVersion": str(version)}
        left = len(found) - start - len(page)
        if left:
            metadata["continue"] = self._pages.keep(version, found, start + len(page))
            if select is None:
                metadata["remainingItemCount"] = left
        kind, api_version = target.resource.kind, target.resource.api_version
        if partial:
            kind, api_version = "PartialObjectMetadata", "meta.k8s.io/v1"
        head = msgspec.json.encode({"kind": f"{kind}List", "apiVersion": api_version, "metadata": metadata})
        items = b",".join([one.partial() for one in page] if partial else [one.encoded for one in page])
        return Answered(200, b'%s,"items":[%s]}' % (head[:-1], items))

    def _listed(self, target: Target, query: dict[str, str], select: Select | None) -> tuple[int, list[Stored], int]:
        token = query.get("continue", "")
        if token:
            kept = self._pages.take(token)
            if kept is None:
                raise answers.expired_list()
            return kept
        version = self.storage.version
        wanted = int(query.get("resourceVersion") or 0)
        if wanted > version:
            raise answers.from_the_future(wanted, version)
        found = self.storage.collection(target.resource).in_order()
        if target.namespace:
            found = [one for one in found if one.name[0] == target.namespace]
        if select is not None:
            found = [one for one in found if select(one)]
        return version, found, 0

    # ------------------------------------------------------------------ watches
    def watch(self, request: Request, send: Send) -> Watch:
        """A watch that has begun, with everything sent that it starts with. Raises ApiFailureError."""
        target = self.catalogue.target(request.path)
        if target is None or target.subresource:
            raise answers.no_such_path()
        query = request.query
        select = selecting(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        partial = _wants_partial(request, "PartialObjectMetadata")
        bookmarks = query.get("allowWatchBookmarks") in ("1", "true")
        collection = self.storage.collection(target.resource)
        wanted = int(query.get("resourceVersion") or 0)
        gone = wanted and wanted < collection.oldest
        if gone and self.gone_as == "status":
            raise answers.expired_watch(wanted, collection.oldest)
        watch = Watch(
            target, request.path, partial=partial, select=select, bookmarks=bookmarks, send=send, sent=self._sent
        )
        return self._started(watch, wanted, gone=bool(gone), initial=query.get("sendInitialEvents") in ("1", "true"))

    def _started(self, watch: Watch, wanted: int, *, gone: bool, initial: bool) -> Watch:
        self.watches.add(watch)
        # The head of the answer is sent by whoever called us, so the first lines go a moment later.
        collection = self.storage.collection(watch.target.resource)
        present = [] if wanted and not initial else [one for one in collection.in_order() if watch.sees(one)]
        past = [] if present or not wanted else [one for one in collection.history if one.now.version > wanted]
        for one in present:
            watch.event("ADDED", one)
        if initial:
            watch.bookmark(self.storage.version, initial=True)
        if gone:
            watch.error(answers.expired_watch(wanted, collection.oldest).status)
            watch.end()
            return watch
        for change in past:
            watch.change(change)
        collection.watchers.append(watch.change)
        return watch

    def leave(self, watch: Watch) -> None:
        """The client is gone, or the watch has ended."""
        self.watches.discard(watch)
        collection = self.storage.collection(watch.target.resource)
        if watch.change in collection.watchers:
            collection.watchers.remove(watch.change)

    # ------------------------------------------------------------------ writing
    def _write(self, target: Target, request: Request) -> Stored:
        resource = target.resource
        value = _parsed(request.body)
        if request.verb == "patch":
            kind = request.headers.get("content-type", "").partition(";")[0].strip()
            if kind not in _MERGES:
                raise ApiFailureError(415, f"the body of the request was in an unknown format - accepted: {_MERGES}")
            before = self.storage.collection(resource).objects.get((target.namespace, target.name))
            if before is None:
                raise answers.not_found(resource, target.name)
            given = (value.get("metadata") or {}).get("resourceVersion")
            value = _merged(before.value(), value)
            if given is None and resource.plural != "leases":
                value["metadata"].pop("resourceVersion", None)
        metadata = value.setdefault("metadata", {})
        if resource.namespaced and metadata.setdefault("namespace", target.namespace) != target.namespace:
            raise ApiFailureError(400, "the namespace of the provided object does not match the namespace sent")
        if target.name and metadata.setdefault("name", target.name) != target.name:
            raise ApiFailureError(400, "the name of the object does not match the name on the URL")
        self._check_kind(resource, value)
        if request.verb == "create":
            for given in ("uid", "creationTimestamp", "generation"):
                metadata.pop(given, None)
            if resource.status:
                value.pop("status", None)
            return self.storage.create(resource, value)
        return self.storage.replace(resource, value, status=target.subresource == "status")

    @staticmethod
    def _check_kind(resource: Resource, value: dict[str, Any]) -> None:
        given = value.get("apiVersion", resource.api_version), value.get("kind", resource.kind)
        if given != (resource.api_version, resource.kind):
            raise ApiFailureError(
                400, f"{given[0]}, Kind={given[1]} is not a {resource.kind} of {resource.api_version}"
            )

    def _delete(self, target: Target, request: Request) -> Answered:
        options = _parsed(request.body) if request.body else {}
        gone = self.storage.delete(target.resource, (target.namespace, target.name), options.get("preconditions"))
        details = {"name": target.name, "group": target.resource.group, "kind": target.resource.plural}
        details["uid"] = gone.value()["metadata"]["uid"]
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return Answered(200, msgspec.json.encode(status))


def _wants_partial(request: Request, name: str) -> bool:
    """Does `Accept` ask for metadata only? The first clause that the real one would take decides."""
    for clause in (request.accept or "application/json").split(","):
        kind, *parameters = (part.strip() for part in clause.split(";"))
        if kind not in ("application/json", "*/*", "application/*"):
            continue
        pairs = dict(parameter.partition("=")[::2] for parameter in parameters)
        if "as" not in pairs:
            return False
        if pairs.get("g") == "meta.k8s.io" and pairs.get("v") == "v1" and pairs["as"] == name:
            return True
    raise ApiFailureError(406, "only the following media types are accepted: application/json")


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError as exc:
        raise ApiFailureError(400, f"the object provided is unrecognized: {exc}") from None
    if not isinstance(value, dict):
        raise ApiFailureError(400, "the object provided is unrecognized")
    return value


def _merged(value: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    out = dict(value) if isinstance(value, dict) else {}
    for key, item in patch.items():
        if item is None:
            out.pop(key, None)
        else:
            out[key] = _merged(out.get(key), item)
    return out
