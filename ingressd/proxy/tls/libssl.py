"""What CPython's `ssl` does not offer of an SSL_CTX and an SSL, done in the very libssl that `_ssl` uses.

Every `ssl.SSLContext` begins, after its object header, with its `SSL_CTX *` (CPython 3.2 to 3.14, `PySSLContext` in
Modules/_ssl.c), and every `_ssl._SSLSocket` with a reference and its `SSL *`. `LibSsl.open` believes that only after it
has read the same options through both roads, a ticket key back, and the context of a connection. Without it the proxy
still serves; docs/decisions/0004-tls-sessions.md says what is lost. Hosts that ask for client certificates are closed.
"""

from __future__ import annotations

import ctypes
import ssl
import sys
from typing import Any, Final

from ingressd.proxy.tls.judges import CertificateCallback, CertificateJudge, HelloCallback, HelloJudge

TICKET_KEYS_BYTES: Final = 80
"""Name 16, HMAC 32, AES 32 bytes: `SSL_CTX_set_tlsext_ticket_keys` since OpenSSL 1.1.1."""

_SSL_CTRL_SET_SESS_CACHE_SIZE: Final = 42
_SSL_CTRL_SET_SESS_CACHE_MODE: Final = 44
_SSL_CTRL_SET_MAX_CERT_LIST: Final = 51
_SSL_CTRL_GET_TLSEXT_TICKET_KEYS: Final = 58
_SSL_CTRL_SET_TLSEXT_TICKET_KEYS: Final = 59
_SSL_SESS_CACHE_OFF: Final = 0
_XN_FLAG_RFC2253: Final = 0x1110317
_LONGEST_NAME: Final = 4096
"""Bytes of a subject, which becomes a header field: a longer one is refused."""

_VerifyCallback: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
_GO_ON: Final = _VerifyCallback(lambda good, store: 1)
"""As in nginx: the handshake goes on whatever the certificate is, so that the client can be told in HTTP."""

_KEPT: Final[list[object]] = []
"""Callbacks must not be freed as long as a context knows their address."""

_LAYOUT_KNOWN: Final = ((3, 11), (3, 14))


class LibSsl:
    """Calls into libssl by the address of a context. Made by `open` only."""

    __slots__ = (
        "_context_of",
        "_ctrl",
        "_error_string",
        "_get_options",
        "_judge",
        "_judge_hello",
        "_load_names",
        "_set_hello_judge",
        "_set_judge",
        "_set_names",
        "_set_session_scope",
        "_set_timeout",
        "_set_verify",
        "_set_verify_depth",
        "_verify_result",
        "names",
    )

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
        self._set_verify = library.SSL_CTX_set_verify
        self._set_verify.argtypes, self._set_verify.restype = (context, ctypes.c_int, _VerifyCallback), None
        self._set_judge = library.SSL_CTX_set_cert_verify_callback
        self._set_judge.argtypes, self._set_judge.restype = (context, CertificateCallback, ctypes.c_void_p), None
        self._set_hello_judge = library.SSL_CTX_set_client_hello_cb
        self._set_hello_judge.argtypes = (context, HelloCallback, ctypes.c_void_p)
        self._set_hello_judge.restype = None
        self._judge = CertificateCallback(CertificateJudge(library))
        self._judge_hello = HelloCallback(HelloJudge(library))
        _KEPT.extend((self._judge, self._judge_hello))
        self._set_session_scope = library.SSL_CTX_set_session_id_context
        self._set_session_scope.argtypes = (context, ctypes.c_char_p, ctypes.c_uint)
        self._load_names = library.SSL_load_client_CA_file
        self._load_names.argtypes, self._load_names.restype = (ctypes.c_char_p,), ctypes.c_void_p
        self._set_names = library.SSL_CTX_set_client_CA_list
        self._set_names.argtypes, self._set_names.restype = (context, ctypes.c_void_p), None
        self._context_of = library.SSL_get_SSL_CTX
        self._context_of.argtypes, self._context_of.restype = (ctypes.c_void_p,), context
        self._verify_result = library.SSL_get_verify_result
        self._verify_result.argtypes, self._verify_result.restype = (ctypes.c_void_p,), long
        self._error_string = library.X509_verify_cert_error_string
        self._error_string.argtypes, self._error_string.restype = (long,), ctypes.c_char_p
        self.names = DistinguishedNames(library)

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
        if read.raw != keys:
            return False
        connection = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
        return bool(self._context_of(_connection_address(connection)) == _address(context))

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

    def judge_hellos(self, context: ssl.SSLContext) -> None:
        """End the handshakes of clients whose hello would hold too much memory."""
        self._set_hello_judge(_address(context), self._judge_hello, None)

    def set_verify_depth(self, context: ssl.SSLContext, depth: int) -> None:
        """How many intermediate certificates a chain may have."""
        self._set_verify_depth(_address(context), depth)

    def set_longest_chain(self, context: ssl.SSLContext, size_bytes: int) -> None:
        """How many bytes of certificates a client may show; the handshake of one that shows more fails."""
        self._ctrl(_address(context), _SSL_CTRL_SET_MAX_CERT_LIST, size_bytes, None)

    def ask_for_certificates(self, context: ssl.SSLContext, authorities_file: str) -> None:
        """Ask clients for a certificate, name the authorities of a PEM file to them, and let every handshake succeed:
        `verify_result` says afterwards what was wrong. But for certificates that would hold too much memory.
        Raises ValueError."""
        names = self._load_names(authorities_file.encode())
        if not names:
            raise ValueError("the authorities' names cannot be read")
        self._set_names(_address(context), names)
        self._set_verify(_address(context), ssl.CERT_OPTIONAL, _GO_ON)
        self._set_judge(_address(context), self._judge, None)

    def set_session_scope(self, context: ssl.SSLContext, scope: bytes) -> None:
        """Sessions resume only under the same scope, 32 bytes at most. Raises ValueError."""
        if self._set_session_scope(_address(context), scope, len(scope)) != 1:
            raise ValueError("libssl refused the scope of sessions")

    def verify_result(self, connection: Any) -> int:
        """What is wrong with the client's certificate (X509_V_ERR_*): 0 when nothing is, or when there is none.

        `connection` is an `ssl.SSLObject` or what is below it. A resumed session keeps its first verdict.
        """
        return int(self._verify_result(_connection_address(connection)))

    def verify_error(self, code: int) -> str:
        """OpenSSL's words for a result."""
        return str(self._error_string(code).decode("ascii", "replace"))


