"""HTTP_PROXY, HTTPS_PROXY and NO_PROXY, as Go's clients of Kubernetes read them (golang.org/x/net/http/httpproxy).

Python's own reading knows no networks in NO_PROXY, and clusters name the API server's there ("10.96.0.0/12").
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy that a request to `url` goes through, None for none."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    proxy = _variable(environ, "HTTPS_PROXY" if parts.scheme == "https" else "HTTP_PROXY")
    if not proxy or _is_local(host):
        return None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if any(_matches(entry, host, port) for entry in _variable(environ, "NO_PROXY").lower().split(",")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.lower(), "")


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _matches(entry: str, host: str, port: int) -> bool:
    """One entry of NO_PROXY: "*", an address, a network, or a domain; address and domain may name a port."""
    entry = entry.strip()
    if entry == "*":
        return True
    if not entry:
        return False
    address = _address(host)
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    if _address(entry) is None:
        name, colon, digits = entry.rpartition(":")
        if colon and digits.isdigit():
            if int(digits) != port:
                return False
            entry = name
    entry = entry.removeprefix("[").removesuffix("]")
    named = _address(entry)
    if named is not None:
        return named == address
    # "example.com" takes the domain and all below it, ".example.com" and "*.example.com" only what is below.
    below = "." + entry.removeprefix("*").removeprefix(".")
    return host.endswith(below) or host == entry


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
