"""The configuration file as typed, frozen values, with every key of the contract.

Paths are absolute. Unset optional things are None, or the empty tuple, string or mapping. What only makes sense
together with other objects (does a route's upstream exist?) is not decided here but in translation.
"""

from __future__ import annotations

from typing import Literal

import msgspec

PathType = Literal["Exact", "Prefix", "ImplementationSpecific"]
Balancer = Literal["round_robin", "least_request", "ewma", "hash"]
ClientVerification = Literal["on", "off", "optional", "optional_no_ca"]
LogLevel = Literal["debug", "info", "warning", "error"]

CONTROLLER = "ingressd.dev/ingress-controller"
GATEWAY_CONTROLLER = "ingressd.dev/gateway-controller"


class ListenerConfig(msgspec.Struct, frozen=True):
    """One entry of `listeners`. `host` is an IP literal without brackets; "::" is dual stack."""

    name: str
    host: str
    port: int
    protocol: Literal["HTTP", "HTTPS"]


class AdminConfig(msgspec.Struct, frozen=True):
    """The admin listener's address."""

    host: str = "127.0.0.1"
    port: int = 10254


class AdmissionConfig(msgspec.Struct, frozen=True):
    """Where the validating webhook listens, and its certificate. `settings.admission` lays the flags over it."""

    host: str
    port: int
    cert_file: str
    key_file: str


class AccessLogConfig(msgspec.Struct, frozen=True):
    """`path` "-" is stdout and "" switches it off; `format` is "json" or an nginx-style template."""

    path: str = "-"
    format: str = "json"


class LogConfig(msgspec.Struct, frozen=True):
    """The operational log, always on stderr."""

    level: LogLevel = "info"
    format: Literal["text", "json"] = "text"


class IngressClassConfig(msgspec.Struct, frozen=True):
    """The default class name and the controller whose classes are ours."""

    name: str = "ingressd"
    controller: str = CONTROLLER


class EndpointConfig(msgspec.Struct, frozen=True):
    """One endpoint of a static upstream. `host` is an IP literal or a name."""

    host: str
    port: int
    weight: int = 1
    zone: str = ""


class UpstreamTlsConfig(msgspec.Struct, frozen=True):
    """TLS to the endpoints of a static upstream; `server_name` "" sends the request's host."""

    verify: bool = True
    ca_file: str = ""
    verify_depth: int = 1
    server_name: str = ""
    cert_file: str = ""
    key_file: str = ""
    ciphers: str = ""
    protocols: tuple[str, ...] = ("TLSv1.2", "TLSv1.3")


class HealthCheck(msgspec.Struct, frozen=True):
    """How the endpoints of an upstream are probed: `GET path`, expecting one of the ranges of statuses.

    The intervals are from the beginning of a probe to that of the next one. `host` "" is the endpoint's address.
    """

    path: str
    interval_s: float = 5.0
    timeout_s: float = 2.0
    healthy_threshold: int = 1
    unhealthy_threshold: int = 3
    expected_statuses: tuple[tuple[int, int], ...] = ((200, 399),)
    host: str = ""


class RequestCap(msgspec.Struct, frozen=True):
    """How many requests one endpoint may have at a time, from the whole pod; tunnels count while they are open.

    When every endpoint has so many, `max_pending` requests of the pod wait for one, `pending_timeout_s` at most.
    """

    max_requests: int
    max_pending: int = 100
    pending_timeout_s: float = 5.0


class UpstreamConfig(msgspec.Struct, frozen=True):
    """One entry of `upstreams`."""

    name: str
    endpoints: tuple[EndpointConfig, ...]
    balancer: Balancer | None = None
    hash_by: str = ""
    tls: UpstreamTlsConfig | None = None
    health_check: HealthCheck | None = None
    cap: RequestCap | None = None


class RouteConfig(msgspec.Struct, frozen=True):
    """One entry of `routes`. `host` "" is every host; `index` is its place in the file, for positions only."""

    host: str
    path: str
    path_type: PathType
    upstream: str
    index: int


class ClientCertificateConfig(msgspec.Struct, frozen=True):
    """What an entry of `tls` asks of clients, as an Ingress does by `auth-tls-*`. Paths are absolute."""

    ca_file: str
    crl_file: str = ""
    verify: ClientVerification = "on"
    depth: int = 1
    error_page: str = ""
    pass_certificate: bool = False
    match_cn: str = ""


class TlsConfig(msgspec.Struct, frozen=True):
    """One entry of `tls`. Paths are absolute; `name` is `certFile` as written. No hosts: those of the certificate."""

    name: str
    hosts: tuple[str, ...]
    cert_file: str
    key_file: str
    index: int
    clients: ClientCertificateConfig | None = None


class KubernetesConfig(msgspec.Struct, frozen=True):
    """The cluster that objects are read from: by service account (`in_cluster`), or as the file `kubeconfig` says.

    `namespaces` () is all of them. `label_selector` narrows the Ingresses and nothing else. `snapshot_dir` "" keeps
    nothing for a restart while the API server is away.
    """

    kubeconfig: str = ""
    in_cluster: bool = False
    namespaces: tuple[str, ...] = ()
    label_selector: str = ""
    snapshot_dir: str = ""


class Config(msgspec.Struct, frozen=True):
    """The whole configuration file after flags and environment variables have been laid over it.

    `path` is the file, "" when there is none. `settings` and `flags` are as written, every value a string; their
    meaning is in `settings.configmap` and `settings.flags`. `workers` is never 0: the CPU quota when nobody says.
    """

    path: str = ""
    workers: int = 1
    listeners: tuple[ListenerConfig, ...] = ()
    admin: AdminConfig = AdminConfig()
    admission: AdmissionConfig | None = None
    access_log: AccessLogConfig = AccessLogConfig()
    log: LogConfig = LogConfig()
    settings: dict[str, str] = {}
    settings_config_map: str = ""
    flags: dict[str, str] = {}
    ingress_class: IngressClassConfig = IngressClassConfig()
    gateway_controller: str = GATEWAY_CONTROLLER
    listener_ports: dict[int, int] = {}
    zone: str = ""
    manifests: tuple[str, ...] = ()
    kubernetes: KubernetesConfig | None = None
    routes: tuple[RouteConfig, ...] = ()
    upstreams: tuple[UpstreamConfig, ...] = ()
    tls: tuple[TlsConfig, ...] = ()


class ConfigProblem(msgspec.Struct, frozen=True):
    """Something wrong in the file, a flag or a variable.

    `path` is the key path ("routes[0].pathTyp"), or "--workers", or "INGRESSD_WORKERS". `entry` is the path of the
    entry that is left out because of it ("routes[0]", "upstreams.api", "settings.proxy-body-size"); "" means that the
    whole file is refused. `file` is "" and `line` and `column` (1-based) are 0 for flags and variables.
    """

    path: str
    message: str
    entry: str = ""
    file: str = ""
    line: int = 0
    column: int = 0
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: " if self.line else (f"{self.file}: " if self.file else "")
        return f"{where}{self.severity}: {self.path + ': ' if self.path else ''}{self.message}"


class LoadedConfig(msgspec.Struct, frozen=True):
    """What came of reading. `config` is None when the whole file is refused; the problems say why."""

    config: Config | None
    problems: tuple[ConfigProblem, ...] = ()
