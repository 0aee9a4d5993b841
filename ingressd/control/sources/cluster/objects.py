"""Kinds that are read whole: from the bytes of a list or a watch to events, or to a problem of that one object."""

from __future__ import annotations

from typing import Final

import msgspec

from ingressd.control.objects.decode import DecodeError, decode_json
from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import KubernetesObject
from ingressd.control.sources.cluster.kinds import Scope
from ingressd.control.sources.cluster.outbox import Outbox
from ingressd.model.problem import Origin, Problem

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


class Objects:
    """A `Receiver`. An object that cannot be decoded keeps the version that was told last."""

    def __init__(self, outbox: Outbox) -> None:
        self.problems: dict[ObjectKey, Problem] = {}
        self._outbox = outbox

    def put(self, key: ObjectKey, version: str, raw: msgspec.Raw) -> None:
        """Decode it and tell it."""
        try:
            value = decode_object(key, raw)
        except DecodeError as error:
            self.problems[key] = refused_object(key, error)
            self._outbox.stir()
            return
        self.problems.pop(key, None)
        self._outbox.put(key, value)

    def gone(self, key: ObjectKey) -> None:
        """Tell that it is gone."""
        self.problems.pop(key, None)
        self._outbox.put(key, None)

    def listed(self, scope: Scope) -> None:
        """Nothing waits for that."""


def decode_object(key: ObjectKey, data: bytes | msgspec.Raw) -> KubernetesObject:
    """An object without the copy of itself that `kubectl apply` leaves in it. Raises DecodeError."""
    _, value = decode_json(key.kind, data)
    annotations = getattr(value.metadata, "annotations", None)
    if isinstance(annotations, dict):
        # Ours alone until it is told: nobody has seen the dict yet.
        annotations.pop(LAST_APPLIED, None)
    return value


def refused_object(key: ObjectKey, error: DecodeError) -> Problem:
    """The problem of an object that is not what its kind says."""
    return Problem("error", Origin(key.kind, key.namespace, key.name), "InvalidObject", error.field, error.message)
