"""Parsers of single values, spelled as in ingress-nginx's ConfigMap and on its command line.

Each takes the text and returns a plain value, or raises ValueError whose message says what was expected; the key is
named by the caller.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from typing import Any, Final

Parser = Callable[[str], Any]

TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_SIZE: Final = re.compile(r"([0-9]{1,15})([kKmMgG]?)\Z")
_TIME: Final = re.compile(r"(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|[smhdw]))+\Z")
_TIME_PART: Final = re.compile(r"([0-9.]+)(ms|[smhdw])")
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZES: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_NAME: Final = r"[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?"
_REFERENCE: Final = re.compile(f"({_NAME})/({_NAME})\\Z")
_BUFFERS: Final = re.compile(r"([0-9]{1,6})\s+([0-9]{1,15}[kKmM]?)\Z")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_STATUSES: Final = (403, 404, 429, 500, 502, 503, 504)
_CONDITIONS: Final = {
    "error",
    "timeout",
    "invalid_header",
    "non_idempotent",
    *(f"http_{status}" for status in _STATUSES),
}
_PROTOCOLS: Final = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")


def no_control(text: str) -> str:
    """Text without control characters. CR, LF and NUL in a header value would let its author write other headers."""
    if _CONTROL.search(text):
        raise ValueError("control characters are not allowed")
    return text


def file_name(text: str) -> str:
    """A path; not the content of the file, which may be a private key and would be in every message about it."""
    if "-----BEGIN" in text:
        raise ValueError("expected the name of a file, got what belongs into one")
    return no_control(text)


def boolean(text: str) -> bool:
    """What Go's strconv.ParseBool takes."""
    if text in ("true", "True", "TRUE", "t", "T", "1"):
        return True
    if text in ("false", "False", "FALSE", "f", "F", "0"):
        return False
    raise ValueError(f'expected "true" or "false", got {text!r}')


def size(text: str) -> int:
    """Bytes: digits and at most one of k, m, g (nginx's ngx_parse_size)."""
    found = _SIZE.match(text.strip())
    if found is None:
        raise ValueError(f"expected a size like 8k or 1m, got {text!r}")
    return int(found[1]) * _SIZES[found[2].lower()]


def seconds(text: str) -> float:
    """Seconds: a plain number, or parts like 1h30m, 500ms (nginx's ngx_parse_time and Go's durations)."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    if _TIME.match(text) is None:
        raise ValueError(f"expected a time like 60, 60s or 10m, got {text!r}")
    try:
        return math.fsum(float(number) * _UNITS_S[unit] for number, unit in _TIME_PART.findall(text))
    except ValueError:
        raise ValueError(f"expected a time like 60, 60s or 10m, got {text!r}") from None


def some_seconds(text: str) -> float:
    """Seconds, more than none."""
    value = seconds(text)
    if value <= 0:
        raise ValueError(f"expected a time above 0, got {text!r}")
    return value


def integer(least: int, most: int) -> Parser:
    """A whole number between two bounds, both included."""

    def parse(text: str) -> int:
        digits = text.strip()
        if digits.isascii() and digits.isdigit() and len(digits) <= 15 and least <= int(digits) <= most:
            return int(digits)
        raise ValueError(f"expected a whole number from {least} to {most}, got {text!r}")

    return parse


def number(least: float, most: float) -> Parser:
    """A number between two bounds, both included."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if least <= value <= most:
            return value
        raise ValueError(f"expected a number from {least:g} to {most:g}, got {text!r}")

    return parse


def size_between(least: int, most: int) -> Parser:
    """A size between two bounds, both included."""

    def parse(text: str) -> int:
        value = size(text)
        if least <= value <= most:
            return value
        raise ValueError(f"expected a size from {least} to {most} bytes, got {text!r}")

    return parse


def choice(*known: str) -> Parser:
    """One of a few words."""

    def parse(text: str) -> str:
        if text in known:
            return text
        raise ValueError(f"expected one of {', '.join(known)}, got {text!r}")

    return parse


def one_of_numbers(*known: int) -> Parser:
    """One of a few numbers."""

    def parse(text: str) -> int:
        if text.strip() in {str(value) for value in known}:
            return int(text)
        raise ValueError(f"expected one of {', '.join(map(str, known))}, got {text!r}")

    return parse


def body_size(text: str) -> int | None:
    """A size; 0 is no limit (client_max_body_size)."""
    return size(text) or None


def comma_list(text: str) -> tuple[str, ...]:
    """Comma-separated, trimmed, without empty items."""
    return tuple(item.strip() for item in no_control(text).split(",") if item.strip())


def word_list(text: str) -> tuple[str, ...]:
    """Separated by white space or commas."""
    return tuple(text.replace(",", " ").split())


def header_name(text: str) -> str:
    """A field name (RFC 9110, 5.1: token)."""
    if TOKEN.match(text) is None:
        raise ValueError(f"{text!r} is no header name")
    return text


def optional_token(text: str) -> str:
    """A token or nothing."""
    return header_name(text) if text else text


