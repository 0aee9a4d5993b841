"""The units of a snapshot.

Every unit has a stable key made of names, never of an index, so that a change of one object changes the units of that
object and no other. Durations are float seconds (`_s`), sizes are ints (`_bytes`), unset is None.

| unit | key |
|---|---|
| `ProcessPolicy` | `process` |
| `Listener` | `listener/NAME` |
| `VirtualHost` | `host/HOST` (`host/` takes every host that no other takes; `host/*.example.com` one label more) |
| `RoutePolicy` | `policy/NAME` (`policy/` is the process-wide default) |
| `Upstream` | `upstream/NAMESPACE/SERVICE:PORT` (static: `upstream//NAME`) |
| `Endpoints` | `endpoints/` + the upstream's name |
| `Certificate` | `certificate/NAMESPACE/NAME` (static: `certificate//CERTFILE`) |
| `TlsHost` | `tls/HOST` (`tls/` is the default certificate) |
| `ClientCertificates` | `clients/HOST` (hosts as of `VirtualHost`) |
| `ClientAuthority` | `authority/NAMESPACE/NAME` (static: `authority//CERTFILE` of the entry of `tls`) |
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ingressd.model.problem import Origin
from ingressd.model.secret import PrivateBytes
from ingressd.settings.config import HealthCheck, RequestCap

PathType = Literal["Exact", "Prefix"]
ClientVerification = Literal["on", "off", "optional", "optional_no_ca"]
Balancer = Literal["round_robin", "least_request", "ewma", "hash"]
HeaderPairs = tuple[tuple[str, str], ...]


class Listener(msgspec.Struct, frozen=True, tag="Listener"):
    """A bound address and port. `declared_port` is the port the outside sees (X-Forwarded-Port)."""

    name: str
    host: str
    port: int
    protocol: Literal["HTTP", "HTTPS"]
    declared_port: int
    proxy_protocol: bool = False


class AccessLog(msgspec.Struct, frozen=True):
    """`path` "-" is stdout, "" switches it off; `format` is "json" or an nginx-style template (`$remote_addr - …`)."""

    path: str = "-"
    format: str = "json"
    escape: Literal["default", "json", "none"] = "default"
    skip_urls: tuple[str, ...] = ()


class TlsPolicy(msgspec.Struct, frozen=True):
    """Process-wide TLS options, in the words of ingress-nginx's ConfigMap (`ssl-protocols`, `ssl-ciphers`, …)."""

    protocols: tuple[str, ...] = ("TLSv1.2", "TLSv1.3")
    ciphers: str = ""
    session_tickets: bool = False
    session_cache: bool = True
    session_timeout_s: float = 600.0
    reject_unknown_sni: bool = False


class GzipPolicy(msgspec.Struct, frozen=True):
    """`use-gzip` and its keys. `types` holds lowercased media types; "*" takes all."""

    level: int = 1
    min_length_bytes: int = 256
    types: tuple[str, ...] = ()
    disable_user_agents: tuple[str, ...] = ()


class HstsPolicy(msgspec.Struct, frozen=True):
    """RFC 6797 Strict-Transport-Security, added to answers over TLS and in place of the upstream's own."""

    max_age_s: int = 31536000
    include_subdomains: bool = True
    preload: bool = False


