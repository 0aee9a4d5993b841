"""Called back by OpenSSL in the middle of a handshake: whoever says what would hold too much memory is refused.

Of what a client says OpenSSL keeps some parsed until the connection ends, and everybody may say it. Refused there and
then all of it is freed, however the client goes on, or does not.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator
from typing import Any, Final

from ingressd.proxy.tls.certificate_cost import MOST_BYTES, certificates_cost

CertificateCallback: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
"""`int (*)(X509_STORE_CTX *, void *)` of SSL_CTX_set_cert_verify_callback(3)."""

HelloCallback: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int), ctypes.c_void_p)
"""`int (*)(SSL *, int *, void *)` of SSL_CTX_set_client_hello_cb(3)."""

HELLO_BYTES: Final = 8192
"""What a ClientHello may hold as long as its connection lives. Usual ones hold some hundred bytes."""

_SUITE: Final = 6
"""For each byte of the list of cipher suites, two to a suite: OpenSSL keeps a row of pointers."""

_EXTENSIONS: Final = (
    (5, 45),  # status_request (RFC 6066, 8), with names of responders and extensions
    (10, 1),  # supported_groups
    (13, 2),  # signature_algorithms
    (16, 1),  # application_layer_protocol_negotiation
    (47, 50),  # certificate_authorities (RFC 8446, 4.2.4), names again: 187 bytes for one of four
    (50, 2),  # signature_algorithms_cert
)
"""Extensions that are kept, and what is held for each of their bytes at most."""

_X509_V_ERR_CERT_REJECTED: Final = 28
_SSL_AD_HANDSHAKE_FAILURE: Final = 40

log = logging.getLogger("ingressd.tls")


class HelloJudge:
    """Called for each ClientHello, also for the second one, after a HelloRetryRequest: OpenSSL takes 128 KiB there."""

    __slots__ = ("_at", "_extension", "_size", "_size_at", "_suites")

    def __init__(self, library: Any) -> None:
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        # PYFUNCTYPE: they are too short to let go of the interpreter's lock, which also keeps `_size` to one call.
        suites = ctypes.PYFUNCTYPE(size, pointer, ctypes.c_void_p)
        extension = ctypes.PYFUNCTYPE(ctypes.c_int, pointer, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)
        self._suites = suites(("SSL_client_hello_get0_ciphers", library))
        self._extension = extension(("SSL_client_hello_get0_ext", library))
        self._size = size()
        self._at, self._size_at = ctypes.byref(pointer()), ctypes.byref(self._size)

    def __call__(self, connection: int, alert: Any, _argument: int | None) -> int:
        """1 to go on, 0 to end the handshake; also for whatever goes wrong here."""
        try:
            extension, at, size_at, size = self._extension, self._at, self._size_at, self._size
            held = _SUITE * self._suites(connection, at)
            for kind, price in _EXTENSIONS:
                if extension(connection, kind, at, size_at):
                    held += price * size.value
            if held <= HELLO_BYTES:
                return 1
            log.debug("a ClientHello would hold more than %d KiB of memory", HELLO_BYTES // 1024)
        except Exception:
            log.exception("a ClientHello cannot be judged")
        alert[0] = _SSL_AD_HANDSHAKE_FAILURE
        return 0


class CertificateJudge:
    """Called by OpenSSL in the place of its verification, once in a full handshake, when certificates were shown.

    Those that would hold too much memory as long as the connection lives end the handshake there and then, however its
    client goes on, before what verification itself would add. `SSL_CTX_set_cert_verify_callback(3)`.
    """

    __slots__ = ("_at", "_count", "_encode", "_set_error", "_shown", "_verify")

    def __init__(self, library: Any) -> None:
        pointer, integer = ctypes.c_void_p, ctypes.c_int
        self._shown = library.X509_STORE_CTX_get0_untrusted
        self._shown.argtypes, self._shown.restype = (pointer,), pointer
        self._count = library.OPENSSL_sk_num
        self._count.argtypes, self._count.restype = (pointer,), integer
        self._at = library.OPENSSL_sk_value
        self._at.argtypes, self._at.restype = (pointer, integer), pointer
        self._encode = library.i2d_X509
        self._encode.argtypes, self._encode.restype = (pointer, ctypes.POINTER(ctypes.c_char_p)), integer
        self._verify = library.X509_verify_cert
        self._verify.argtypes, self._verify.restype = (pointer,), integer
        self._set_error = library.X509_STORE_CTX_set_error
        self._set_error.argtypes, self._set_error.restype = (pointer, integer), None

    def __call__(self, store: int, _argument: int | None) -> int:
        """1 to go on, 0 to end the handshake with the alert bad_certificate; also for whatever goes wrong here."""
        try:
            cost = certificates_cost([*self._certificates(store)])
        except Exception:
            log.exception("certificates of a client cannot be judged")
            cost = MOST_BYTES + 1
        if cost <= MOST_BYTES:
            return int(self._verify(store) > 0)
        self._set_error(store, _X509_V_ERR_CERT_REJECTED)
        log.debug("certificates of a client would hold more than %d KiB of memory", MOST_BYTES // 1024)
        return 0

    def _certificates(self, store: int) -> Iterator[bytes]:
        shown = self._shown(store)
        for number in range(self._count(shown)):
            certificate = self._at(shown, number)
            size = self._encode(certificate, None)
            if size <= 0:
                raise ValueError("a certificate has no encoding")
            buffer = ctypes.create_string_buffer(size)
            # i2d moves the pointer that it is given.
            self._encode(certificate, ctypes.byref(ctypes.cast(buffer, ctypes.c_char_p)))
            yield buffer.raw
