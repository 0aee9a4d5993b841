"""Names of static endpoints to addresses."""

from __future__ import annotations

from typing import NamedTuple, Protocol


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
