"""The secret behind session tickets: one for all workers, another every day, and no way back.

Standard library only: the supervisor makes it before the first worker and hands it to each, so that a session that one
worker began resumes in any other, and outlives workers and certificates.
"""

from __future__ import annotations

import hashlib
import os
from typing import Final

PERIOD_S: Final = 86400
"""RFC 8446 appendix C.4 asks for regular rotation; a stolen key opens one day's tickets."""

ENCODED_BYTES: Final = 40
_SECRET_BYTES: Final = 32


class TicketSecret:
    """A secret and the day it belongs to.

    Every process that holds it steps to the next day by itself, through a one-way function, and forgets the last: no
    message has to reach all workers at one moment, and a secret stolen today opens no ticket of yesterday.
    """

    __slots__ = ("_day", "_secret")

    def __init__(self, day: int, secret: bytes) -> None:
        self._day = day
        self._secret = secret

    @classmethod
    def fresh(cls, now_s: float) -> TicketSecret:
        """A new secret. `now_s` is seconds since 1970, like every time here."""
        return cls(int(now_s // PERIOD_S), os.urandom(_SECRET_BYTES))

    @classmethod
    def decode(cls, data: bytes) -> TicketSecret:
        """The inverse of `encode`. Raises ValueError."""
        if len(data) != ENCODED_BYTES:
            raise ValueError(f"a ticket secret is {ENCODED_BYTES} bytes, not {len(data)}")
        return cls(int.from_bytes(data[:8], "big"), data[8:])

    def encode(self) -> bytes:
        """The secret as it is now, for a process of our own: through an inherited descriptor, never the environment."""
        return self._day.to_bytes(8, "big") + self._secret

    def to_descriptor(self) -> int:
        """A new memfd that holds the secret, for the child that inherits it. The caller closes its own copy."""
        descriptor = os.memfd_create("ticket-secret", os.MFD_CLOEXEC)
        os.pwrite(descriptor, self.encode(), 0)
        return descriptor

    @classmethod
    def from_descriptor(cls, descriptor: int) -> TicketSecret:
        """Read what `to_descriptor` wrote and close the descriptor. Raises ValueError, OSError."""
        try:
            return cls.decode(os.pread(descriptor, ENCODED_BYTES + 1, 0))
        finally:
            os.close(descriptor)

    def advance(self, now_s: float) -> bool:
        """Step to the day of `now_s`; whether the secret changed. A clock that goes back changes nothing."""
        day = int(now_s // PERIOD_S)
        if day <= self._day:
            return False
        while self._day < day:
            self._secret = self._derive(b"ingressd-next", _SECRET_BYTES)
            self._day += 1
        return True

    def keys(self, scope: bytes = b"") -> bytes:
        """Name, HMAC key and AES key, in the order of `SSL_CTX_set_tlsext_ticket_keys`. Another scope has others, so
        that no ticket of one opens under the other."""
        return self._derive(b"ingressd-name", 16, scope) + self._derive(b"ingressd-seal", 64, scope)

    def _derive(self, purpose: bytes, size: int, scope: bytes = b"") -> bytes:
        return hashlib.blake2b(scope, key=self._secret, person=purpose, digest_size=size).digest()

    def __repr__(self) -> str:
        return f"<TicketSecret of day {self._day}>"
