"""What we read of Kubernetes' objects. Unknown fields are ignored; absent and null are the default.

Fields are named as in the API (camel case on the wire). Enumerations stay plain strings: translation says which of
them it does not know, and about which object. Never change a dict you find in here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

import msgspec

from ingressd.model.secret import PrivateBytes

SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]


class Metadata(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """What we read of ObjectMeta. `namespace` is "" for cluster-scoped kinds, and filled in ("default") for others."""

    name: str = ""
    namespace: str = ""
    creation_timestamp: Timestamp | None = None
    annotations: dict[str, str] = {}
    generation: int = 0
    resource_version: str = ""
    uid: str = ""


class BriefMetadata(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """What we read of the ObjectMeta of kinds that come in tens of thousands."""

    name: str = ""
    namespace: str = ""
    generation: int = 0
    resource_version: str = ""
    uid: str = ""


class ServiceBackendPort(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """A port of a Service, by name or number; neither is a mistake that translation reports."""

    name: str = ""
    number: int = 0


class IngressServiceBackend(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """The Service of a backend, in the Ingress's namespace."""

    name: str = ""
    port: ServiceBackendPort = ServiceBackendPort()


class TypedLocalObjectReference(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """A `resource` backend."""

    api_group: str = ""
    kind: str = ""
    name: str = ""


class IngressBackend(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """Exactly one of `service` and `resource` should be set."""

    service: IngressServiceBackend | None = None
    resource: TypedLocalObjectReference | None = None


class HTTPIngressPath(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """One path. `path_type` is required by the API and "" when it is missing."""

    path: str = ""
    path_type: str = ""
    backend: IngressBackend = IngressBackend()


class HTTPIngressRuleValue(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """The paths of a rule."""

    paths: tuple[HTTPIngressPath, ...] = ()


class IngressRule(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """`host` "" is every host. `http` None: the host's requests go to the default backend."""

    host: str = ""
    http: HTTPIngressRuleValue | None = None


class IngressTLS(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """No hosts: those of the rules, or the wildcard host of the controller."""

    hosts: tuple[str, ...] = ()
    secret_name: str = ""


class IngressSpec(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """`ingress_class_name` None is "not set", which is not the same as ""."""

    ingress_class_name: str | None = None
    default_backend: IngressBackend | None = None
    rules: tuple[IngressRule, ...] = ()
    tls: tuple[IngressTLS, ...] = ()


class PortStatus(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """A port that an address listens on. `error` "" is none."""

    port: int = 0
    protocol: str = ""
    error: str = ""


class LoadBalancerIngress(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """One address where an object is reached: `ip` or `hostname`."""

    ip: str = ""
    hostname: str = ""
    ports: tuple[PortStatus, ...] = ()


class LoadBalancerStatus(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """The addresses, in the order in which they were written."""

    ingress: tuple[LoadBalancerIngress, ...] = ()


class AddressStatus(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """IngressStatus, and what we read of ServiceStatus."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class Ingress(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """networking.k8s.io/v1. `status` is what the API server has, whoever wrote it; never an input of translation."""

    metadata: Metadata
    spec: IngressSpec = IngressSpec()
    status: AddressStatus = AddressStatus()


class IngressClassParameters(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Where the class's parameters are."""

    api_group: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""
    scope: str = "Cluster"


class IngressClassSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The controller's name decides ownership."""

    controller: str = ""
    parameters: IngressClassParameters | None = None


class IngressClass(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """networking.k8s.io/v1, cluster-scoped."""

    metadata: Metadata
    spec: IngressClassSpec = IngressClassSpec()


class ServicePort(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """`target_port` is a number, the name of a container port, or None for the same as `port`."""

    port: int = 0
    name: str = ""
    protocol: str = "TCP"
    target_port: int | str | None = None
    app_protocol: str = ""


class ClientIPConfig(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """How long a client sticks, in seconds."""

    timeout_seconds: int | None = None


class SessionAffinityConfig(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Parameters of `sessionAffinity: ClientIP`."""

    client_ip: ClientIPConfig | None = msgspec.field(default=None, name="clientIP")


class ServiceSpec(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """`cluster_ip` is "None" for a headless Service."""

    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")
    ip_families: tuple[str, ...] = ()
    external_name: str = ""
    external_ips: tuple[str, ...] = msgspec.field(default=(), name="externalIPs")
    ports: tuple[ServicePort, ...] = ()
    session_affinity: str = "None"
    session_affinity_config: SessionAffinityConfig | None = None


class HealthCheckAnnotations(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The annotations of a Service that we read, those of `settings.health_check.KEYS`; None for one that is not there.

    The others, the content as `kubectl apply` left it among them, would be most of what a Service takes.
    """

    path: str | None = msgspec.field(default=None, name="ingressd.dev/health-check-path")
    interval: str | None = msgspec.field(default=None, name="ingressd.dev/health-check-interval")
    timeout: str | None = msgspec.field(default=None, name="ingressd.dev/health-check-timeout")
    healthy: str | None = msgspec.field(default=None, name="ingressd.dev/health-check-healthy-threshold")
    unhealthy: str | None = msgspec.field(default=None, name="ingressd.dev/health-check-unhealthy-threshold")
    statuses: str | None = msgspec.field(default=None, name="ingressd.dev/health-check-expected-statuses")
    host: str | None = msgspec.field(default=None, name="ingressd.dev/health-check-host")


class ServiceAnnotations(HealthCheckAnnotations, frozen=True, gc=False, omit_defaults=True):
    """Besides, those of `settings.request_cap.ANNOTATIONS`."""

    max_requests: str | None = msgspec.field(default=None, name="ingressd.dev/max-requests")
    max_pending: str | None = msgspec.field(default=None, name="ingressd.dev/max-pending")
    pending_timeout: str | None = msgspec.field(default=None, name="ingressd.dev/pending-timeout")


class ServiceMetadata(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """What we read of a Service's ObjectMeta."""

    name: str = ""
    namespace: str = ""
    annotations: ServiceAnnotations = ServiceAnnotations()
    generation: int = 0
    resource_version: str = ""
    uid: str = ""


class Service(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """v1."""

    metadata: ServiceMetadata
    spec: ServiceSpec = ServiceSpec()
    status: AddressStatus = AddressStatus()


class EndpointConditions(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """None is "unknown": `ready` and `serving` then count as true, `terminating` as false (API reference)."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ForName(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """A zone or a node that an endpoint is meant for."""

    name: str = ""


class EndpointHints(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """Topology hints; empty is no hint."""

    for_zones: tuple[ForName, ...] = ()
    for_nodes: tuple[ForName, ...] = ()


class ObjectReference(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """The object behind an endpoint, a Pod of the slice's namespace: the same in two address families is one Pod."""

    name: str = ""


class SliceEndpoint(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """One endpoint; its addresses are fungible, and clients use the first."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    hints: EndpointHints | None = None
    target_ref: ObjectReference | None = None
    zone: str = ""


class EndpointPort(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """A port of all endpoints of the slice. `port` None is "not restricted", which nothing can be sent to."""

    name: str = ""
    port: int | None = None
    protocol: str = "TCP"


class SliceLabels(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The one label that we read."""

    service: str = msgspec.field(default="", name=SERVICE_NAME_LABEL)


class SliceMetadata(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """What we read of a slice's ObjectMeta; the annotations change with every rollout and mean nothing to us."""

    name: str = ""
    namespace: str = ""
    labels: SliceLabels = SliceLabels()
    generation: int = 0
    resource_version: str = ""
    uid: str = ""


class EndpointSlice(msgspec.Struct, frozen=True, rename="camel", gc=False, omit_defaults=True):
    """discovery.k8s.io/v1."""

    metadata: SliceMetadata
    address_type: str = ""
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()

    @property
    def service(self) -> str:
        """The name of the Service that the slice belongs to, "" for none."""
        return self.metadata.labels.service


class Secret(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """v1. The values of `data` are decoded from base64 and redact themselves. Annotations are not read: `kubectl apply`
    leaves the whole content in one."""

    metadata: BriefMetadata
    type: str = "Opaque"
    data: dict[str, PrivateBytes] = {}


class ConfigMap(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """v1. `binaryData` is not read."""

    metadata: Metadata
    data: dict[str, str] = {}


class NamespaceMetadata(Metadata, frozen=True, rename="camel", gc=False):
    """With the labels, which are read of no other kind."""

    labels: dict[str, str] = {}


class Namespace(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """v1, cluster-scoped; read for its labels."""

    metadata: NamespaceMetadata


KubernetesObject = Ingress | IngressClass | Service | EndpointSlice | Secret | ConfigMap | Namespace
