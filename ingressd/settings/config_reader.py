"""The keys of the configuration file, one function for each part of it."""

from __future__ import annotations

import os
import re
from typing import Any, Final, cast

from ingressd.settings import values as v
from ingressd.settings.client_certificate import client_certificate
from ingressd.settings.config import (
    CONTROLLER,
    GATEWAY_CONTROLLER,
    AccessLogConfig,
    AdminConfig,
    AdmissionConfig,
    ClientCertificateConfig,
    Config,
    EndpointConfig,
    HealthCheck,
    IngressClassConfig,
    KubernetesConfig,
    ListenerConfig,
    LogConfig,
    RequestCap,
    RouteConfig,
    TlsConfig,
    UpstreamConfig,
    UpstreamTlsConfig,
)
from ingressd.settings.health_check import read_section
from ingressd.settings.request_cap import REQUEST_CAP
from ingressd.settings.section import Report, Section, describe, endpoint_host, split_host_port
from ingressd.settings.yaml_reader import KeyPath

_KEYS: Final = (
    *("workers", "listeners", "admin", "accessLog", "log", "settings", "settingsConfigMap", "flags", "ingressClass"),
    *("gatewayClass", "listenerPorts", "zone", "admission", "manifests", "kubernetes", "routes", "upstreams", "tls"),
)
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST: Final = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*\Z")
_PATH: Final = re.compile(r"/[^\x00-\x20\x7f?#]*\Z")
_HASH_BY: Final = re.compile(r"client_ip\Z|uri\Z|host\Z|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_NAMESPACE: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")
# k8s.io/apimachinery/pkg/labels: requirements separated by commas; the API server has the last word about their parts.
_NAME_OF_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?"
_VALUE_OF_LABEL: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)?"
_REQUIREMENT: Final = (
    rf"\s*(?:!\s*{_NAME_OF_LABEL}|{_NAME_OF_LABEL}(?:\s*(?:==?|!=)\s*{_VALUE_OF_LABEL}"
    rf"|\s+(?:in|notin)\s*\(\s*{_VALUE_OF_LABEL}(?:\s*,\s*{_VALUE_OF_LABEL})*\s*\))?)\s*"
)
_SELECTOR: Final = re.compile(rf"{_REQUIREMENT}(?:,{_REQUIREMENT})*\Z")
MAX_WORKERS: Final = 128
"""As many as the table that they share has columns for."""

_BALANCERS: Final = ("round_robin", "least_request", "ewma", "hash")


def read_config(report: Report, values: dict[str, Any], *, workers: int) -> Config:
    """Read every key, noting problems in the report; what is wrong has its default or is left out."""
    top = Section(report, values)
    top.known(*_KEYS)
    return Config(
        path=report.file,
        workers=top.integer("workers", workers, least=1, most=MAX_WORKERS),
        listeners=_listeners(top),
        admin=_admin(top.section("admin")),
        admission=None if top.get("admission") is None else _admission(top.section("admission", entry=("admission",))),
        access_log=_access_log(top.section("accessLog")),
        log=_log(top.section("log")),
        settings=_texts(top, "settings"),
        settings_config_map=_reference(top, "settingsConfigMap"),
        flags=_texts(top, "flags"),
        ingress_class=_ingress_class(top.section("ingressClass")),
        gateway_controller=_gateway_class(top.section("gatewayClass")),
        listener_ports=_listener_ports(top),
        zone=top.text("zone"),
        manifests=tuple(os.path.normpath(os.path.join(report.folder, path)) for path in top.strings("manifests")),
        kubernetes=None if top.get("kubernetes") is None else _kubernetes(top.section("kubernetes")),
        routes=_routes(top),
        upstreams=_upstreams(top),
        tls=_tls(top),
    )


def _listeners(top: Section) -> tuple[ListenerConfig, ...]:
    out: dict[str, ListenerConfig] = {}
    taken: dict[tuple[str, int], str] = {}
    for path, item in top.items("listeners"):
        section = Section(top.report, item, path, entry=path)
        section.known("name", "address", "protocol")
        name = section.text("name", required=True)
        if section.get("address") is None:
            section.wrong((), "'address' is missing")
        host, port = section.ip_and_port("address", default=("", 0))
        protocol = section.choice("protocol", ("HTTP", "HTTPS"), default="HTTP")
        if name in out:
            section.wrong(("name",), f"there is a listener {name!r} already")
        elif port and (host, port) in taken:
            section.wrong(("address",), f"the listener {taken[host, port]!r} has this address already")
        if section.ok:
            out[name] = ListenerConfig(name, host, port, protocol)
            taken[host, port] = name
    return tuple(out.values())


def _admin(section: Section) -> AdminConfig:
    section.known("address")
    host, port = section.ip_and_port("address", default=("127.0.0.1", 10254))
    return AdminConfig(host, port)


def _admission(section: Section) -> AdmissionConfig | None:
    section.known("address", "certFile", "keyFile")
    if section.get("address") is None:
        section.wrong((), "'address' is missing")
    host, port = section.ip_and_port("address", default=("", 0))
    cert_file, key_file = section.file_path("certFile", required=True), section.file_path("keyFile", required=True)
    return AdmissionConfig(host, port, cert_file, key_file) if section.ok else None