class DistinguishedNames:
    """Subject and issuer of a certificate, spelled as nginx does (`$ssl_client_s_dn`): RFC 2253."""

    __slots__ = ("_free", "_free_memory", "_issuer", "_memory", "_new_memory", "_parse", "_print", "_read", "_subject")

    def __init__(self, library: Any) -> None:
        pointer = ctypes.c_void_p
        self._parse = library.d2i_X509
        self._parse.argtypes, self._parse.restype = (pointer, ctypes.POINTER(ctypes.c_char_p), ctypes.c_long), pointer
        self._free = library.X509_free
        self._free.argtypes, self._free.restype = (pointer,), None
        self._subject = library.X509_get_subject_name
        self._subject.argtypes, self._subject.restype = (pointer,), pointer
        self._issuer = library.X509_get_issuer_name
        self._issuer.argtypes, self._issuer.restype = (pointer,), pointer
        self._print = library.X509_NAME_print_ex
        self._print.argtypes = (pointer, pointer, ctypes.c_int, ctypes.c_ulong)
        self._memory = library.BIO_s_mem
        self._memory.argtypes, self._memory.restype = (), pointer
        self._new_memory = library.BIO_new
        self._new_memory.argtypes, self._new_memory.restype = (pointer,), pointer
        self._free_memory = library.BIO_free
        self._free_memory.argtypes = (pointer,)
        self._read = library.BIO_read
        self._read.argtypes = (pointer, ctypes.c_char_p, ctypes.c_int)

    def of(self, der: bytes) -> tuple[str, str]:
        """Subject and issuer, printable ASCII. Raises ValueError for what is no certificate."""
        certificate = self._parse(None, ctypes.byref(ctypes.c_char_p(der)), len(der))
        if not certificate:
            raise ValueError("not a certificate")
        try:
            return self._spell(self._subject(certificate)), self._spell(self._issuer(certificate))
        finally:
            self._free(certificate)

    def _spell(self, name: int) -> str:
        memory = self._new_memory(self._memory())
        try:
            if self._print(memory, name, 0, _XN_FLAG_RFC2253) < 0:
                raise ValueError("the name cannot be spelled")
            buffer = ctypes.create_string_buffer(_LONGEST_NAME)
            size = max(0, self._read(memory, buffer, _LONGEST_NAME))
            if size == _LONGEST_NAME:
                raise ValueError("the name is too long")
            return buffer.raw[:size].decode("ascii")
        finally:
            self._free_memory(memory)


def _connection_address(connection: Any) -> int:
    inner = getattr(connection, "_sslobj", connection)
    at = id(inner) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
    return ctypes.c_void_p.from_address(at).value or 0


def _address(context: ssl.SSLContext) -> int:
    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value or 0
