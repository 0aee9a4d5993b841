"""HAProxy, one thread, JSON log lines to a UDP syslog sink (its own way of logging), Prometheus exporter on."""

from __future__ import annotations

import os

from loadtest.launch import Place, find

CONFIG = """\
global
  nbthread 1
  maxconn 9500
  log 127.0.0.1:{syslog} format rfc5424 local0
  ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
  tune.ssl.default-dh-param 2048
defaults
  mode http
  log global
  timeout connect 5s
  timeout client 75s
  timeout server 60s
  timeout http-request 60s
  timeout http-keep-alive 75s
  option http-keep-alive
  retries 3
  log-format '{log_format}'
frontend http
  bind 127.0.0.1:{http} backlog 4096
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Port {http}
  use_backend bench
frontend https
  bind 127.0.0.1:{https} ssl crt {cert} backlog 4096
  http-request set-header X-Forwarded-Proto https
  http-request set-header X-Forwarded-Port {https}
  http-response set-header Strict-Transport-Security "max-age=31536000; includeSubDomains"
  use_backend bench
backend bench
  http-reuse safe
  http-request set-header X-Request-ID %[uuid()] unless {{ req.hdr(X-Request-ID) -m found }}
  http-request set-header X-Real-IP %[src]
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Host %[req.hdr(Host)]
  server b1 127.0.0.1:{backend}
frontend stats
  bind 127.0.0.1:{admin}
  no log
  http-request use-service prometheus-exporter if {{ path /metrics }}
"""

LOG_FORMAT = (
    '{"time":"%tr","remote_addr":"%ci","method":"%HM","path":"%HU","protocol":"%HV","status":%ST,"bytes_sent":%B,'
    '"bytes_received":%U,"duration_ms":%Ta,"upstream":"%b","upstream_addr":"%si:%sp","upstream_ms":%Tr,"tls":"%sslv"}'
)


def command(place: Place, *, syslog_port: int) -> list[str]:
    """The command to start. Missing when HAProxy is not installed."""
    haproxy = find("haproxy")
    config = place.write(
        "haproxy.cfg",
        CONFIG.format(
            http=place.http_port,
            https=place.https_port,
            admin=place.admin_port,
            backend=place.backend_port,
            cert=place.cert_file,
            syslog=syslog_port,
            log_format=LOG_FORMAT,
        ),
    )
    os.chmod(config, 0o644)
    return [haproxy, "-db", "-f", str(config)]
