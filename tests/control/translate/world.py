"""Objects out of the YAML that people write, and a store and translator to put them into."""

from __future__ import annotations

from typing import Any

import yaml

from ingressd.control.objects.decode import decode_value
from ingressd.control.objects.event import AnyObject, ObjectEvent, ObjectKey
from ingressd.control.store.store import Store
from ingressd.control.translate.translation import Translation
from ingressd.control.translate.translator import Translator

CLASS = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: ingressd}
spec: {controller: ingressd.dev/ingress-controller}
"""


def decode(text: str) -> list[tuple[ObjectKey, Any]]:
    """The Kubernetes objects of a YAML stream."""
    return [decode_value(document["kind"], document) for document in yaml.safe_load_all(text) if document]


class World:
    """Changes in, translations out."""

    def __init__(self) -> None:
        self.store = Store()
        self.translator = Translator()

    def put(self, *texts: str, static: dict[ObjectKey, AnyObject] | None = None) -> Translation:
        """Objects come or change."""
        objects = [pair for text in texts for pair in decode(text)]
        return self.apply([ObjectEvent(key, value) for key, value in [*objects, *(static or {}).items()]])

    def delete(self, *keys: ObjectKey) -> Translation:
        """Objects go."""
        return self.apply([ObjectEvent(key, None) for key in keys])

    def apply(self, events: list[ObjectEvent]) -> Translation:
        """One change."""
        changed = self.store.apply(events)
        translation = self.translator.translate(self.store.snapshot(), changed)
        self.store.accept(translation.accepted)
        return translation
