"""ingress-nginx's command-line flags, in `flags` of the file: parsed, or refused by name."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from ingressd.settings import values as v
from ingressd.settings.configmap import SettingProblem
from ingressd.settings.nearest import did_you_mean
from ingressd.settings.section import split_host_port


class ProcessFlags(msgspec.Struct, frozen=True):
    """The switches. None is "not set"; references are "namespace/name".

    `disable_svc_external_name` is on unless the flag says false: an ExternalName reaches wherever its author likes.
    `watch_namespace` "" is every namespace.
    """

    ingress_class: str | None = None
    controller_class: str | None = None
    watch_ingress_without_class: bool = False
    ingress_class_by_name: bool = False
    watch_namespace: str = ""
    default_backend_service: str | None = None
    default_ssl_certificate: str | None = None
    disable_catch_all: bool = False
    disable_svc_external_name: bool = True
    publish_status_address: tuple[str, ...] = ()
    publish_service: str | None = None
    report_node_internal_ip_address: bool = False
    update_status: bool = True
    update_status_on_shutdown: bool = True
    status_update_interval_s: float = 60.0
    election_id: str = "ingress-controller-leader"
    election_ttl_s: float = 30.0
    disable_leader_election: bool = False
    disable_sync_events: bool = False
    configmap: str | None = None
    shutdown_grace_period_s: float | None = None
    validating_webhook: tuple[str, int] | None = None
    validating_webhook_certificate: str = ""
    validating_webhook_key: str = ""

    def published_service(self) -> str | None:
        """The Service ("namespace/name") whose addresses become the status, None when others do or none."""
        return self.publish_service if self.update_status and not self.publish_status_address else None


_LEASE_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*\Z")


class Flag(NamedTuple):
    """One flag. `field` is that of `ProcessFlags`; no parser: not built, unless the value is in `as_we_do`."""

    name: str
    default: str
    about: str
    field: str = ""
    parse: v.Parser | None = None
    as_we_do: tuple[str, ...] = ()
    nginx_only: bool = False


def _name_or_none(text: str) -> str | None:
    return v.no_control(text).strip() or None


def _reference_or_none(text: str) -> str | None:
    return v.optional_reference(text) or None


def _lease_name(text: str) -> str:
    if len(text) > 253 or _LEASE_NAME.match(text) is None:
        raise ValueError(f"{text!r} is no object name")
    return text


def _ttl(text: str) -> float:
    value = v.seconds(text)
    if not 1 <= value <= 3600:
        raise ValueError(f"expected a time from 1s to 1h, got {text!r}")
    return value


def _address_or_none(text: str) -> tuple[str, int] | None:
    """ "host:port" to listen on; no host is every address."""
    if not text.strip():
        return None
    host, port = split_host_port(text.strip())
    try:
        return str(ipaddress.ip_address(host or "::")), port
    except ValueError:
        raise ValueError(f"expected an IP address and a port like :9443, got {text!r}") from None


_BUILT: Final = (
    Flag("ingress-class", "", "Name of our class; wins over `ingressClass.name`", "ingress_class", _name_or_none),
    Flag(
        "controller-class", "", "Our controller; wins over `ingressClass.controller`", "controller_class", _name_or_none
    ),
    Flag(
        "watch-ingress-without-class",
        "false",
        "Take Ingresses that name no class",
        "watch_ingress_without_class",
        v.boolean,
    ),
    Flag(
        "ingress-class-by-name",
        "false",
        "Take classes by name, whoever controls them",
        "ingress_class_by_name",
        v.boolean,
    ),
    Flag("watch-namespace", "", "Read this namespace only; empty for all", "watch_namespace", v.no_control),
    Flag(
        "default-backend-service",
        "",
        "Service (namespace/name) that takes what nothing matches",
        "default_backend_service",
        _reference_or_none,
    ),
    Flag(
        "default-ssl-certificate",
        "",
        "Secret (namespace/name) for server names that no certificate covers",
        "default_ssl_certificate",
        _reference_or_none,
    ),
    Flag("disable-catch-all", "false", "Refuse Ingresses that would take every host", "disable_catch_all", v.boolean),
    Flag(
        "disable-svc-external-name",
        "true (ingress-nginx: false)",
        "Refuse Services of type ExternalName",
        "disable_svc_external_name",
        v.boolean,
    ),
    Flag(
        "publish-status-address",
        "",
        "Addresses for the status of our objects, separated by commas",
        "publish_status_address",
        v.addresses_or_names,
    ),
    Flag(
        "publish-service",
        "",
        "Service (namespace/name) whose addresses become the status of our objects",
        "publish_service",
        _reference_or_none,
    ),
    Flag(
        "report-node-internal-ip-address",
        "false",
        "With neither of the two above: internal addresses of our nodes, not external ones",
        "report_node_internal_ip_address",
        v.boolean,
    ),
    Flag("update-status", "true", "Give our objects a status", "update_status", v.boolean),
    Flag(
        "update-status-on-shutdown",
        "true",
        "Take our addresses back when the last of our pods ends",
        "update_status_on_shutdown",
        v.boolean,
    ),
    Flag(
        "status-update-interval",
        "60",
        "Seconds between two looks at the statuses of all our objects, and at our nodes",
        "status_update_interval_s",
        v.integer(1, 86400),
    ),
    Flag(
        "election-id",
        "ingress-controller-leader",
        "Name of the leader's Lease, in our own namespace",
        "election_id",
        _lease_name,
    ),
    Flag("election-ttl", "30s", "How long a leader that is silent stays the leader", "election_ttl_s", _ttl),
    Flag(
        "disable-leader-election",
        "false",
        "Always lead: for a single replica",
        "disable_leader_election",
        v.boolean,
    ),
    Flag("disable-sync-events", "false", "No Events for changes", "disable_sync_events", v.boolean),
    Flag("configmap", "", "ConfigMap (namespace/name) that acts like `settings`", "configmap", _reference_or_none),
    Flag(
        "shutdown-grace-period",
        "0",
        "How long listeners stay open after SIGTERM; wins over the key in `settings`",
        "shutdown_grace_period_s",
        v.seconds,
    ),
    Flag(
        "validating-webhook",
        "",
        "Address of the admission listener; wins over `admission.address`",
        "validating_webhook",
        _address_or_none,
    ),
    Flag(
        "validating-webhook-certificate",
        "",
        "Its certificate; wins over `admission.certFile`",
        "validating_webhook_certificate",
        v.file_name,
    ),
    Flag("validating-webhook-key", "", "Its key; wins over `admission.keyFile`", "validating_webhook_key", v.file_name),
)

_LATER: Final = (
    Flag("annotations-prefix", "nginx.ingress.kubernetes.io", "Prefix of annotations"),
    Flag("apiserver-host", "", "Address of the API server", as_we_do=("",)),
    Flag("certificate-authority", "", "Authority of the API server", as_we_do=("",)),
    Flag("kubeconfig", "", "File with the API server", as_we_do=("",)),
    Flag("deep-inspect", "true", "Look into annotations for injections"),
    Flag("enable-annotation-validation", "true", "Validate annotations"),
    Flag("disable-full-test", "false", "Admission tests one object only", as_we_do=("false",)),
    Flag("enable-metrics", "false", "Metrics are always on", as_we_do=("true",)),
    Flag("metrics-per-host", "true", "Label metrics with the host"),
    Flag("metrics-per-undefined-host", "false", "Label metrics with hosts that nobody declared", as_we_do=("false",)),
    Flag("report-status-classes", "false", "Label metrics with 2xx instead of 200", as_we_do=("false",)),
    Flag("time-buckets", "", "Buckets of durations"),
    Flag("length-buckets", "", "Buckets of lengths"),
    Flag("size-buckets", "", "Buckets of sizes"),
    Flag("bucket-factor", "0", "Native histograms", as_we_do=("0",)),
    Flag("max-buckets", "100", "Native histograms"),
    Flag("exclude-socket-metrics", "", "Metrics to leave out", as_we_do=("",)),
    Flag("enable-ssl-chain-completion", "false", "Fetch missing intermediate certificates", as_we_do=("false",)),
    Flag("enable-ssl-passthrough", "false", "TLS passthrough", as_we_do=("false",)),
    Flag("enable-topology-aware-routing", "false", "Hints of endpoints: `zone` says where we are"),
    Flag("sync-period", "0", "Read everything again", as_we_do=("0", "0s")),
    Flag("tcp-services-configmap", "", "TCP services", as_we_do=("",)),
    Flag("udp-services-configmap", "", "UDP services", as_we_do=("",)),
    Flag("watch-namespace-selector", "", "Namespaces by label", as_we_do=("",)),
    Flag("post-shutdown-grace-period", "10", "Wait before the process ends"),
    Flag("maxmind-license-key", "", "GeoIP", as_we_do=("",)),
    Flag("maxmind-edition-ids", "", "GeoIP", as_we_do=("",)),
    Flag("maxmind-mirror", "", "GeoIP", as_we_do=("",)),
    Flag("maxmind-retries-count", "1", "GeoIP"),
    Flag("maxmind-retries-timeout", "0s", "GeoIP"),
)

_LISTENERS: Final = "`listeners` and `admin` say where we listen"
_NGINX_ONLY: Final = tuple(
    Flag(name, "", about, nginx_only=True)
    for about, names in (
        (_LISTENERS, ["http-port", "https-port", "healthz-port", "healthz-host", "bind-addresses"]),
        (
            "an internal port of nginx",
            ["status-port", "stream-port", "default-server-port", "ssl-passthrough-proxy-port"],
        ),
        ("/healthz is fixed", ["health-check-path", "health-check-timeout"]),
        ("Go's profiler", ["profiling", "profiler-port"]),
        ("changes are live at once", ["sync-rate-limit", "dynamic-configuration-retries"]),
        ("the flow of nginx's own logs and metrics", ["internal-logger-address", "monitor-max-batch-size"]),
        ("`log.level` says it", ["v", "alsologtostderr", "logtostderr", "stderrthreshold", "vmodule", "log_dir"]),
        ("`ingressd version` says it", ["version"]),
    )
    for name in names
)

FLAGS: Final = {flag.name: flag for flag in (*_BUILT, *_LATER, *_NGINX_ONLY)}


def parse_flags(
    values: Mapping[str, str], *, last_good: Mapping[str, str] | None = None
) -> tuple[ProcessFlags, tuple[SettingProblem, ...]]:
    """Parse `flags`. A malformed value falls back to that of `last_good`, else to the default."""
    fields: dict[str, Any] = {}
    problems: list[SettingProblem] = []
    for name in sorted(values):
        flag = FLAGS.get(name)
        if flag is None:
            problems.append(SettingProblem(name, f"unknown flag{did_you_mean(name, FLAGS)}", "UnknownKey"))
        elif flag.nginx_only:
            problems.append(SettingProblem(name, f"has no effect here: {flag.about}", "NotBuilt", "warning"))
        elif flag.parse is None:
            if values[name].strip() not in flag.as_we_do:
                problems.append(SettingProblem(name, "not built yet", "NotBuilt"))
        else:
            try:
                fields[flag.field] = flag.parse(values[name])
            except ValueError as exc:
                problems.append(SettingProblem(name, str(exc), "InvalidValue"))
                _fall_back(flag, last_good or {}, fields)
    return ProcessFlags(**fields), tuple(problems)


def flags_reference() -> str:
    """The table of all flags as Markdown, for docs/settings.md."""
    lines = ["| flag | default | what it does |\n|---|---|---|"]
    lines += [f"| `{flag.name}` | {flag.default or '(empty)'} | {flag.about} |" for flag in _BUILT]
    lines.append("\nKnown, not built yet: reported as an error by name, unless the value asks for what we do anyway.\n")
    lines.append("| flag | ingress-nginx's default | what it would do |\n|---|---|---|")
    lines += [f"| `{flag.name}` | {flag.default or '(empty)'} | {flag.about} |" for flag in _LATER]
    lines.append(
        "\nAbout nginx's own machinery: accepted with a warning, without effect.\n\n| flag | about |\n|---|---|"
    )
    lines += [f"| `{flag.name}` | {flag.about} |" for flag in _NGINX_ONLY]
    return "\n".join([*lines, ""])


def _fall_back(flag: Flag, last_good: Mapping[str, str], fields: dict[str, Any]) -> None:
    if flag.parse is not None and flag.name in last_good:
        try:
            fields[flag.field] = flag.parse(last_good[flag.name])
        except ValueError:
            pass  # It was refused then too, and said so; the default stands.
