"""The forwarding fields: what an upstream is told about the client, and whom we believe about it.

The rules are ingress-nginx's (`proxy_set_header` in its nginx.tmpl, `realip` in nginx, lua_ingress.lua). Nothing that a
client sends in these fields is passed on as it came: each is our own word, unless the peer is a trusted proxy. One
deviation, on purpose: `proxy-real-ip-cidr` limits the trust in X-Forwarded-Host, -Port and -Proto too, not only in
X-Forwarded-For (kubernetes/ingress-nginx#13158).
"""

from __future__ import annotations

import os
import re
from binascii import hexlify
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from ingressd.filters.request_headers import settable
from ingressd.model.units import ProcessPolicy
from ingressd.protocol.authority import check_authority
from ingressd.protocol.fields import (
    SPOOFABLE,
    VIA,
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PORT,
    X_FORWARDED_PROTO,
    X_REQUEST_ID,
)
from ingressd.protocol.h1 import HeadError, RequestHead

_CACHE_ENTRIES: Final = 4096
_CACHE_VALUE_BYTES: Final = 128
_POOL_IDS: Final = 256
_MAX_FORWARDED_FOR: Final = 64
"""Addresses looked at in X-Forwarded-For; a longer list is somebody's game."""

# What may stand in a log, a header and a trace without being looked at again.
_REQUEST_ID = re.compile(rb"[!-~]{1,256}").fullmatch
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]{0,31}").fullmatch
_PORT = re.compile(rb"[1-9][0-9]{0,4}").fullmatch
_ADDRESS_PORT = re.compile(r"(\d+\.\d+\.\d+\.\d+):\d+|\[([0-9a-fA-F:.]+)\](?::\d+)?").fullmatch

_EVERYONE: Final = ("0.0.0.0/0",)


class Forwarded:
    """What is known of the client of one exchange. `lines` is ready to append to a request line, each with its CRLF."""

    __slots__ = ("client_ip", "forwarded_scheme", "head", "host", "lines", "request_id", "scheme")

    def __init__(
        self,
        head: RequestHead,
        lines: bytes,
        client_ip: str,
        request_id: bytes,
        scheme: bytes,
        forwarded_scheme: bytes,
        host: bytes,
    ) -> None:
        self.head = head
        self.lines = lines
        self.client_ip = client_ip
        """The peer's address, or the one that trusted proxies name."""
        self.request_id = request_id
        """The client's own when it is sane, else 32 hex digits of ours; b"" when `generate-request-id` is off."""
        self.scheme = scheme
        self.forwarded_scheme = forwarded_scheme
        self.host = host
        """Authority with its port; the one trusted proxies name, else the client's."""


class _Peer:
    """What stays the same for all requests from one address to one port."""

    __slots__ = ("client_ip", "forwarded_scheme", "scheme", "tail")

    def __init__(self, client_ip: str, scheme: bytes, forwarded_scheme: bytes, tail: bytes) -> None:
        self.client_ip = client_ip
        self.scheme = scheme
        self.forwarded_scheme = forwarded_scheme
        self.tail = tail


