"""What is read of a cluster: the kinds, their paths, and what it means when one of them may not be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from ingressd.settings.config import KubernetesConfig


class WatchedKind(NamedTuple):
    """A kind that is listed and watched. `path` is that of its group and version.

    `required`: without it nothing can be served right, so we never become ready. `by_reference`: only the metadata is
    watched; the content is fetched of those objects that somebody looks at.
    """

    kind: str
    path: str
    plural: str
    namespaced: bool = True
    required: bool = True
    by_reference: bool = False


KINDS: Final = (
    WatchedKind("Ingress", "/apis/networking.k8s.io/v1", "ingresses"),
    # Who may not read it serves by the legacy annotation, as ingress-nginx does without a ClusterRole.
    WatchedKind("IngressClass", "/apis/networking.k8s.io/v1", "ingressclasses", namespaced=False, required=False),
    WatchedKind("Service", "/api/v1", "services"),
    WatchedKind("EndpointSlice", "/apis/discovery.k8s.io/v1", "endpointslices"),
    # Who may not list them may still be allowed to get those that are looked at.
    WatchedKind("Secret", "/api/v1", "secrets", required=False, by_reference=True),
    WatchedKind("ConfigMap", "/api/v1", "configmaps", required=False, by_reference=True),
)
BY_REFERENCE: Final = {one.kind: one for one in KINDS if one.by_reference}


class Scope(NamedTuple):
    """One kind in one namespace, or ("") in all of them; `selector` is a label selector."""

    of: WatchedKind
    namespace: str = ""
    selector: str = ""

    @property
    def path(self) -> str:
        """Where it is listed and watched."""
        inside = f"/namespaces/{self.namespace}" if self.namespace else ""
        return f"{self.of.path}{inside}/{self.of.plural}"

    def __str__(self) -> str:
        return f"{self.of.plural} in {self.namespace}" if self.namespace else self.of.plural


def namespaces_of(config: KubernetesConfig, watch_namespace: str) -> tuple[str, ...] | None:
    """The namespaces to read: () is all, None is none at all. The flag `watch-namespace` narrows the configuration."""
    if not watch_namespace:
        return config.namespaces
    if config.namespaces and watch_namespace not in config.namespaces:
        return None
    return (watch_namespace,)


def scopes(config: KubernetesConfig, watch_namespace: str) -> Iterator[Scope]:
    """Everything to list and watch. The selector is about Ingresses, as with other controllers: what they refer to
    carries labels of its own."""
    namespaces = namespaces_of(config, watch_namespace)
    for of in KINDS:
        selector = config.label_selector if of.kind == "Ingress" else ""
        if not of.namespaced or namespaces == ():
            yield Scope(of, "", selector)
        else:
            yield from (Scope(of, namespace, selector) for namespace in namespaces or ())


def path_of(kind: str, namespace: str, name: str) -> str:
    """Where one object of a kind by reference is."""
    of = BY_REFERENCE[kind]
    return f"{of.path}/namespaces/{namespace}/{of.plural}/{name}"
