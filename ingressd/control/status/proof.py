"""Whether the status of an Ingress is what we wrote, as the API server remembers it. No I/O."""

from __future__ import annotations

from typing import Any

import msgspec


class _FieldsEntry(msgspec.Struct, rename={"fields": "fieldsV1"}):
    """Of metav1.ManagedFieldsEntry, which says who set fields last."""

    manager: str = ""
    subresource: str = ""
    fields: dict[str, Any] = {}


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    managed_fields: tuple[_FieldsEntry, ...] = ()


class _Ingress(msgspec.Struct):
    metadata: _Metadata


class _List(msgspec.Struct):
    items: tuple[_Ingress, ...] | None = None


def proven_version(body: bytes, manager: str) -> str:
    """The version of an Ingress, in a list of it alone, whose addresses are those that `manager` wrote; "" when
    somebody else did.

    `status.loadBalancer.ingress` is an atomic list: whoever sets it to something else owns it whole, and alone if that
    was no apply (https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy).
    """
    try:
        found = msgspec.json.decode(body, type=_List).items or ()
    except msgspec.DecodeError:
        return ""
    for metadata in (one.metadata for one in found):
        if {one.manager for one in metadata.managed_fields if _has_addresses(one)} == {manager}:
            return metadata.resource_version
    return ""


def _has_addresses(one: _FieldsEntry) -> bool:
    found: Any = one.fields if one.subresource == "status" else {}
    for name in ("f:status", "f:loadBalancer", "f:ingress"):
        found = found.get(name) if isinstance(found, dict) else None
    return found is not None