class Forwarder:
    """The rules of one process policy, compiled."""

    __slots__ = (
        "_compute_full",
        "_forwarded_for",
        "_generate",
        "_ids",
        "_left_out",
        "_networks",
        "_peers",
        "_position",
        "_proxy_protocol",
        "_random",
        "_real_ips",
        "_simple",
        "_trust_address",
        "_trust_rest",
        "_trusted",
        "_via",
    )

    def __init__(self, process: ProcessPolicy, *, random: Callable[[int], bytes] = os.urandom) -> None:
        """`random` gives so many random bytes, for request IDs. Raises ValueError for a CIDR that is none."""
        self._trust_rest = process.use_forwarded_headers
        self._proxy_protocol = process.proxy_protocol
        # Where the PROXY header says who the client is, `enable-real-ip` adds nothing.
        self._trust_address = process.use_forwarded_headers or (process.enable_real_ip and not process.proxy_protocol)
        self._compute_full = process.compute_full_forwarded_for and process.use_forwarded_headers
        self._forwarded_for = process.forwarded_for_header.lower().encode()
        self._generate = process.generate_request_id
        self._via = process.via.encode()
        # ingress-nginx's default means "whoever connects"; there it reaches IPv6 peers too, in all but the address.
        everyone = process.trusted_proxies == _EVERYONE
        networks = (*process.trusted_proxies, "::/0") if everyone else process.trusted_proxies
        self._networks = tuple(ip_network(cidr, strict=False) for cidr in networks)
        self._left_out = frozenset(name.lower().encode() for name, _ in settable(process.set_headers))
        self._simple = not self._via and not self._left_out and self._forwarded_for == X_FORWARDED_FOR
        self._peers: dict[tuple[str, bool, bytes], _Peer] = {}
        self._trusted: dict[str, bool] = {}
        self._real_ips: dict[tuple[bytes, str], str] = {}
        self._random = random
        self._ids = b""
        self._position = 0

    def forward(self, head: RequestHead, peer_ip: str, tls: bool, port: bytes) -> Forwarded:
        """The fields for one request from `peer_ip`, over TLS or not, to a listener whose declared port is `port`."""
        peer = self._peers.get((peer_ip, tls, port))
        if peer is None:
            peer = self._add_peer(peer_ip, tls, port=port)
        if head.special is not None or not self._simple:
            return self._forward_slowly(head, peer, port=port)
        host = head.host
        if self._generate and host:
            position = self._position
            if position >= len(self._ids):
                self._refill()
                position = 0
            self._position = position + 32
            request_id = self._ids[position : position + 32]
            lines = b"Host: %b\r\nX-Request-ID: %b\r\nX-Forwarded-Host: %b\r\n%b" % (host, request_id, host, peer.tail)
            return Forwarded(head, lines, peer.client_ip, request_id, peer.scheme, peer.forwarded_scheme, host)
        return self._forward_slowly(head, peer, port=port)

    def _forward_slowly(self, head: RequestHead, peer: _Peer, *, port: bytes) -> Forwarded:
        special = head.special or {}
        trusted = self._trust_address and self.trusts(peer.client_ip)
        host, scheme = head.host, peer.forwarded_scheme
        client_ip = peer.client_ip
        claimed_for = _joined(self._field(head, self._forwarded_for))
        if trusted:
            client_ip = self._real_ip(claimed_for, client_ip)
            if self._trust_rest:
                host = _valid_authority(_first(special.get(X_FORWARDED_HOST))) or host
                if scheme == peer.scheme:  # Else the balancer has said that it ends TLS, and is nearer to us.
                    scheme = _matching(_SCHEME, _first(special.get(X_FORWARDED_PROTO))) or scheme
                port = _matching(_PORT, _first(special.get(X_FORWARDED_PORT))) or port
        request_id = self._request_id(special.get(X_REQUEST_ID))
        address = client_ip.encode()
        forwarded_for = address
        if trusted and self._compute_full:
            peer_address = peer.client_ip.encode()
            forwarded_for = claimed_for + b", " + peer_address if claimed_for else peer_address
        pairs = [
            (b"Host", host),
            (b"X-Request-ID", request_id),
            (b"X-Real-IP", address),
            (b"X-Forwarded-For", forwarded_for),
            (b"X-Forwarded-Host", host),
            (b"X-Forwarded-Port", port),
            (b"X-Forwarded-Proto", scheme),
            (b"X-Forwarded-Scheme", scheme),
            (b"X-Scheme", scheme),
            (b"X-Original-Forwarded-For", claimed_for),
            (b"X-Original-Forwarded-Host", _joined(special.get(X_FORWARDED_HOST))),
            (b"Via", self._via_value(head, special.get(VIA))),
        ]
        if trusted and self._trust_rest:
            pairs += [(_spelled(name), value) for name in special if name in SPOOFABLE for value in special[name]]
        # RFC 9112, 3.2: a request without an authority has an empty Host; any other field without a value is left out.
        lines = b"".join(
            b"%b: %b\r\n" % (name, value)
            for name, value in pairs
            if (value or name == b"Host") and name.lower() not in self._left_out
        )
        return Forwarded(head, lines, client_ip, request_id, peer.scheme, scheme, host)

    def _field(self, head: RequestHead, name: bytes) -> list[bytes] | None:
        """The values of a field, which the codec may not have singled out (`forwarded-for-header`)."""
        if head.special is not None and name in head.special:
            return head.special[name]
        if name == X_FORWARDED_FOR:
            return None
        prefix = name + b":"
        values = [line[len(prefix) :].strip(b" \t") for line in head.fields if line[: len(prefix)].lower() == prefix]
        return values or None

    def _request_id(self, values: list[bytes] | None) -> bytes:
        if values is not None and _REQUEST_ID(values[0]):
            return values[0]
        if not self._generate:
            return b""
        if self._position >= len(self._ids):
            self._refill()
        position = self._position
        self._position = position + 32
        return self._ids[position : position + 32]

    def _refill(self) -> None:
        self._ids = hexlify(self._random(16 * _POOL_IDS))
        self._position = 0

    def _via_value(self, head: RequestHead, values: list[bytes] | None) -> bytes:
        """RFC 9110, 7.6.3: each proxy adds itself behind those before it. Optional here; theirs pass in any case."""
        before = _joined(values)
        if not self._via:
            return before
        own = b"1.%d %b" % (head.version - 10, self._via)
        return before + b", " + own if before else own

    def _real_ip(self, claimed_for: bytes, peer_ip: str) -> str:
        """nginx's `real_ip_recursive on`: from the right, the first address that is no trusted proxy."""
        known = self._real_ips.get((claimed_for, peer_ip))
        if known is not None:
            return known
        found = peer_ip
        for text in reversed(claimed_for.decode("latin-1").split(",")[-_MAX_FORWARDED_FOR:]):
            address = canonical_ip(text.strip())
            if address is None:
                break
            found = address
            if not self.trusts(address):
                break
        if len(claimed_for) <= _CACHE_VALUE_BYTES:
            if len(self._real_ips) >= _CACHE_ENTRIES:
                self._real_ips.clear()
            self._real_ips[claimed_for, peer_ip] = found
        return found

    def trusts(self, address: str) -> bool:
        """Whether an IP address is within `proxy-real-ip-cidr`."""
        known = self._trusted.get(address)
        if known is None:
            if len(self._trusted) >= _CACHE_ENTRIES:
                self._trusted.clear()
            try:
                parsed = ip_address(address)
            except ValueError:
                known = False
            else:
                known = any(parsed in network for network in self._networks)
            self._trusted[address] = known
        return known

    def _add_peer(self, peer_ip: str, tls: bool, *, port: bytes) -> _Peer:
        client_ip = (canonical_ip(peer_ip) or peer_ip) if ":" in peer_ip else peer_ip
        scheme = b"https" if tls else b"http"
        # As in lua_ingress.lua: a balancer that was asked on port 443 and speaks plain HTTP to us has ended TLS.
        forwarded_scheme = b"https" if self._proxy_protocol and port == b"443" else scheme
        address = client_ip.encode()
        tail = (
            b"X-Real-IP: %b\r\nX-Forwarded-For: %b\r\nX-Forwarded-Port: %b\r\n"
            b"X-Forwarded-Proto: %b\r\nX-Forwarded-Scheme: %b\r\nX-Scheme: %b\r\n"
        ) % (address, address, port, forwarded_scheme, forwarded_scheme, forwarded_scheme)
        if len(self._peers) >= _CACHE_ENTRIES:
            self._peers.clear()
        peer = self._peers[peer_ip, tls, port] = _Peer(client_ip, scheme, forwarded_scheme, tail)
        return peer


def canonical_ip(text: str) -> str | None:
    """An IP address as everybody writes it: no port, brackets or zone, IPv4 in IPv6 as IPv4. None when it is none."""
    match = _ADDRESS_PORT(text)
    if match is not None:
        text = match[1] or match[2]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


def _joined(values: list[bytes] | None) -> bytes:
    """RFC 9110, 5.3: several lines of one list-valued field are one list."""
    if values is None:
        return b""
    return values[0] if len(values) == 1 else b", ".join(values)


def _first(values: list[bytes] | None) -> bytes:
    """The first element of a list: what the proxy nearest to the client said."""
    return values[0].partition(b",")[0].strip(b" \t") if values else b""


def _matching(matcher: Callable[[bytes], object], value: bytes) -> bytes:
    return value if value and matcher(value) else b""


def _valid_authority(value: bytes) -> bytes:
    try:
        return check_authority(value) if value else b""
    except HeadError:
        return b""


def _spelled(name: bytes) -> bytes:
    return b"-".join(part.capitalize() for part in name.split(b"-"))
