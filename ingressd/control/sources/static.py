"""The configuration file's entries as objects."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from ingressd.control.objects.event import AnyObject, ObjectKey, Position
from ingressd.control.objects.static import (
    Flags,
    ProcessSettings,
    StaticAdmission,
    StaticClients,
    StaticEndpoint,
    StaticListener,
    StaticRoute,
    StaticTls,
    StaticUpstream,
    StaticUpstreamTls,
    static_route_name,
)
from ingressd.control.sources.locate import locate_field
from ingressd.model.problem import Origin, Problem
from ingressd.model.secret import PrivateBytes, without_keys
from ingressd.settings.admission import admission_of
from ingressd.settings.config import (
    AdmissionConfig,
    ClientCertificateConfig,
    Config,
    ConfigProblem,
    TlsConfig,
    UpstreamConfig,
    UpstreamTlsConfig,
)
from ingressd.settings.yaml_reader import KeyPath

Placed = tuple[AnyObject, Position]
Read = Callable[[str], bytes]
KIND_OF_ENTRY: Final = {
    "listeners": "StaticListener",
    "routes": "StaticRoute",
    "upstreams": "StaticUpstream",
    "tls": "StaticTls",
    "admission": "StaticAdmission",
}


class StaticContents(NamedTuple):
    """The objects of a configuration file. `refused` are entries whose files could not be read."""

    objects: dict[ObjectKey, Placed]
    problems: tuple[Problem, ...]
    refused: frozenset[ObjectKey]


class _UnreadableError(Exception):
    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


def static_objects(config: Config, *, read: Read, answers: Mapping[str, tuple[str, ...]] | None) -> StaticContents:
    """Everything in a configuration as objects. `read` gives a file's bytes or raises OSError.

    `answers` are the addresses of host names; None leaves them unresolved (offline).
    """
    entries = _Entries(config.path, read)
    entries.add("ProcessSettings", "settings", path=("settings",), value=_settings(config))
    entries.add("Flags", "flags", path=("flags",), value=Flags(config.flags))
    admission = admission_of(config)
    if admission is not None:
        path: KeyPath = ("admission",) if config.admission is not None else ("flags",)
        try:
            entries.add("StaticAdmission", "admission", path=path, value=_admission(admission, read))
        except _UnreadableError as exc:
            entries.refuse("StaticAdmission", "admission", path=path, why=exc)
    for index, listener in enumerate(config.listeners):
        static = StaticListener(listener.name, listener.host, listener.port, listener.protocol)
        entries.add("StaticListener", listener.name, path=("listeners", index), value=static)
    for route in config.routes:
        name = static_route_name(host=route.host, path=route.path, path_type=route.path_type)
        entry = StaticRoute(route.host, route.path, route.path_type, route.upstream)
        entries.add("StaticRoute", name, path=("routes", route.index), value=entry)
    for upstream in config.upstreams:
        path = ("upstreams", upstream.name)
        try:
            entries.add("StaticUpstream", upstream.name, path=path, value=_upstream(upstream, read, answers=answers))
        except _UnreadableError as exc:
            entries.refuse("StaticUpstream", upstream.name, path=path, why=exc)
    for tls in config.tls:
        path = ("tls", tls.index)
        try:
            entries.add("StaticTls", tls.name, path=path, value=_tls(tls, read))
        except _UnreadableError as exc:
            if tls.clients is None:
                entries.refuse("StaticTls", tls.name, path=path, why=exc)
                continue
            # Without the entry its hosts would be open; without its certificate they are served with another.
            entries.note("StaticTls", tls.name, path=path, why=exc)
            guard = StaticTls(tls.name, tls.hosts, b"", PrivateBytes(b""), _clients(tls.clients, read))
            entries.add("StaticTls", tls.name, path=path, value=guard)
    return StaticContents(entries.objects, tuple(entries.problems), frozenset(entries.refused))


def watched_files(config: Config) -> list[str]:
    """The files that entries name: certificates, keys, authorities."""
    files = [file for entry in config.tls for file in (entry.cert_file, entry.key_file)]
    clients = [entry.clients for entry in config.tls if entry.clients is not None]
    files += [file for entry in clients for file in (entry.ca_file, entry.crl_file) if file]
    admission = admission_of(config)
    if admission is not None:
        files += [file for file in (admission.cert_file, admission.key_file) if file]
    for upstream in config.upstreams:
        if upstream.tls is not None:
            files += [file for file in (upstream.tls.ca_file, upstream.tls.cert_file, upstream.tls.key_file) if file]
    return sorted(set(files))


def host_names(config: Config) -> list[str]:
    """The endpoints' hosts that are names."""
    hosts = {endpoint.host for upstream in config.upstreams for endpoint in upstream.endpoints}
    return sorted(host for host in hosts if not _is_address(host))


def as_problem(found: ConfigProblem) -> Problem:
    """A problem of the configuration file in the model's words. A flag or variable is its own field."""
    top = found.path.partition(".")[0].partition("[")[0]
    origin = Origin("Config", "", top if found.file else "")
    reason = "UnknownKey" if found.message.startswith("unknown") else "InvalidConfig"
    return Problem(found.severity, origin, reason, found.path, found.message, found.file, found.line)


