"""ingress-nginx's ConfigMap keys that we know and do not act on: not built yet, or about nginx's own machinery."""

from __future__ import annotations

from typing import Final

from ingressd.settings.setting import Setting


def _later(key: str, default: str, about: str, *as_we_do: str, guards: bool = False) -> Setting:
    return Setting(key, default, about, "not built", as_we_do=as_we_do, guards=guards)


NOT_BUILT: Final = (
    _later("forwarded-for-proxy-protocol-header", "X-Forwarded-For-Proxy-Protocol", "Field for the PROXY address"),
    _later("forwarded-host-header", "X-Forwarded-Host", "The field that names the host", "X-Forwarded-Host"),
    _later("use-http2", "true", "HTTP/2 for clients", "false"),
    _later("http2-max-concurrent-streams", "128", "Streams on one HTTP/2 connection"),
    _later("http2-max-field-size", "", "HTTP/2 field size"),
    _later("http2-max-header-size", "", "HTTP/2 head size"),
    _later("http2-max-requests", "0", "Requests on one HTTP/2 connection"),
    _later("grpc-buffer-size-kb", "0", "Buffer for gRPC"),
    _later("proxy-http-version", "1.1", "HTTP version towards upstreams", "1.1"),
    _later("allow-backend-server-header", "false", "Pass the upstream's Server field", "false"),
    _later("proxy-add-original-uri-header", "false", "Send X-Original-URI", "false"),
    _later("proxy-buffering", "off", "Buffer answers", "off"),
    _later("proxy-request-buffering", "on", "Buffer request bodies", "off"),
    _later("proxy-cookie-domain", "off", "Rewrite cookie domains", "off"),
    _later("proxy-cookie-path", "off", "Rewrite cookie paths", "off"),
    _later("proxy-redirect-from", "off", "Rewrite Location: what", "off"),
    _later("proxy-redirect-to", "off", "Rewrite Location: into what", "off"),
    _later("limit-rate", "0", "Bytes a second for one answer", "0"),
    _later("limit-rate-after", "0", "Bytes before limit-rate sets in", "0"),
    _later("limit-req-status-code", "503", "Status of a refused request rate", "503"),
    _later("limit-conn-status-code", "503", "Status of a refused connection count", "503"),
    _later("custom-http-errors", "", "Statuses whose answers the default backend makes", ""),
    _later("disable-proxy-intercept-errors", "false", "Off switch of custom-http-errors", "false"),
    _later("relative-redirects", "false", "Location without scheme and host", "false"),
    _later("use-port-in-redirects", "false", "Location with the port", "false"),
    _later("preserve-trailing-slash", "false", "Keep the slash in redirects", "false"),
    _later("app-root", "", "Where / redirects to", ""),
    _later("upstream-hash-by-subset", "false", "Hash to a subset of endpoints", "false"),
    _later("upstream-hash-by-subset-size", "3", "Size of that subset"),
    _later("service-upstream", "false", "Send to the Service's address", "false"),
    _later("enable-brotli", "false", "Compress with Brotli", "false"),
    _later("brotli-level", "4", "Level of Brotli"),
    _later("brotli-min-length", "20", "Shortest answer for Brotli"),
    _later("brotli-types", "", "Media types for Brotli"),
    _later("ssl-early-data", "false", "TLS 1.3 0-RTT", "false"),
    _later("ssl-ecdh-curve", "auto", "Curves", "auto"),
    _later("ssl-dh-param", "", "Diffie-Hellman parameters", ""),
    _later("ssl-session-ticket-key", "", "Fixed ticket key", ""),
    _later("enable-ocsp", "false", "OCSP stapling", "false"),
    _later("proxy-ssl-location-only", "false", "Client certificates towards upstreams by location", "false"),
    _later("enable-access-log-for-default-backend", "false", "Access log of the default backend", "false", "true"),
    _later("enable-auth-access-log", "false", "Access log of auth subrequests", "false"),
    _later("access-log-params", "", "Parameters of nginx's access_log", ""),
    _later("stream-access-log-path", "", "Access log of L4 services", ""),
    _later("disable-stream-access-log", "false", "No access log of L4 services", "false", "true"),
    _later("log-format-stream", "", "Template for L4 services", ""),
    _later("error-log-path", "/var/log/nginx/error.log", "The operational log goes to stderr"),
    _later("enable-syslog", "false", "Logs to syslog", "false"),
    _later("syslog-host", "", "Where", ""),
    _later("syslog-port", "514", "Which port"),
    _later("proxy-stream-timeout", "600s", "Idle time of L4 services"),
    _later("proxy-stream-next-upstream", "true", "Another endpoint for L4 services"),
    _later("proxy-stream-next-upstream-timeout", "600s", "Time for that"),
    _later("proxy-stream-next-upstream-tries", "3", "Tries for that"),
    _later("proxy-stream-responses", "1", "Datagrams a UDP client is answered with"),
    _later("bind-address", "", "Addresses to bind: `listeners` says it", ""),
    _later("block-cidrs", "", "Networks that may not ask", "", guards=True),
    _later("block-user-agents", "", "User-Agents that may not ask", "", guards=True),
    _later("block-referers", "", "Referers that may not ask", "", guards=True),
    _later("global-auth-url", "", "External authentication for every route", "", guards=True),
    _later("global-auth-method", "", "Its method", ""),
    _later("global-auth-signin", "", "Its sign-in page", ""),
    _later("global-auth-signin-redirect-param", "rd", "Parameter of the sign-in page"),
    _later("global-auth-response-headers", "", "Fields it gives to upstreams", ""),
    _later("global-auth-request-redirect", "", "X-Auth-Request-Redirect", ""),
    _later("global-auth-cache-key", "", "Key of its cache", ""),
    _later("global-auth-cache-duration", "200 202 401 5m", "Age in its cache"),
    _later("global-auth-always-set-cookie", "false", "Its cookies on errors too", "false"),
    _later("no-auth-locations", "/.well-known/acme-challenge", "Path prefixes without it"),
    _later("global-allowed-response-headers", "", "Fields the custom-headers annotation may set", ""),
    _later("enable-modsecurity", "false", "Web application firewall", "false", guards=True),
    _later("enable-owasp-modsecurity-crs", "false", "Its rules", "false", guards=True),
    _later("allow-snippet-annotations", "false", "nginx snippets in annotations", "false"),
    _later("allow-cross-namespace-resources", "false", "Annotations that name other namespaces", "false"),
    _later("annotations-risk-level", "High", "Riskiest annotations taken"),
    _later("enable-opentelemetry", "false", "Tracing", "false"),
    _later("opentelemetry-config", "", "Tracing: file"),
    _later("opentelemetry-operation-name", "", "Tracing: span name", ""),
    _later("opentelemetry-trust-incoming-span", "true", "Tracing: join the client's span"),
    _later("otlp-collector-host", "", "Tracing: collector", ""),
    _later("otlp-collector-port", "4317", "Tracing: its port"),
    _later("otel-service-name", "nginx", "Tracing: service name"),
    _later("otel-sampler", "AlwaysOn", "Tracing: sampler"),
    _later("otel-sampler-ratio", "0.01", "Tracing: sampled share"),
    _later("otel-sampler-parent-based", "true", "Tracing: as the parent"),
    _later("otel-schedule-delay-millis", "5000", "Tracing: batch delay"),
    _later("otel-max-export-batch-size", "512", "Tracing: batch size"),
    _later("otel-max-queuesize", "2048", "Tracing: queue"),
    _later("use-geoip2", "false", "Addresses to places", "false"),
    _later("geoip2-autoreload-in-minutes", "0", "Re-read its database", "0"),
)  # fmt: skip

