"""The objects, their versions and what happened to them. One version counter for all, as etcd has."""

from __future__ import annotations

import datetime
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from stage.apiserver import answers
from stage.apiserver.resources import Resource

Name = tuple[str, str]
"""Namespace ("" of a cluster-scoped object) and name."""


class Stored(NamedTuple):
    """One version of an object. `encoded` is its JSON without `kind` and `apiVersion`, ready to be sent in a list."""

    name: Name
    version: int
    labels: dict[str, str]
    encoded: bytes

    def value(self) -> dict[str, Any]:
        """The object, without `kind` and `apiVersion`; the caller's own."""
        found: dict[str, Any] = msgspec.json.decode(self.encoded)
        return found

    def whole(self, resource: Resource) -> bytes:
        """The JSON of the object by itself."""
        head = b'{"kind":"%s","apiVersion":"%s",' % (resource.kind.encode(), resource.api_version.encode())
        return head + self.encoded[1:]

    def partial(self) -> bytes:
        """The JSON of its PartialObjectMetadata."""
        metadata = msgspec.json.decode(self.encoded, type=_OnlyMetadata).metadata
        return b'{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":' + bytes(metadata) + b"}"


class _OnlyMetadata(msgspec.Struct):
    metadata: msgspec.Raw


class Change(NamedTuple):
    """What happened: `now` is the object at `version` (for a deletion with its last content), `before` what it was."""

    type: str
    now: Stored
    before: Stored | None


class Collection:
    """All objects of one resource, and what happened to them since the last compaction."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.objects: dict[Name, Stored] = {}
        self.history: deque[Change] = deque()
        self.oldest = 0
        self.watchers: list[Callable[[Change], None]] = []
        self._sorted: list[Stored] | None = None

    def in_order(self) -> list[Stored]:
        """Everything by namespace and name, not to be changed: a list taken before a change stays as it was."""
        if self._sorted is None:
            self._sorted = sorted(self.objects.values())
        return self._sorted

    def record(self, change: Change) -> None:
        """Keep a change and tell it to the watchers."""
        if change.type == "DELETED":
            self.objects.pop(change.now.name, None)
        else:
            self.objects[change.now.name] = change.now
        self._sorted = None
        self.history.append(change)
        for watcher in list(self.watchers):
            watcher(change)

    def load(self, stored: Iterable[Stored]) -> None:
        """Take many objects as if they had been there for long: no history, no events."""
        self.objects.update((one.name, one) for one in stored)
        self._sorted = None


class Storage:
    """Every collection, and the rules of writing."""

    def __init__(self) -> None:
        self.version = 1000
        self._collections: dict[Resource, Collection] = {}

    def collection(self, resource: Resource) -> Collection:
        """The collection of a resource."""
        found = self._collections.get(resource)
        if found is None:
            found = self._collections[resource] = Collection(resource)
            found.oldest = self.version
        return found

    def compact(self) -> None:
        """Forget everything that happened: versions before the present one are gone."""
        self.version += 1
        for collection in self._collections.values():
            collection.history.clear()
            collection.oldest = self.version

    # ------------------------------------------------------------------ writing
    def load(self, resource: Resource, values: Iterable[dict[str, Any]]) -> None:
        """Put many objects in at once."""
        found = []
        for value in values:
            self.version += 1
            found.append(self._stored(resource, _identified(resource, value), self.version))
        self.collection(resource).load(found)

    def create(self, resource: Resource, value: dict[str, Any]) -> Stored:
        """Add an object; a creation time that it has is kept. Raises ApiFailureError (409)."""
        metadata = value["metadata"]
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        collection = self.collection(resource)
        name = _name(resource, value)
        if name in collection.objects:
            raise answers.already_exists(resource, name[1])
        if metadata.get("resourceVersion"):
            raise answers.ApiFailureError(
                500, "resourceVersion should not be set on objects to be created", reason="Unknown"
            )
        return self._write("ADDED", resource, _identified(resource, value), before=None)

    def replace(self, resource: Resource, value: dict[str, Any], *, status: bool) -> Stored:
        """Write an object anew; `status` writes only its status and leaves everything else but metadata. Raises
        ApiFailureError (404, 409, 422)."""
        name = _name(resource, value)
        before = self.collection(resource).objects.get(name)
        if before is None:
            raise answers.not_found(resource, name[1])
        old = before.value()
        metadata = {**value["metadata"]}
        given = str(metadata.pop("resourceVersion", "") or "")
        if given and given != str(before.version):
            raise answers.conflict(resource, name[1])
        if not given and resource.plural == "leases":
            raise answers.invalid(
                resource, name[1], "metadata.resourceVersion", "Invalid value: 0: must be specified for an update"
            )
        if metadata.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
            raise answers.conflict(resource, name[1], "Precondition failed: UID in precondition does not match")
        for kept in ("uid", "creationTimestamp", "generation", "namespace"):
            metadata.pop(kept, None)
            if kept in old["metadata"]:
                metadata[kept] = old["metadata"][kept]
        if status:
            value = {**old, "metadata": metadata, "status": value.get("status") or {}}
        else:
            value = {**value, "metadata": metadata}
            if resource.status:
                value.pop("status", None)
                value.update({"status": old["status"]} if "status" in old else {})
            if _content(value) != _content(old):
                metadata["generation"] = old["metadata"].get("generation", 1) + 1
        value.pop("kind", None)
        value.pop("apiVersion", None)
        if {**value, "metadata": {**metadata, "resourceVersion": str(before.version)}} == old:
            return before  # As the real one: a write that changes nothing makes no version and no event.
        return self._write("MODIFIED", resource, value, before=before)

    def delete(self, resource: Resource, name: Name, preconditions: dict[str, Any] | None = None) -> Stored:
        """Take an object away. Raises ApiFailureError (404, 409)."""
        collection = self.collection(resource)
        before = collection.objects.get(name)
        if before is None:
            raise answers.not_found(resource, name[1])
        value = before.value()
        for field in ("uid", "resourceVersion"):
            wanted = (preconditions or {}).get(field)
            if wanted and wanted != value["metadata"][field]:
                raise answers.conflict(resource, name[1], f"Precondition failed: {field} does not match")
        return self._write("DELETED", resource, value, before=before)

    def _write(self, kind: str, resource: Resource, value: dict[str, Any], *, before: Stored | None) -> Stored:
        self.version += 1
        stored = self._stored(resource, value, self.version)
        self.collection(resource).record(Change(kind, stored, before))
        return stored

    @staticmethod
    def _stored(resource: Resource, value: dict[str, Any], version: int) -> Stored:
        metadata = {**value["metadata"], "resourceVersion": str(version)}
        rest = {key: item for key, item in value.items() if key not in ("kind", "apiVersion", "metadata")}
        encoded = msgspec.json.encode({"metadata": metadata, **rest})
        return Stored(_name(resource, value), version, dict(metadata.get("labels") or {}), encoded)


def _name(resource: Resource, value: dict[str, Any]) -> Name:
    metadata = value["metadata"]
    return (metadata.get("namespace") or "default") if resource.namespaced else "", metadata["name"]


def _identified(resource: Resource, value: dict[str, Any]) -> dict[str, Any]:
    """With what the server adds: namespace, uid, creation time, generation."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    added = {"uid": str(uuid.uuid4()), "creationTimestamp": now, "generation": 1}
    metadata = {**added, **value["metadata"]}
    if resource.namespaced:
        metadata.setdefault("namespace", "default")
    return {**value, "metadata": metadata}


def _content(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key not in ("kind", "apiVersion", "metadata", "status")}
