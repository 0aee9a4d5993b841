"""Caddy: JSON access log to a file, metrics on. The Go runtime takes the number of CPUs from the affinity: one."""

from __future__ import annotations

from loadtest.launch import Place, find

CONFIG = """\
{{
  admin 127.0.0.1:{admin}
  auto_https off
  storage file_system {folder}/storage
  log default {{
    output discard
  }}
  servers {{
    metrics
    protocols h1
  }}
}}
(proxy) {{
  bind 127.0.0.1
  log {{
    output file {folder}/access.log {{
      roll_disabled
    }}
    format json
  }}
  reverse_proxy 127.0.0.1:{backend} {{
    header_up X-Request-ID {{http.request.uuid}}
    header_up X-Real-IP {{http.request.remote.host}}
    header_up X-Forwarded-Port {{http.request.local.port}}
    transport http {{
      dial_timeout 5s
      keepalive 60s
      keepalive_idle_conns 1024
      keepalive_idle_conns_per_host 1024
      compression off
    }}
  }}
}}
http://localhost:{http} {{
  import proxy
}}
https://localhost:{https} {{
  tls {cert} {key}
  header Strict-Transport-Security "max-age=31536000; includeSubDomains"
  import proxy
}}
"""


def command(place: Place) -> list[str]:
    """The command to start. Missing when Caddy is not installed."""
    caddy = find("caddy")
    config = place.write(
        "Caddyfile",
        CONFIG.format(
            folder=place.folder,
            http=place.http_port,
            https=place.https_port,
            admin=place.admin_port,
            backend=place.backend_port,
            cert=place.cert_file,
            key=place.key_file,
        ),
    )
    return [caddy, "run", "--adapter", "caddyfile", "--config", str(config)]