class ProcessPolicy(msgspec.Struct, frozen=True, tag="ProcessPolicy"):
    """Everything that is decided before a route is known, or that is the same for every route.

    Defaults are those of ingress-nginx 1.15's ConfigMap; `max_header_fields` is ours.
    """

    client_header_timeout_s: float = 60.0
    client_body_timeout_s: float = 60.0
    client_send_timeout_s: float = 60.0
    keep_alive_s: float = 75.0
    keep_alive_requests: int = 1000
    request_line_bytes: int = 8192
    field_line_bytes: int = 8192
    head_bytes: int = 32768
    max_header_fields: int = 100
    response_head_bytes: int = 65536
    buffer_bytes: int = 65536
    max_connections: int = 16384
    memory_budget_bytes: int = 0
    """Of one worker's connections; 0 derives it from the limit of the control group."""
    underscores_in_headers: bool = False
    ignore_invalid_headers: bool = True
    server_tokens: bool = False
    use_forwarded_headers: bool = False
    enable_real_ip: bool = False
    compute_full_forwarded_for: bool = False
    forwarded_for_header: str = "X-Forwarded-For"
    trusted_proxies: tuple[str, ...] = ("0.0.0.0/0",)
    proxy_protocol: bool = False
    """`use-proxy-protocol`; which listeners it concerns is in their units."""
    proxy_protocol_timeout_s: float = 5.0
    generate_request_id: bool = True
    via: str = ""
    redirect_code: int = 308
    hsts: HstsPolicy | None = HstsPolicy()
    gzip: GzipPolicy | None = None
    add_headers: HeaderPairs = ()
    hide_headers: tuple[str, ...] = ()
    set_headers: HeaderPairs = ()
    upstream_keepalive_connections: int = 320
    upstream_keepalive_timeout_s: float = 60.0
    upstream_keepalive_requests: int = 10000
    upstream_keepalive_time_s: float = 3600.0
    retry_budget_percent: float = 20.0
    retry_budget_min_per_s: float = 3.0
    worker_shutdown_timeout_s: float = 240.0
    shutdown_grace_period_s: float = 0.0
    health_path: str = "/healthz"
    log_level: str = ""
    """Of the operational log; "" leaves it to the configuration file."""
    tls: TlsPolicy = TlsPolicy()
    access_log: AccessLog = AccessLog()


class RoutePolicy(msgspec.Struct, frozen=True, tag="RoutePolicy"):
    """What may differ from route to route. `failed_closed` names the broken security key: its routes answer 503."""

    body_bytes: int | None = 1048576
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 60.0
    send_timeout_s: float = 60.0
    next_upstream: frozenset[str] = frozenset({"error", "timeout"})
    next_upstream_tries: int = 3
    next_upstream_timeout_s: float = 0.0
    ssl_redirect: bool = True
    force_ssl_redirect: bool = False
    upgrades: frozenset[str] = frozenset({"websocket"})
    upstream_connection: Literal["", "close", "keep-alive"] = ""
    """`Connection` on requests to the upstream; "" is none but for upgrades."""
    access_log: bool = True
    allowed_sources: tuple[str, ...] = ()
    """Networks that may ask; () is everybody."""
    denied_sources: tuple[str, ...] = ()
    client_certificates: bool = False
    """Some object asks for client certificates on these routes: no host without a policy for them may serve one."""
    failed_closed: str | None = None


class Route(msgspec.Struct, frozen=True):
    """A match plus an action. `path` is as written, normalised, without the trailing slash of a Prefix ("/" stays "/").

    `has_tls` says that some object brings a certificate for this host or the wildcard over it, which is what
    `ssl_redirect` asks. `upstream` None answers `status` (404 for a `resource` backend, 503 for a Service that is not
    there).
    """

    origin: Origin
    path_type: PathType
    path: str
    upstream: str | None
    status: int = 503
    policy: str = ""
    has_tls: bool = False
    service: str = ""
    """Name of the Service, for metric labels and logs; "" for a static upstream."""


class VirtualHost(msgspec.Struct, frozen=True, tag="VirtualHost"):
    """The routes of one host, merged over objects, in order of precedence. `default` takes what no route matches."""

    host: str
    routes: tuple[Route, ...]
    default: Route | None = None


class UpstreamTls(msgspec.Struct, frozen=True):
    """TLS to the endpoints. `server_name` "" sends the request's host; `verify` off accepts any certificate."""

    verify: bool = False
    ca_pem: bytes = b""
    verify_depth: int = 1
    server_name: str = ""
    cert_pem: bytes = b""
    key_pem: PrivateBytes | None = None
    ciphers: str = ""
    protocols: tuple[str, ...] = ("TLSv1.2", "TLSv1.3")


