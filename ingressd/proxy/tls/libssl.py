"""The four settings of an SSL_CTX that CPython's `ssl` does not offer, set in the very libssl that `_ssl` uses.

Every `ssl.SSLContext` begins, after its object header, with its `SSL_CTX *` (CPython 3.2 to 3.14, `PySSLContext` in
Modules/_ssl.c). `LibSsl.open` believes that only after it has read the same options through both roads, and a ticket
key back. Without it the proxy still serves; what is lost is said in docs/decisions/0004-tls-sessions.md.
"""

from __future__ import annotations

import ctypes
import ssl
import sys
from typing import Any, Final

TICKET_KEYS_BYTES: Final = 80
"""Name 16, HMAC 32, AES 32 bytes: `SSL_CTX_set_tlsext_ticket_keys` since OpenSSL 1.1.1."""

_SSL_CTRL_SET_SESS_CACHE_SIZE: Final = 42
_SSL_CTRL_SET_SESS_CACHE_MODE: Final = 44
_SSL_CTRL_GET_TLSEXT_TICKET_KEYS: Final = 58
_SSL_CTRL_SET_TLSEXT_TICKET_KEYS: Final = 59
_SSL_SESS_CACHE_OFF: Final = 0
_LAYOUT_KNOWN: Final = ((3, 11), (3, 14))


class LibSsl:
    """Calls into libssl by the address of a context. Made by `open` only."""

    __slots__ = ("_ctrl", "_get_options", "_set_timeout", "_set_verify_depth")

    def __init__(self, library: Any) -> None:
        context, long = ctypes.c_void_p, ctypes.c_long
        self._ctrl = library.SSL_CTX_ctrl
        self._ctrl.argtypes, self._ctrl.restype = (context, ctypes.c_int, long, ctypes.c_void_p), long
        self._get_options = library.SSL_CTX_get_options
        self._get_options.argtypes, self._get_options.restype = (context,), ctypes.c_uint64
        self._set_timeout = library.SSL_CTX_set_timeout
        self._set_timeout.argtypes, self._set_timeout.restype = (context, long), long
        self._set_verify_depth = library.SSL_CTX_set_verify_depth
        self._set_verify_depth.argtypes, self._set_verify_depth.restype = (context, ctypes.c_int), None

    @classmethod
    def open(cls) -> LibSsl | None:
        """The library, or None where this interpreter is not one whose layout is known and proven."""
        version = sys.version_info[:2]
        if sys.implementation.name != "cpython" or not _LAYOUT_KNOWN[0] <= version <= _LAYOUT_KNOWN[1]:
            return None
        try:
            # By the path of the extension: dlsym then searches the libssl which that extension is linked with, and no
            # other one that happens to be loaded (cryptography brings its own). Built in, it is in the program itself.
            library = cls(ctypes.CDLL(getattr(ssl._ssl, "__file__", None)))  # type: ignore[attr-defined]
        except (OSError, AttributeError):
            return None
        return library if library._proven() else None

    def _proven(self) -> bool:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
        mask = 0xFFFFFFFF
        if self._get_options(_address(context)) & mask != int(context.options) & mask:
            return False
        if self._ctrl(_address(context), _SSL_CTRL_GET_TLSEXT_TICKET_KEYS, 0, None) != TICKET_KEYS_BYTES:
            return False
        keys = bytes(range(TICKET_KEYS_BYTES))
        self.set_ticket_keys(context, keys)
        read = ctypes.create_string_buffer(TICKET_KEYS_BYTES)
        self._ctrl(_address(context), _SSL_CTRL_GET_TLSEXT_TICKET_KEYS, TICKET_KEYS_BYTES, read)
        return read.raw == keys

    def set_ticket_keys(self, context: ssl.SSLContext, keys: bytes) -> None:
        """Seal and open session tickets with these keys from the next handshake on. Raises ValueError."""
        if len(keys) != TICKET_KEYS_BYTES:
            raise ValueError(f"ticket keys are {TICKET_KEYS_BYTES} bytes, not {len(keys)}")
        buffer = ctypes.create_string_buffer(keys, TICKET_KEYS_BYTES)
        if self._ctrl(_address(context), _SSL_CTRL_SET_TLSEXT_TICKET_KEYS, TICKET_KEYS_BYTES, buffer) != 1:
            raise ValueError("libssl refused the ticket keys")
        ctypes.memset(buffer, 0, TICKET_KEYS_BYTES)

    def set_session_timeout(self, context: ssl.SSLContext, timeout_s: float) -> None:
        """How long a session may be resumed."""
        self._set_timeout(_address(context), max(1, int(timeout_s)))

    def set_session_cache(self, context: ssl.SSLContext, sessions: int) -> None:
        """How many sessions of clients that know no tickets are remembered in this process; 0 for none."""
        if sessions:
            self._ctrl(_address(context), _SSL_CTRL_SET_SESS_CACHE_SIZE, sessions, None)
        else:
            self._ctrl(_address(context), _SSL_CTRL_SET_SESS_CACHE_MODE, _SSL_SESS_CACHE_OFF, None)

    def set_verify_depth(self, context: ssl.SSLContext, depth: int) -> None:
        """How many intermediate certificates a chain may have."""
        self._set_verify_depth(_address(context), depth)


def _address(context: ssl.SSLContext) -> int:
    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value or 0
