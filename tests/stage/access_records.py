"""One record of the access log, to be changed field by field."""

from __future__ import annotations

from typing import Any

FIELDS = {
    "time": 1764022380.1239,
    "request_id": b"5f0d9e87f73e28190c8eca6a147356f2",
    "remote_addr": "192.0.2.7",
    "host": b"shop.example:8080",
    "method": b"GET",
    "path": b"/api/items?id=3",
    "protocol": b"HTTP/1.1",
    "status": 200,
    "bytes_sent": 1234,
    "bytes_received": 345,
    "duration_s": 0.0123456789,
    "upstream": "default/api:http",
    "upstream_addr": "10.0.0.1:8080",
    "upstream_status": 200,
    "upstream_duration_s": 0.0099,
    "route": "Ingress/default/shop",
    "user_agent": b"curl/7.88.1",
    "referer": None,
    "tls": None,
    "error": None,
    "body_bytes_sent": 1000,
    "upstream_bytes": 999,
    "header": None,
}


def record(**changes: Any) -> tuple[Any, ...]:
    """The record of a plain exchange, with some fields changed."""
    return tuple((FIELDS | changes).values())