class Upstream(msgspec.Struct, frozen=True, tag="Upstream"):
    """A named group of endpoints and how to choose among them and talk to them.

    `hash_by` is what the hash balancer hashes: "client_ip" (also Service `sessionAffinity: ClientIP`), "uri", "host",
    or "header:NAME". `cap` is left out of what is written where there is none, which is nearly everywhere.
    """

    name: str
    origin: Origin
    balancer: Balancer = "round_robin"
    hash_by: str = ""
    tls: UpstreamTls | None = None
    health_check: HealthCheck | msgspec.UnsetType = msgspec.UNSET
    """For the controller, which probes. Left out where there is none: most upstreams have none, and workers all."""
    cap: RequestCap | msgspec.UnsetType = msgspec.UNSET


class Endpoint(msgspec.Struct, frozen=True, order=True):
    """One address. `address` is an IP literal, `port` the number really listened on."""

    address: str
    port: int
    weight: int = 1
    zone: str = ""
    draining: bool = False


class Endpoints(msgspec.Struct, frozen=True, tag="Endpoints"):
    """The usable endpoints of an upstream, sorted and without duplicates."""

    upstream: str
    endpoints: tuple[Endpoint, ...]


class Certificate(msgspec.Struct, frozen=True, tag="Certificate"):
    """A certificate chain and its key, already checked to belong together. `not_after_s` is seconds since 1970."""

    name: str
    origin: Origin
    cert_pem: bytes
    key_pem: PrivateBytes
    names: tuple[str, ...]
    not_after_s: float
    serial: str = ""
    issuer: str = ""


class TlsHost(msgspec.Struct, frozen=True, tag="TlsHost"):
    """Which certificate a server name gets. `certificate` None is the self-signed one."""

    host: str
    certificate: str | None


class ClientAuthority(msgspec.Struct, frozen=True, tag="ClientAuthority"):
    """Who may issue client certificates, and what they have revoked: PEM, already read once without a fault."""

    name: str
    ca_pem: bytes
    crl_pem: bytes = b""


class ClientCertificates(msgspec.Struct, frozen=True, tag="ClientCertificates"):
    """What a host asks of its clients' certificates (ingress-nginx `auth-tls-*`).

    `authority` is the name of a `ClientAuthority`. With `closed` (a status) every request is answered so, whatever the
    client shows, and `fault` says why. `covers`: a wildcard also speaks for hosts below it that have routes of their
    own. `match_cn` is an RE2 expression that must be found in the subject; `error_page` a URL to redirect to in place
    of the answer 400.
    """

    host: str
    origin: Origin
    verify: ClientVerification = "on"
    authority: str = ""
    depth: int = 1
    error_page: str = ""
    pass_certificate: bool = False
    match_cn: str = ""
    covers: bool = False
    closed: int = 0
    fault: str = ""


Unit = (
    ProcessPolicy
    | Listener
    | VirtualHost
    | RoutePolicy
    | Upstream
    | Endpoints
    | Certificate
    | TlsHost
    | ClientAuthority
    | ClientCertificates
)


def key_of(unit: Unit, name: str = "") -> str:
    """The key of a unit. `name` is the name of a `RoutePolicy`, which does not carry its own."""
    match unit:
        case ProcessPolicy():
            return "process"
        case Listener():
            return f"listener/{unit.name}"
        case VirtualHost():
            return f"host/{unit.host}"
        case RoutePolicy():
            return f"policy/{name}"
        case Upstream():
            return f"upstream/{unit.name}"
        case Endpoints():
            return f"endpoints/{unit.upstream}"
        case Certificate():
            return f"certificate/{unit.name}"
        case TlsHost():
            return f"tls/{unit.host}"
        case ClientAuthority():
            return f"authority/{unit.name}"
        case ClientCertificates():
            return f"clients/{unit.host}"
