"""The table of ingress-nginx 1.15's ConfigMap keys, and ours: one line each.

A key is built (a parser and the model field it sets), not built yet (refused by name, unless the value asks for what
we do anyway), or about nginx's own machinery (accepted with a warning, because nothing here corresponds to it).
"""

from __future__ import annotations

from typing import Final

from ingressd.settings import values as v
from ingressd.settings.configmap_later import NGINX_ONLY, NOT_BUILT
from ingressd.settings.setting import Setting

GZIP_TYPES: Final = (
    "application/atom+xml application/javascript application/x-javascript application/json application/rss+xml "
    "application/vnd.ms-fontobject application/x-font-ttf application/x-web-app-manifest+json application/xhtml+xml "
    "application/xml font/opentype image/svg+xml image/x-icon text/css text/javascript text/plain text/x-component"
)


def _process(key: str, default: str, field: str, parse: v.Parser, about: str) -> Setting:
    return Setting(key, default, about, "process", field, parse)


def _route(key: str, default: str, field: str, parse: v.Parser, about: str) -> Setting:
    return Setting(key, default, about, "route", field, parse)


def _special(key: str, default: str, parse: v.Parser, about: str) -> Setting:
    return Setting(key, default, about, "special", "", parse)


def _ours(key: str, default: str, field: str, parse: v.Parser, about: str) -> Setting:
    return Setting(key, default, about, "process", field, parse, ours=True)


def _guard(key: str, field: str, about: str, *, ours: bool = False) -> Setting:
    about += "; malformed: routes answer 503"
    return Setting(key, "", about, "route", field, v.source_ranges, ours=ours, guards=True)


_COUNT: Final = v.integer(1, 1_000_000)

