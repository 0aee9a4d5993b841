"""Every annotation of ingress-nginx 1.15, by what must happen as long as nobody honours it."""

from __future__ import annotations

from typing import Final

from ingressd.control.translate.annotations.client_certificates import ANNOTATIONS as CLIENT_CERTIFICATES
from ingressd.filters.registry import ANNOTATIONS

PREFIX: Final = "nginx.ingress.kubernetes.io/"
CLASS: Final = "kubernetes.io/ingress.class"

SNIPPETS: Final = frozenset(
    {"auth-snippet", "configuration-snippet", "modsecurity-snippet", "server-snippet", "stream-snippet"}
)
"""Text for another program's configuration: the whole object is refused, as ingress-nginx does by default."""

GUARDS: Final = frozenset(
    {
        "allowlist-source-range",
        "auth-always-set-cookie",
        "auth-cache-duration",
        "auth-cache-key",
        "auth-keepalive",
        "auth-keepalive-requests",
        "auth-keepalive-share-vars",
        "auth-keepalive-timeout",
        "auth-method",
        "auth-proxy-set-headers",
        "auth-realm",
        "auth-request-redirect",
        "auth-response-headers",
        "auth-secret",
        "auth-secret-type",
        "auth-signin",
        "auth-signin-redirect-param",
        "auth-snippet",
        "auth-tls-error-page",
        "auth-tls-match-cn",
        "auth-tls-pass-certificate-to-upstream",
        "auth-tls-secret",
        "auth-tls-verify-client",
        "auth-tls-verify-depth",
        "auth-type",
        "auth-url",
        "denylist-source-range",
        "enable-modsecurity",
        "enable-owasp-core-rules",
        "global-rate-limit",
        "global-rate-limit-ignored-cidrs",
        "global-rate-limit-key",
        "global-rate-limit-window",
        "limit-allowlist",
        "limit-burst-multiplier",
        "limit-connections",
        "limit-rate",
        "limit-rate-after",
        "limit-rpm",
        "limit-rps",
        "limit-whitelist",
        "modsecurity-snippet",
        "modsecurity-transaction-id",
        "proxy-ssl-ciphers",
        "proxy-ssl-name",
        "proxy-ssl-protocols",
        "proxy-ssl-secret",
        "proxy-ssl-server-name",
        "proxy-ssl-verify",
        "proxy-ssl-verify-depth",
        "satisfy",
        "ssl-passthrough",
        "whitelist-source-range",
    }
)
"""Security policies. A route whose policy is not honoured answers 503."""

SWITCHES: Final = frozenset(
    {
        "auth-always-set-cookie",
        "auth-tls-pass-certificate-to-upstream",
        "auth-tls-verify-client",
        "enable-modsecurity",
        "enable-owasp-core-rules",
        "global-rate-limit",
        "limit-connections",
        "limit-rate",
        "limit-rate-after",
        "limit-rpm",
        "limit-rps",
        "proxy-ssl-server-name",
        "proxy-ssl-verify",
        "ssl-passthrough",
    }
)
"""Security policies that can be switched off by value. Any other has to be taken away: an empty one is malformed."""

OFF: Final = frozenset({"0", "f", "F", "false", "FALSE", "False", "off"})
"""Values with which a switch asks for nothing."""

GUARDING_VALUES: Final[dict[str, frozenset[str]]] = {"backend-protocol": frozenset({"HTTPS", "GRPCS"})}
"""Annotations of which only some values are a security policy: without TLS the upstream would get secrets in clear."""

PLAIN: Final = frozenset(
    {
        "affinity",
        "affinity-canary-behavior",
        "affinity-mode",
        "app-root",
        "backend-protocol",
        "canary",
        "canary-by-cookie",
        "canary-by-header",
        "canary-by-header-pattern",
        "canary-by-header-value",
        "canary-weight",
        "canary-weight-total",
        "client-body-buffer-size",
        "configuration-snippet",
        "cors-allow-credentials",
        "cors-allow-headers",
        "cors-allow-methods",
        "cors-allow-origin",
        "cors-expose-headers",
        "cors-max-age",
        "custom-headers",
        "custom-http-errors",
        "default-backend",
        "disable-proxy-intercept-errors",
        "enable-access-log",
        "enable-cors",
        "enable-global-auth",
        "enable-opentelemetry",
        "enable-opentracing",
        "enable-rewrite-log",
        "from-to-www-redirect",
        "http2-push-preload",
        "load-balance",
        "mirror-host",
        "mirror-request-body",
        "mirror-target",
        "opentelemetry-operation-name",
        "opentelemetry-trust-incoming-span",
        "opentracing-trust-incoming-span",
        "permanent-redirect",
        "permanent-redirect-code",
        "preserve-trailing-slash",
        "proxy-body-size",
        "proxy-buffer-size",
        "proxy-buffering",
        "proxy-buffers-number",
        "proxy-busy-buffers-size",
        "proxy-connect-timeout",
        "proxy-cookie-domain",
        "proxy-cookie-path",
        "proxy-http-version",
        "proxy-max-temp-file-size",
        "proxy-next-upstream",
        "proxy-next-upstream-timeout",
        "proxy-next-upstream-tries",
        "proxy-read-timeout",
        "proxy-redirect-from",
        "proxy-redirect-to",
        "proxy-request-buffering",
        "proxy-send-timeout",
        "relative-redirects",
        "rewrite-target",
        "server-alias",
        "server-snippet",
        "service-upstream",
        "session-cookie-change-on-failure",
        "session-cookie-conditional-samesite-none",
        "session-cookie-domain",
        "session-cookie-expires",
        "session-cookie-max-age",
        "session-cookie-name",
        "session-cookie-path",
        "session-cookie-samesite",
        "session-cookie-secure",
        "ssl-ciphers",
        "ssl-prefer-server-ciphers",
        "stream-snippet",
        "temporal-redirect",
        "temporal-redirect-code",
        "upstream-hash-by",
        "upstream-hash-by-subset",
        "upstream-hash-by-subset-size",
        "upstream-vhost",
        "use-regex",
        "x-forwarded-prefix",
    }
)
"""The others: a warning, and the route serves."""

BUILT: Final = ANNOTATIONS | {name for name, _ in CLIENT_CERTIFICATES}
"""Those that are honoured."""

KNOWN: Final = tuple(sorted(PLAIN | GUARDS | BUILT))

TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
"""What Go's strconv.ParseBool takes for true."""