def _access_log(section: Section) -> AccessLogConfig:
    section.known("path", "format")
    path = section.text("path", "-")
    if path not in ("", "-"):
        path = section.file_path("path")
    return AccessLogConfig(path, section.text("format", "json"))


def _log(section: Section) -> LogConfig:
    section.known("level", "format")
    level = section.choice("level", ("debug", "info", "warning", "error"), default="info")
    return LogConfig(level, section.choice("format", ("text", "json"), default="text"))


def _ingress_class(section: Section) -> IngressClassConfig:
    section.known("name", "controller")
    return IngressClassConfig(section.text("name", "ingressd"), section.text("controller", CONTROLLER))


def _gateway_class(section: Section) -> str:
    section.known("controller")
    if section.get("controller") not in (None, GATEWAY_CONTROLLER):
        section.report.note(section.path, "Gateways are not built yet", warning=True)
    return section.text("controller", GATEWAY_CONTROLLER)


def _listener_ports(top: Section) -> dict[int, int]:
    section = top.section("listenerPorts")
    if section.keys():
        message = "Gateways and L4 services are not built yet; `listeners` say where we listen"
        top.report.note(section.path, message, warning=True)
    out = {}
    for key in section.keys():  # noqa: SIM118
        port = section.integer(key, 0, least=1, most=65535)
        if not key.isdigit() or not 1 <= int(key) <= 65535:
            section.wrong((key,), f"expected a port from 1 to 65535, got {key!r}")
        elif port:
            out[int(key)] = port
    return out


def _kubernetes(section: Section) -> KubernetesConfig:
    section.known("kubeconfig", "inCluster", "namespaces", "labelSelector", "snapshotDir")
    kubeconfig, in_cluster = section.file_path("kubeconfig"), section.boolean("inCluster", False)
    if section.ok and bool(kubeconfig) == in_cluster:
        section.wrong((), "expected either 'kubeconfig: FILE' or 'inCluster: true'")
    namespaces = section.strings("namespaces")
    for place, namespace in enumerate(namespaces):
        if _NAMESPACE.match(namespace) is None:
            section.wrong(("namespaces", place), f"{namespace!r} is no namespace")
    selector = section.text("labelSelector").strip()
    if selector and _SELECTOR.match(selector) is None:
        section.wrong(("labelSelector",), f"expected a label selector like 'tier=web,!internal', got {selector!r}")
    return KubernetesConfig(
        kubeconfig, in_cluster, tuple(dict.fromkeys(namespaces)), selector, section.file_path("snapshotDir")
    )


def _reference(top: Section, key: str) -> str:
    value = top.text(key)
    try:
        return v.optional_reference(value)
    except ValueError as exc:
        top.wrong((key,), str(exc))
        return ""


def _texts(top: Section, key: str) -> dict[str, str]:
    """The values of `settings` or `flags` as strings. What they mean is decided in translation."""
    section = top.section(key)
    out = {}
    for name in section.keys():  # noqa: SIM118
        text = _spelled(section.get(name))
        if text is None:
            path = (*section.path, name)
            top.report.note(path, f"expected a string, got {describe(section.get(name))}", entry=path)
        else:
            out[name] = text
    return out


