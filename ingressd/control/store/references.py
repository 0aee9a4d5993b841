"""Which objects an Ingress names."""

from __future__ import annotations

from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import Ingress, IngressBackend


def references_of(ingress: Ingress) -> frozenset[ObjectKey]:
    """The Services and Secrets named in an Ingress's spec, all of its own namespace, existing or not."""
    namespace = ingress.metadata.namespace
    names = {ObjectKey("Secret", namespace, tls.secret_name) for tls in ingress.spec.tls if tls.secret_name}
    backends: list[IngressBackend] = [] if ingress.spec.default_backend is None else [ingress.spec.default_backend]
    for rule in ingress.spec.rules:
        if rule.http is not None:
            backends.extend(path.backend for path in rule.http.paths)
    for backend in backends:
        if backend.service is not None and backend.service.name:
            names.add(ObjectKey("Service", namespace, backend.service.name))
    return frozenset(names)
