"""Bytes that must not print."""

from __future__ import annotations

from typing import Final

REDACTED: Final = "[redacted]"


class PrivateBytes:
    """Secret bytes (a private key, a password file) that redact themselves in `repr`, `str`, logs and JSON.

    The bytes are reachable only through `reveal()`, so that every use of a secret can be found by name.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """Return the secret bytes."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrivateBytes) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"PrivateBytes({REDACTED})"

    __str__ = __repr__
