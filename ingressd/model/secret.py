"""Bytes that must not print."""

from __future__ import annotations

import re
from typing import Final

REDACTED: Final = "[redacted]"
# To the end of the text where it was cut off.
_KEY: Final = re.compile(
    rb"-----BEGIN [^-\n]*PRIVATE KEY-----.*?(?:-----END [^-\n]*PRIVATE KEY-----\r?\n?|\Z)", re.DOTALL
)


def without_keys(pem: bytes) -> bytes:
    """PEM without its private keys: what is to be shown as a certificate, of a file that holds both (as HAProxy's)."""
    return _KEY.sub(b"", pem) if b"PRIVATE KEY-----" in pem else pem


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