NGINX_ONLY: Final = tuple(
    Setting(key, "", about, "nginx only")
    for about, keys in (
        ("Text for nginx.conf", "main-snippet http-snippet server-snippet stream-snippet location-snippet "
         "modsecurity-snippet global-auth-snippet"),
        ("Size of a table of nginx", "map-hash-bucket-size variables-hash-bucket-size variables-hash-max-size "
         "server-name-hash-max-size server-name-hash-bucket-size proxy-headers-hash-max-size "
         "proxy-headers-hash-bucket-size limit-conn-zone-variable lua-shared-dicts plugins ssl-session-cache-size"),
        ("Size of a buffer of nginx", "client-header-buffer-size client-body-buffer-size proxy-buffers-number "
         "proxy-busy-buffers-size proxy-max-temp-file-size ssl-buffer-size"),
        ("Processes of nginx (`workers` of the configuration file says how many we have)", "worker-processes "
         "worker-cpu-affinity enable-serial-reloads max-worker-open-files enable-multi-accept enable-aio-write "
         "reuse-port"),
        ("nginx's own endpoints and diagnosis", "nginx-status-ipv4-whitelist nginx-status-ipv6-whitelist "
         "debug-connections default-type"),
        ("IPv6 is used where an address says so", "disable-ipv6 disable-ipv6-dns"),
    )
    for key in keys.split()
)  # fmt: skip
