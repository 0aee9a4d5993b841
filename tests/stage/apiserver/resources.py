"""Which resources there are, and what a path of the API names."""

from __future__ import annotations

from typing import Final, NamedTuple


class Resource(NamedTuple):
    """One resource type. `status`: it has the /status subresource."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    status: bool = False

    @property
    def api_version(self) -> str:
        """As in an object's `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """/api/v1 or /apis/GROUP/VERSION."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"

    @property
    def qualified(self) -> str:
        """As messages name it: ingresses.networking.k8s.io."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


_GATEWAY: Final = "gateway.networking.k8s.io"
RESOURCES: Final = (
    Resource("", "v1", "namespaces", "Namespace", namespaced=False, status=True),
    Resource("", "v1", "nodes", "Node", namespaced=False, status=True),
    Resource("", "v1", "pods", "Pod", status=True),
    Resource("", "v1", "services", "Service", status=True),
    Resource("", "v1", "endpoints", "Endpoints"),
    Resource("", "v1", "secrets", "Secret"),
    Resource("", "v1", "configmaps", "ConfigMap"),
    Resource("", "v1", "serviceaccounts", "ServiceAccount"),
    Resource("", "v1", "events", "Event"),
    Resource("events.k8s.io", "v1", "events", "Event"),
    Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    Resource("networking.k8s.io", "v1", "ingresses", "Ingress", status=True),
    Resource("networking.k8s.io", "v1", "ingressclasses", "IngressClass", namespaced=False),
    Resource("coordination.k8s.io", "v1", "leases", "Lease"),
    Resource(_GATEWAY, "v1", "gatewayclasses", "GatewayClass", namespaced=False, status=True),
    Resource(_GATEWAY, "v1", "gateways", "Gateway", status=True),
    Resource(_GATEWAY, "v1", "httproutes", "HTTPRoute", status=True),
    Resource(_GATEWAY, "v1", "grpcroutes", "GRPCRoute", status=True),
    Resource(_GATEWAY, "v1beta1", "referencegrants", "ReferenceGrant"),
)


class Target(NamedTuple):
    """What a path names. `namespace` "" is all of them, `name` "" a collection, `subresource` "" the object itself."""

    resource: Resource
    namespace: str
    name: str
    subresource: str


class Catalogue:
    """The resources of one server, by path and by object."""

    def __init__(self, more: tuple[Resource, ...] = ()) -> None:
        self.resources = (*RESOURCES, *more)
        self._by_path = {(one.root, one.plural): one for one in self.resources}
        self._by_kind = {(one.api_version, one.kind): one for one in self.resources}
        self._by_name = {one.kind: one for one in reversed(self.resources)}

    def of_object(self, value: dict[str, object]) -> Resource:
        """The resource of an object by its `apiVersion` and `kind`."""
        return self._by_kind[str(value["apiVersion"]), str(value["kind"])]

    def of_kind(self, kind: str) -> Resource:
        """The resource of a kind ("Event" is the core one), or of "apiVersion/Kind"."""
        api_version, _, name = kind.rpartition("/")
        return self._by_kind[api_version, name] if api_version else self._by_name[kind]

    def target(self, path: str) -> Target | None:
        """What a path names, None for nothing that we have."""
        parts = path.strip("/").split("/")
        size = 2 if parts[0] == "api" else 3
        root, rest = "/" + "/".join(parts[:size]), parts[size:]
        namespace = ""
        if len(rest) > 2 and rest[0] == "namespaces" and (root, rest[2]) in self._by_path:
            namespace, rest = rest[1], rest[2:]
        if not rest or len(rest) > 3:
            return None
        resource = self._by_path.get((root, rest[0]))
        name, subresource = ([*rest[1:], "", ""])[:2]
        if resource is None or (namespace and not resource.namespaced):
            return None
        if resource.namespaced and name and not namespace:
            return None
        if subresource and not (subresource == "status" and resource.status):
            return None
        return Target(resource, namespace, name, subresource)