def _spelled(value: Any) -> str | None:
    """How ingress-nginx would spell a value that YAML made a bool, a number or a list."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list) and all(isinstance(item, (str, int)) for item in value):
        return ",".join(cast("str", _spelled(item)) for item in value)
    return None


def _routes(top: Section) -> tuple[RouteConfig, ...]:
    out: dict[tuple[str, str, str], RouteConfig] = {}
    for index, (path, item) in enumerate(top.items("routes")):
        section = Section(top.report, item, path, entry=path)
        section.known("host", "path", "pathType", "upstream", "options")
        host = section.text("host").lower()
        if host and _HOST.match(host) is None:
            section.wrong(("host",), f"{host!r} is no host name; a wildcard is *.example.com")
        where = section.text("path", "/")
        if _PATH.match(where) is None:
            section.wrong(("path",), f"expected a path that begins with a slash, got {where!r}")
        path_type = section.choice("pathType", ("Exact", "Prefix", "ImplementationSpecific"), default="Prefix")
        upstream = section.text("upstream", required=True)
        options = section.section("options")
        for option in options.keys():  # noqa: SIM118
            options.wrong((option,), "options are not built yet")
        key = (host, path_type, where)
        if key in out:
            message = f"routes[{out[key].index}] has the same host, path and path type, and wins"
            top.report.note(path, message, entry=path, warning=True)
        elif section.ok and options.ok:
            out[key] = RouteConfig(host, where, path_type, upstream, index)
    return tuple(out.values())


def _upstreams(top: Section) -> tuple[UpstreamConfig, ...]:
    out = []
    section = top.section("upstreams")
    for name in section.keys():  # noqa: SIM118
        upstream = section.section(name, entry=(*section.path, name))
        upstream.known(
            *("endpoints", "balancer", "hashBy", "tls", "healthCheck", "maxRequests", "maxPending", "pendingTimeout")
        )
        endpoints = tuple(_endpoint(upstream, path, item) for path, item in upstream.items("endpoints"))
        if upstream.get("endpoints") is None:
            upstream.wrong((), "'endpoints' is missing")
        hash_by = upstream.text("hashBy")
        if hash_by and _HASH_BY.match(hash_by) is None:
            upstream.wrong(("hashBy",), f"expected client_ip, uri, host or header:NAME, got {hash_by!r}")
        balancer = upstream.choice("balancer", ("", *_BALANCERS), default="") or None
        if hash_by and balancer not in (None, "hash"):
            upstream.wrong(("hashBy",), f"the balancer {balancer!r} does not hash")
        if hash_by or balancer == "hash":
            balancer, hash_by = "hash", hash_by or "client_ip"
        tls = None if upstream.get("tls") is None else _upstream_tls(upstream.section("tls"), upstream)
        check = None if upstream.get("healthCheck") is None else _health_check(upstream)
        cap = _request_cap(upstream)
        if upstream.ok:
            out.append(UpstreamConfig(name, endpoints, balancer, hash_by, tls, check, cap))
    return tuple(out)


def _request_cap(upstream: Section) -> RequestCap | None:
    """`maxRequests`, `maxPending` and `pendingTimeout`."""
    found: dict[str, Any] = {}
    for key, (field, parse) in REQUEST_CAP.items():
        value = upstream.get(key)
        if value is None:
            continue
        try:
            found[field] = parse(_spelled(value) or describe(value))
        except ValueError as exc:
            upstream.wrong((key,), str(exc))
        if upstream.get("maxRequests") is None:
            upstream.wrong((key,), "it means nothing without maxRequests")
    return RequestCap(**found) if "max_requests" in found else None


def _endpoint(upstream: Section, path: KeyPath, item: Any) -> EndpointConfig:
    section = Section(upstream.report, item if isinstance(item, dict) else {}, path, entry=upstream.entry)
    section.known("address", "weight", "zone")
    address: Any = section.text("address", required=True) if isinstance(item, dict) else item
    host, port = "", 0
    try:
        host, port = split_host_port(address)
        host = endpoint_host(host)
    except ValueError as exc:
        section.wrong(("address",) if isinstance(item, dict) else (), str(exc))
    weight = section.integer("weight", 1, least=0, most=1_000_000)
    endpoint = EndpointConfig(host, port, weight, section.text("zone"))
    upstream.ok = upstream.ok and section.ok
    return endpoint


def _upstream_tls(section: Section, upstream: Section) -> UpstreamTlsConfig:
    section.known("verify", "caFile", "verifyDepth", "serverName", "certFile", "keyFile", "ciphers", "protocols")
    cert_file, key_file = section.file_path("certFile"), section.file_path("keyFile")
    if bool(cert_file) != bool(key_file):
        section.wrong((), "certFile and keyFile belong together")
    protocols = section.strings("protocols") or ("TLSv1.2", "TLSv1.3")
    ciphers = section.text("ciphers")
    for key, parse, text in (("protocols", v.tls_protocols, " ".join(protocols)), ("ciphers", v.tls_ciphers, ciphers)):
        try:
            parse(text)
        except ValueError as exc:
            section.wrong((key,), str(exc))
    tls = UpstreamTlsConfig(
        verify=section.boolean("verify", True),
        ca_file=section.file_path("caFile"),
        verify_depth=section.integer("verifyDepth", 1, least=0, most=100),
        server_name=section.text("serverName"),
        cert_file=cert_file,
        key_file=key_file,
        ciphers=ciphers,
        protocols=v.tls_protocols(" ".join(protocols)) if section.ok else (),
    )
    upstream.ok = upstream.ok and section.ok
    return tls


def _health_check(upstream: Section) -> HealthCheck | None:
    section = upstream.section("healthCheck")
    check = read_section(section)
    upstream.ok = upstream.ok and section.ok
    return check


def _tls(top: Section) -> tuple[TlsConfig, ...]:
    out: dict[str, TlsConfig] = {}
    for index, (path, item) in enumerate(top.items("tls")):
        section = Section(top.report, item, path, entry=path)
        section.known("hosts", "certFile", "keyFile", "clientCertificate")
        clients: ClientCertificateConfig | None = None
        if section.get("clientCertificate") is not None:
            # An entry that guards its hosts cannot be left out: without it they would be open.
            section.entry = ()
            clients = client_certificate(section)
        hosts = tuple(host.lower() for host in section.strings("hosts"))
        for place, host in enumerate(hosts):
            if _HOST.match(host) is None:
                section.wrong(("hosts", place), f"{host!r} is no host name; a wildcard is *.example.com")
        name = section.text("certFile", required=True)
        cert_file, key_file = section.file_path("certFile"), section.file_path("keyFile", required=True)
        if name in out:
            section.wrong(("certFile",), f"tls[{out[name].index}] has this certificate already")
        if section.ok:
            out[name] = TlsConfig(name, hosts, cert_file, key_file, index, clients)
    return tuple(out.values())
