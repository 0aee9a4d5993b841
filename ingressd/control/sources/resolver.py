"""Names of static endpoints to addresses."""

from __future__ import annotations

import socket
from typing import NamedTuple, Protocol

import aiodns


class Answer(NamedTuple):
    """Addresses as IP literals, sorted, both families; `ttl_s` is how long they may be used."""

    addresses: tuple[str, ...]
    ttl_s: float


class Resolver(Protocol):
    """Resolves one name once. Tests use a fake."""

    async def resolve(self, host: str) -> Answer:
        """Raises OSError when the name does not resolve now; the message says why."""

    async def close(self) -> None:
        """Let go of sockets."""


class DnsResolver:
    """The system's resolver: hosts file, search domains, A and AAAA, with the smallest TTL of the answer."""

    def __init__(self) -> None:
        self._resolver: aiodns.DNSResolver | None = None

    async def resolve(self, host: str) -> Answer:
        """Raises OSError when the name does not resolve now; the message says why."""
        if self._resolver is None:
            # Made on first use: it wants a running loop and opens sockets.
            self._resolver = aiodns.DNSResolver(timeout=2.0, tries=2)
        try:
            result = await self._resolver.getaddrinfo(host, family=socket.AF_UNSPEC)
        except aiodns.error.DNSError as exc:
            raise OSError(str(exc.args[1] if len(exc.args) > 1 else exc)) from None
        except ValueError as exc:  # A name that cannot be put into a query; UnicodeError is one.
            raise OSError(f"not a name that can be asked for: {exc}") from None
        addresses = {_text(node.addr[0]) for node in result.nodes}
        if not addresses:
            raise OSError("the name has no address")
        return Answer(tuple(sorted(addresses)), float(min(node.ttl for node in result.nodes)))

    async def close(self) -> None:
        """Let go of sockets."""
        if self._resolver is not None:
            await self._resolver.close()
            self._resolver = None


def _text(address: bytes | str) -> str:
    return address.decode("ascii") if isinstance(address, bytes) else address