def header_names(text: str) -> tuple[str, ...]:
    """Comma-separated field names."""
    return tuple(header_name(name) for name in comma_list(text))


def cidrs(text: str) -> tuple[str, ...]:
    """Comma-separated networks or addresses, in canonical form."""
    out = []
    for item in comma_list(text):
        try:
            out.append(str(_network(item)))
        except ValueError:
            raise ValueError(f"{item!r} is no address and no network in CIDR notation") from None
    return tuple(out)


def source_ranges(text: str) -> tuple[str, ...]:
    """Networks of clients; nothing is no list, but separators around nothing are a mistake and must not open a door."""
    if not text.strip():
        return ()
    items = [item.strip() for item in no_control(text).split(",")]
    if not all(items):
        raise ValueError(f"expected addresses or networks separated by commas, got {text!r}")
    return cidrs(text)


def _network(item: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A network; one of IPv4 addresses written as IPv6 is one of IPv4, as addresses of clients are."""
    network = ipaddress.ip_network(item, strict=False)
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


def addresses_or_names(text: str) -> tuple[str, ...]:
    """Comma-separated IP addresses or host names (publish-status-address)."""
    items = comma_list(text)
    for item in items:
        if re.match(r"[0-9A-Za-z:.-]+\Z", item) is None:
            raise ValueError(f"{item!r} is no address and no host name")
    return items


def reference(text: str) -> str:
    """ "namespace/name" of an object."""
    if _REFERENCE.match(text.strip()) is None:
        raise ValueError(f"expected namespace/name, got {text!r}")
    return text.strip()


def optional_reference(text: str) -> str:
    """ "namespace/name" of an object, or nothing."""
    return reference(text) if text.strip() else ""


def header_buffers(text: str) -> tuple[int, int]:
    """Number and size of large_client_header_buffers: "4 8k" is a line of at most 8 KiB and a head of 32."""
    found = _BUFFERS.match(text.strip())
    if found is None:
        raise ValueError(f'expected a number and a size like "4 8k", got {text!r}')
    count, each = int(found[1]), size(found[2])
    if count < 1 or not 256 <= each <= 1024**2 or count * each > 16 * 1024**2:
        raise ValueError(f"expected buffers of 256 bytes to 1m, at least one and 16m in all, got {text!r}")
    return count, each


def next_upstream(text: str) -> tuple[str, ...]:
    """The conditions of proxy_next_upstream, sorted; "off" is none."""
    words = text.split()
    if words == ["off"]:
        return ()
    for word in words:
        if word not in _CONDITIONS:
            raise ValueError(f"{word!r} is no condition; there are {', '.join(sorted(_CONDITIONS))} and off")
    if not words:
        raise ValueError("expected conditions, or off")
    return tuple(sorted(set(words)))


def tls_protocols(text: str) -> tuple[str, ...]:
    """TLS versions in rising order."""
    words = set(word_list(text))
    unknown = sorted(words - set(_PROTOCOLS))
    if unknown or not words:
        raise ValueError(f"expected some of {', '.join(_PROTOCOLS)}, got {text!r}")
    return tuple(version for version in _PROTOCOLS if version in words)


def tls_ciphers(text: str) -> str:
    """An OpenSSL cipher list; whether OpenSSL knows the names is seen where it is used."""
    if re.match(r"[A-Za-z0-9:+!@=_.-]*\Z", text) is None:
        raise ValueError(f"expected an OpenSSL cipher list, got {text!r}")
    return text


def media_types(text: str) -> tuple[str, ...]:
    """Media types, lowercased; "*" is all."""
    out = []
    for item in word_list(text):
        if item != "*" and re.match(r"[!#$&^_.+0-9A-Za-z-]+/[!#$&^_.+0-9A-Za-z-]+\Z", item) is None:
            raise ValueError(f"{item!r} is no media type")
        out.append(item.lower())
    return tuple(out)


def hash_by(text: str) -> str:
    """One nginx variable, in the model's words: client_ip, uri, host, header:NAME. Empty is none."""
    known = {"$remote_addr": "client_ip", "$binary_remote_addr": "client_ip", "$request_uri": "uri", "$host": "host"}
    name = text.strip().replace("${", "$").rstrip("}")
    if not name:
        return ""
    if name in known:
        return known[name]
    if re.match(r"\$http_[a-z0-9_]+\Z", name):
        return "header:" + name.removeprefix("$http_").replace("_", "-")
    raise ValueError(f"expected one of {', '.join(known)} or $http_NAME, got {text!r}")


def error_log_level(text: str) -> str:
    """nginx's levels as ours; "" is unset."""
    levels = {"": "", "debug": "debug", "info": "info", "notice": "info", "warn": "warning"}
    levels.update(dict.fromkeys(("error", "crit", "alert", "emerg"), "error"))
    if text not in levels:
        raise ValueError(f"expected one of {', '.join(filter(None, levels))}, got {text!r}")
    return levels[text]
