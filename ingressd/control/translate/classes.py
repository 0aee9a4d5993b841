"""Which Ingresses are ours: the controller's name decides, through the IngressClass (KEP-1453)."""

from __future__ import annotations

import msgspec

from ingressd.control.objects.kubernetes import Ingress, IngressClass
from ingressd.control.store.store import StoreView
from ingressd.control.translate.annotations.known import CLASS, TRUE
from ingressd.model.problem import Origin, Problem

IS_DEFAULT = "ingressclass.kubernetes.io/is-default-class"


class ClassRule(msgspec.Struct, frozen=True):
    """Everything that ownership is decided by.

    `ours` and `others` are the IngressClasses by controller; `default` is the class that an Ingress without one gets,
    "" if there is none. `name` is the configured class name, which counts where no IngressClass says otherwise.
    """

    name: str = "ingressd"
    ours: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()
    default: str = ""
    without_class: bool = False

    def class_of(self, ingress: Ingress) -> str | None:
        """The class by which an Ingress is ours, "" when it is so without one, None when it is not ours.

        Its field decides, else its legacy annotation, else the default class, else the flag.
        """
        by_field = ingress.spec.ingress_class_name
        if by_field is not None:
            return by_field if by_field in self.ours else None
        by_annotation = ingress.metadata.annotations.get(CLASS)
        # An empty annotation names no class (ingress-nginx, GetIngressClass).
        if by_annotation:
            ours = by_annotation in self.ours or (by_annotation == self.name and by_annotation not in self.others)
            return by_annotation if ours else None
        if self.default:
            return self.default if self.default in self.ours else None
        return "" if self.without_class else None

    def orphan(self, ingress: Ingress) -> Problem | None:
        """The problem of an Ingress that asks for our class by name while no such IngressClass exists."""
        name = ingress.spec.ingress_class_name
        if name is None or name != self.name or name in self.ours or name in self.others:
            return None
        origin = Origin("Ingress", ingress.metadata.namespace, ingress.metadata.name)
        message = f"IngressClass {name} does not exist: the object is nobody's and is not served"
        return Problem("warning", origin, "IngressClassNotFound", "spec.ingressClassName", message)


def class_rule(
    view: StoreView, *, name: str, controller: str, without_class: bool, by_name: bool
) -> tuple[ClassRule, list[Problem]]:
    """The rule of this moment's IngressClasses. With `by_name` the class of that name is ours whoever controls it."""
    ours: set[str] = set()
    others: set[str] = set()
    defaults: list[IngressClass] = []
    for key, found in view.items(IngressClass):
        mine = found.spec.controller == controller or (by_name and key.name == name)
        (ours if mine else others).add(key.name)
        if found.metadata.annotations.get(IS_DEFAULT, "") in TRUE:
            defaults.append(found)
    # The API server's admission gives an Ingress the newest default, then the first by name.
    defaults.sort(key=lambda found: (-_created_s(found), found.metadata.name))
    problems = [
        Problem(
            severity="warning",
            origin=Origin("IngressClass", "", loser.metadata.name),
            reason="SeveralDefaultClasses",
            field=f"metadata.annotations[{IS_DEFAULT}]",
            message=f"IngressClass {defaults[0].metadata.name} is a default too, and is the one that counts",
        )
        for loser in defaults[1:]
    ]
    default = defaults[0].metadata.name if defaults else ""
    return ClassRule(name, frozenset(ours), frozenset(others), default, without_class), problems


def _created_s(found: IngressClass) -> float:
    created = found.metadata.creation_timestamp
    return created.timestamp() if created else 0.0