class _Entries:
    """Collects the objects of a configuration file."""

    def __init__(self, file: str, read: Read) -> None:
        self.objects: dict[ObjectKey, Placed] = {}
        self.problems: list[Problem] = []
        self.refused: set[ObjectKey] = set()
        self._file = file
        self._read = read

    def add(self, kind: str, name: str, *, path: KeyPath, value: AnyObject) -> None:
        """One entry at a key path of the file."""
        self.objects[ObjectKey(kind, "", name)] = (value, Position(self._file, 1, 0, path))

    def refuse(self, kind: str, name: str, *, path: KeyPath, why: _UnreadableError) -> None:
        """An entry that names a file which cannot be read."""
        self.refused.add(ObjectKey(kind, "", name))
        self.note(kind, name, path=path, why=why)

    def note(self, kind: str, name: str, *, path: KeyPath, why: _UnreadableError) -> None:
        """Say that a file cannot be read."""
        try:
            line = locate_field(self._read(self._file), line=1, path=path, field=why.field)
        except OSError:
            line = 0
        origin = Origin("Config", "", str(path[0]), name)
        self.problems.append(Problem("error", origin, "FileUnreadable", why.field, why.message, self._file, line))


def _settings(config: Config) -> ProcessSettings:
    return ProcessSettings(
        values=config.settings,
        config_map=config.settings_config_map,
        access_log_path=config.access_log.path,
        access_log_format=config.access_log.format,
        ingress_class=config.ingress_class.name,
        ingress_controller=config.ingress_class.controller,
        gateway_controller=config.gateway_controller,
        listener_ports=config.listener_ports,
        zone=config.zone,
    )


def _upstream(upstream: UpstreamConfig, read: Read, *, answers: Mapping[str, tuple[str, ...]] | None) -> StaticUpstream:
    endpoints = []
    for endpoint in upstream.endpoints:
        addresses: tuple[str, ...] | None = (endpoint.host,)
        if not _is_address(endpoint.host):
            addresses = None if answers is None else answers.get(endpoint.host, ())
        endpoints.append(StaticEndpoint(endpoint.host, endpoint.port, endpoint.weight, endpoint.zone, addresses))
    tls = None if upstream.tls is None else _upstream_tls(upstream.tls, read)
    return StaticUpstream(
        upstream.name,
        tuple(endpoints),
        upstream.balancer,
        upstream.hash_by,
        tls,
        upstream.health_check,
        upstream.cap,
    )


def _tls(tls: TlsConfig, read: Read) -> StaticTls:
    cert = without_keys(_file(read, tls.cert_file, "certFile"))
    key = PrivateBytes(_file(read, tls.key_file, "keyFile"))
    return StaticTls(tls.name, tls.hosts, cert, key, None if tls.clients is None else _clients(tls.clients, read))


def _clients(clients: ClientCertificateConfig, read: Read) -> StaticClients:
    ca, crl, fault = b"", b"", ""
    try:
        ca = without_keys(_file(read, clients.ca_file, "clientCertificate.caFile"))
        crl = _file(read, clients.crl_file, "clientCertificate.crlFile") if clients.crl_file else b""
    except _UnreadableError as exc:
        fault = exc.message
    return StaticClients(
        verify=clients.verify,
        ca_pem=ca,
        crl_pem=crl,
        depth=clients.depth,
        error_page=clients.error_page,
        pass_certificate=clients.pass_certificate,
        match_cn=clients.match_cn,
        fault=fault,
    )


def _admission(admission: AdmissionConfig, read: Read) -> StaticAdmission:
    for file, field in ((admission.cert_file, "certFile"), (admission.key_file, "keyFile")):
        if not file:
            raise _UnreadableError(field, "the flag validating-webhook needs a certificate and a key, and has none")
    cert = without_keys(_file(read, admission.cert_file, "certFile"))
    return StaticAdmission(
        admission.host, admission.port, cert, PrivateBytes(_file(read, admission.key_file, "keyFile"))
    )


def _upstream_tls(tls: UpstreamTlsConfig, read: Read) -> StaticUpstreamTls:
    return StaticUpstreamTls(
        verify=tls.verify,
        ca_pem=without_keys(_file(read, tls.ca_file, "tls.caFile")) if tls.ca_file else b"",
        verify_depth=tls.verify_depth,
        server_name=tls.server_name,
        cert_pem=without_keys(_file(read, tls.cert_file, "tls.certFile")) if tls.cert_file else b"",
        key_pem=PrivateBytes(_file(read, tls.key_file, "tls.keyFile")) if tls.key_file else None,
        ciphers=tls.ciphers,
        protocols=tls.protocols,
    )


def _file(read: Read, path: str, field: str) -> bytes:
    try:
        return read(path)
    except OSError as exc:
        raise _UnreadableError(field, f"{path} cannot be read: {exc.strerror or exc}") from None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