BUILT: Final = (
    # Clients
    _process(
        "client-header-timeout",
        "60",
        "client_header_timeout_s",
        v.some_seconds,
        "Time for a whole request head; then 408",
    ),
    _process(
        "client-body-timeout",
        "60",
        "client_body_timeout_s",
        v.some_seconds,
        "Longest pause inside a request body; then 408",
    ),
    _process(
        "keep-alive",
        "75",
        "keep_alive_s",
        v.seconds,
        "How long an idle client connection stays open; 0 closes after each answer",
    ),
    _process("keep-alive-requests", "1000", "keep_alive_requests", _COUNT, "Requests on one client connection"),
    _special(
        "large-client-header-buffers",
        "4 8k",
        v.header_buffers,
        "Number and size: the longest line, and their product the longest head; then 414 or 431",
    ),
    _process("max-worker-connections", "16384", "max_connections", _COUNT, "Client connections of one worker"),
    _process(
        "enable-underscores-in-headers",
        "false",
        "underscores_in_headers",
        v.boolean,
        "Take request fields whose name has an underscore",
    ),
    _process(
        "ignore-invalid-headers",
        "true",
        "ignore_invalid_headers",
        v.boolean,
        "Drop request fields with an odd name instead of answering 400",
    ),
    _process("server-tokens", "false", "server_tokens", v.boolean, "Send `Server` and name ourselves on error pages"),
    _ours("max-header-fields", "100", "max_header_fields", v.integer(1, 10_000), "Fields in one head; then 431"),
    _ours(
        "connection-buffer-size",
        "64k",
        "buffer_bytes",
        v.size_between(4096, 16 * 1024**2),
        "What is held of one peer before the other is no longer read",
    ),
    _ours(
        "worker-memory-budget",
        "0",
        "memory_budget_bytes",
        v.size,
        "What the connections of one worker may hold; 0: 35 % of the control group's limit, shared by the workers",
    ),
    _ours(
        "client-send-timeout",
        "60",
        "client_send_timeout_s",
        v.seconds,
        "How long a client may take nothing of its answer (nginx's `send_timeout`)",
    ),
    # Forwarding
    _process(
        "use-forwarded-headers", "false", "use_forwarded_headers", v.boolean, "Believe X-Forwarded-* of trusted proxies"
    ),
    _process(
        "enable-real-ip", "false", "enable_real_ip", v.boolean, "Believe the client address that trusted proxies name"
    ),
    _process(
        "forwarded-for-header",
        "X-Forwarded-For",
        "forwarded_for_header",
        v.header_name,
        "The field that names the client",
    ),
    _process(
        "proxy-real-ip-cidr",
        "0.0.0.0/0",
        "trusted_proxies",
        v.cidrs,
        "Networks of trusted proxies; a malformed list trusts nobody",
    ),
    _process(
        "use-proxy-protocol",
        "false",
        "proxy_protocol",
        v.boolean,
        "Take the client's address from a PROXY header (version 1 or 2), with which every connection to an entry of "
        "`listeners` must begin; senders outside `proxy-real-ip-cidr` may name no address but their own",
    ),
    _process(
        "proxy-protocol-header-timeout",
        "5s",
        "proxy_protocol_timeout_s",
        v.some_seconds,
        "Time for that header, if `client-header-timeout` is not less; then the connection is closed",
    ),
    _process(
        "compute-full-forwarded-for",
        "false",
        "compute_full_forwarded_for",
        v.boolean,
        "Append to X-Forwarded-For instead of replacing it",
    ),
    _process(
        "generate-request-id", "true", "generate_request_id", v.boolean, "Make X-Request-ID when the client sent none"
    ),
    _special(
        "proxy-set-headers", "", v.optional_reference, "ConfigMap (namespace/name) of fields to set towards upstreams"
    ),
    _special("add-headers", "", v.optional_reference, "ConfigMap (namespace/name) of fields to add to answers"),
    _process(
        "hide-headers", "", "hide_headers", v.header_names, "Answer fields that upstreams send and clients do not get"
    ),
    _ours("via", "", "via", v.optional_token, "Pseudonym for the Via field (RFC 9110, 7.6.3); empty sends none"),
    # Upstreams
    _route("proxy-body-size", "1m", "body_bytes", v.body_size, "Longest request body, 0 for any; then 413"),
    _route(
        "proxy-connect-timeout",
        "5",
        "connect_timeout_s",
        v.some_seconds,
        "Time to connect to an endpoint; then the next one, or 504",
    ),
    _route(
        "proxy-read-timeout",
        "60",
        "read_timeout_s",
        v.some_seconds,
        "Longest pause of an endpoint while we read; then 504",
    ),
    _route(
        "proxy-send-timeout",
        "60",
        "send_timeout_s",
        v.some_seconds,
        "Longest pause of an endpoint while we write; then 504",
    ),
    _route(
        "proxy-next-upstream",
        "error timeout",
        "next_upstream",
        v.next_upstream,
        "When another endpoint is tried; `off` for never",
    ),
    _route(
        "proxy-next-upstream-tries",
        "3",
        "next_upstream_tries",
        v.integer(0, 1000),
        "Tries in all; 0 for as many as there are endpoints",
    ),
    _route(
        "proxy-next-upstream-timeout",
        "0",
        "next_upstream_timeout_s",
        v.seconds,
        "Time in which a next try may begin; 0 for any",
    ),
    _special("retry-non-idempotent", "false", v.boolean, "Adds `non_idempotent` to proxy-next-upstream"),
    _process(
        "proxy-buffer-size",
        "64k",
        "response_head_bytes",
        v.size_between(1024, 16 * 1024**2),
        "Longest head of an answer; then 502 (ingress-nginx: 4k)",
    ),
    _process(
        "upstream-keepalive-connections",
        "320",
        "upstream_keepalive_connections",
        v.integer(0, 1_000_000),
        "Idle connections kept to endpoints by one worker",
    ),
    _process(
        "upstream-keepalive-timeout",
        "60",
        "upstream_keepalive_timeout_s",
        v.seconds,
        "How long an idle connection to an endpoint is kept",
    ),
    _process(
        "upstream-keepalive-requests",
        "10000",
        "upstream_keepalive_requests",
        _COUNT,
        "Requests on one connection to an endpoint",
    ),
    _process(
        "upstream-keepalive-time",
        "1h",
        "upstream_keepalive_time_s",
        v.some_seconds,
        "Age at which a connection to an endpoint is no longer used",
    ),
    Setting(
        "load-balance",
        "round_robin",
        "How endpoints are chosen",
        "upstream",
        "balancer",
        v.choice("round_robin", "least_request", "ewma"),
    ),
    _special("upstream-hash-by", "", v.hash_by, "Consistent hash of $remote_addr, $request_uri, $host or $http_NAME"),
    _ours(
        "retry-budget-percent",
        "20",
        "retry_budget_percent",
        v.number(0, 100),
        "Share of requests that may be retries after an answer or a time-out",
    ),
    _ours(
        "retry-budget-min-per-second",
        "3",
        "retry_budget_min_per_s",
        v.number(0, 1e6),
        "Such retries a second that are always allowed",
    ),
    # TLS
    _route("ssl-redirect", "true", "ssl_redirect", v.boolean, "Redirect HTTP to HTTPS where the host has TLS"),
    _route("force-ssl-redirect", "false", "force_ssl_redirect", v.boolean, "Redirect HTTP to HTTPS everywhere"),
    _process(
        "http-redirect-code", "308", "redirect_code", v.one_of_numbers(301, 302, 307, 308), "Status of those redirects"
    ),
    _special(
        "no-tls-redirect-locations",
        "/.well-known/acme-challenge",
        v.comma_list,
        "Path prefixes of routes that are not redirected",
    ),
    _special("hsts", "true", v.boolean, "Send Strict-Transport-Security over TLS"),
    _special("hsts-max-age", "31536000", v.integer(0, 10**10), "Its max-age, in seconds"),
    _special("hsts-include-subdomains", "true", v.boolean, "Its includeSubDomains"),
    _special("hsts-preload", "false", v.boolean, "Its preload"),
    _process("ssl-protocols", "TLSv1.2 TLSv1.3", "tls.protocols", v.tls_protocols, "TLS versions"),
    _process(
        "ssl-ciphers",
        "",
        "tls.ciphers",
        v.tls_ciphers,
        "OpenSSL cipher list for TLS 1.2; empty for ours (ingress-nginx's list)",
    ),
    _process("ssl-session-tickets", "false", "tls.session_tickets", v.boolean, "Session tickets"),
    _process("ssl-session-cache", "true", "tls.session_cache", v.boolean, "Let clients resume sessions"),
    _process(
        "ssl-session-timeout", "10m", "tls.session_timeout_s", v.some_seconds, "How long a session can be resumed"
    ),
    _process(
        "ssl-reject-handshake",
        "false",
        "tls.reject_unknown_sni",
        v.boolean,
        "Refuse server names that no certificate covers",
    ),
    # Access
    _guard("whitelist-source-range", "allowed_sources", "Networks that may ask; the others get 403. Empty: all may"),
    _guard("allowlist-source-range", "", "The same under its newer name, and wins", ours=True),
    _guard("denylist-source-range", "denied_sources", "Networks that may not ask: they get 403"),
    _special(
        "annotation-value-word-blocklist",
        "",
        v.comma_list,
        "Text, separated by commas, for which an Ingress that has it in an annotation is refused",
    ),
    _special(
        "strict-validate-path-type",
        "true",
        v.boolean,
        "The admission webhook denies Exact and Prefix paths of more than letters, digits and `/-_.`, "
        "instead of warning",
    ),
    # Compression
    _special("use-gzip", "false", v.boolean, "Compress answers for clients that take gzip"),
    _special("gzip-level", "1", v.integer(1, 9), "Level of compression"),
    _special("gzip-min-length", "256", v.size, "Shorter answers are not compressed"),
    _special("gzip-types", GZIP_TYPES, v.media_types, "Media types to compress; `*` for all"),
    _special("gzip-disable", "", v.word_list, "Regular expressions of User-Agents that get no gzip"),
    # Logging
    _special("access-log-path", "", v.no_control, "Where the access log goes; unset: `accessLog.path` of the file"),
    _special("http-access-log-path", "", v.no_control, "The same, and wins"),
    _special("disable-access-log", "false", v.boolean, "No access log"),
    _special("disable-http-access-log", "false", v.boolean, "No access log"),
    _special("log-format-upstream", "", v.no_control, "nginx-style template; unset: `accessLog.format` of the file"),
    _special("log-format-escape-json", "false", v.boolean, "Escape the template's values for JSON"),
    _special("log-format-escape-none", "false", v.boolean, "Do not escape the template's values"),
    _special("skip-access-log-urls", "", v.comma_list, "Paths that are not logged"),
    _special("error-log-level", "", v.error_log_level, "Level of the operational log; unset: `log.level` of the file"),
    # Life
    _process(
        "worker-shutdown-timeout",
        "240s",
        "worker_shutdown_timeout_s",
        v.seconds,
        "How long what runs may go on when we stop",
    ),
    _ours(
        "shutdown-grace-period", "0", "shutdown_grace_period_s", v.seconds, "How long listeners stay open after SIGTERM"
    ),
)

SETTINGS: Final = {setting.key: setting for setting in (*BUILT, *NOT_BUILT, *NGINX_ONLY)}
