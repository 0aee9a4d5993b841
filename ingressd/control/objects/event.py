"""Keys, positions and events: what sources yield and the store keeps."""

from __future__ import annotations

from typing import Final, NamedTuple

from ingressd.control.objects.kubernetes import KubernetesObject
from ingressd.control.objects.static import StaticObject
from ingressd.model.problem import Origin

AnyObject = KubernetesObject | StaticObject


class ObjectKey(NamedTuple):
    """The stable name of an object. `kind` is the name of its struct ("Ingress", "StaticRoute"); orders by itself.

    `namespace` is "" for cluster-scoped and static objects.
    """

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class Position(NamedTuple):
    """Where an object was read from. Never part of its content.

    `line` is 1-based. `document` counts the documents of the file from 0; `path` leads from the document's root to the
    object: ("items", 3) in a List, ("routes", 0) in the configuration file, () for a document that is the object.
    """

    file: str
    line: int = 1
    document: int = 0
    path: tuple[str | int, ...] = ()


class ObjectEvent(NamedTuple):
    """An object appeared or changed, or is gone (`object` None)."""

    key: ObjectKey
    object: AnyObject | None
    position: Position | None = None


NODES_KEY: Final = ObjectKey("NodeAddresses", "", "nodes")
"""Of the one `NodeAddresses`."""

_ENTRIES: Final = {
    "routes": "StaticRoute",
    "upstreams": "StaticUpstream",
    "tls": "StaticTls",
    "listeners": "StaticListener",
    "admission": "StaticAdmission",
}


def key_of_origin(origin: Origin) -> ObjectKey:
    """The key of the object that an origin names. What the configuration file says of no entry is `ProcessSettings`."""
    if origin.kind != "Config":
        return ObjectKey(origin.kind, origin.namespace, origin.name)
    if origin.name in _ENTRIES:
        return ObjectKey(_ENTRIES[origin.name], "", origin.rule)
    return ObjectKey("Flags", "", "flags") if origin.name == "flags" else ObjectKey("ProcessSettings", "", "settings")
