"""The objects of the configuration file, so that the short form takes the same road as a cluster's objects."""

from __future__ import annotations

from typing import Literal

import msgspec

from ingressd.model.secret import PrivateBytes
from ingressd.model.units import ClientVerification
from ingressd.settings.config import CONTROLLER, GATEWAY_CONTROLLER, Balancer, HealthCheck, PathType, RequestCap


class StaticListener(msgspec.Struct, frozen=True):
    """One entry of `listeners`. Key: `name`."""

    name: str
    host: str
    port: int
    protocol: Literal["HTTP", "HTTPS"]


class StaticRoute(msgspec.Struct, frozen=True):
    """One entry of `routes`. Key: `static_route_name` (path type, host and path). `host` "" is every host."""

    host: str
    path: str
    path_type: PathType
    upstream: str


class StaticEndpoint(msgspec.Struct, frozen=True):
    """One endpoint as written, and what it resolves to now.

    `addresses` are IP literals: the host itself when it is one, else the last answer of the resolver; None when nobody
    has resolved the name (offline), () when it never resolved.
    """

    host: str
    port: int
    weight: int = 1
    zone: str = ""
    addresses: tuple[str, ...] | None = None


class StaticUpstreamTls(msgspec.Struct, frozen=True):
    """TLS to the endpoints, the files read. `ca_pem` empty with `verify` means the system's authorities."""

    verify: bool = True
    ca_pem: bytes = b""
    verify_depth: int = 1
    server_name: str = ""
    cert_pem: bytes = b""
    key_pem: PrivateBytes | None = None
    ciphers: str = ""
    protocols: tuple[str, ...] = ("TLSv1.2", "TLSv1.3")


class StaticUpstream(msgspec.Struct, frozen=True):
    """One entry of `upstreams`. Key: `name`. `balancer` None is the process-wide default (`load-balance`)."""

    name: str
    endpoints: tuple[StaticEndpoint, ...]
    balancer: Balancer | None = None
    hash_by: str = ""
    tls: StaticUpstreamTls | None = None
    health_check: HealthCheck | None = None
    cap: RequestCap | None = None


class StaticClients(msgspec.Struct, frozen=True):
    """`clientCertificate` of an entry of `tls`, the files read. `fault`: one of them could not be."""

    verify: ClientVerification = "on"
    ca_pem: bytes = b""
    crl_pem: bytes = b""
    depth: int = 1
    error_page: str = ""
    pass_certificate: bool = False
    match_cn: str = ""
    fault: str = ""


class StaticTls(msgspec.Struct, frozen=True):
    """One entry of `tls`, the files read. Key: `name`, which is `certFile` as written. No hosts: the names it holds."""

    name: str
    hosts: tuple[str, ...]
    cert_pem: bytes
    key_pem: PrivateBytes
    clients: StaticClients | None = None


class StaticAdmission(msgspec.Struct, frozen=True):
    """`admission`, or the flags in its place, the files read. Key: the name "admission"."""

    host: str
    port: int
    cert_pem: bytes
    key_pem: PrivateBytes


class ProcessSettings(msgspec.Struct, frozen=True):
    """Everything process-wide but `flags`. Key: the name "settings".

    `values` are the keys of `settings` as written; `settings.configmap.parse_settings` gives them meaning.
    `config_map` is "namespace/name" of the ConfigMap that acts like `settings`, or "".
    """

    values: dict[str, str] = {}
    config_map: str = ""
    access_log_path: str = "-"
    access_log_format: str = "json"
    ingress_class: str = "ingressd"
    ingress_controller: str = CONTROLLER
    gateway_controller: str = GATEWAY_CONTROLLER
    listener_ports: dict[int, int] = {}
    zone: str = ""


class Flags(msgspec.Struct, frozen=True):
    """`flags` as written; `settings.flags.parse_flags` gives them meaning. Key: the name "flags"."""

    values: dict[str, str] = {}


class NodeAddress(msgspec.Struct, frozen=True, order=True):
    """The addresses of one node, in the order in which the node has them; dual stack has several."""

    name: str
    external: tuple[str, ...] = ()
    internal: tuple[str, ...] = ()


class NodeAddresses(msgspec.Struct, frozen=True):
    """The nodes that ready pods of ours run on, by name. Key: the name "nodes". `nodes` None: nobody knows (yet)."""

    nodes: tuple[NodeAddress, ...] | None = None


StaticObject = (
    StaticListener
    | StaticRoute
    | StaticUpstream
    | StaticTls
    | StaticAdmission
    | ProcessSettings
    | Flags
    | NodeAddresses
)


def static_route_name(*, host: str, path: str, path_type: PathType) -> str:
    """The name in a static route's key: "Prefix shop.example.com/api"."""
    return f"{path_type} {host}{path}"
