"""Field lines of an HTTP/1 head: the names the proxy knows, and what one line means to it (RFC 9110, section 5).

Classifying a line is a pure function of its bytes and of the policy in `HeadLimits`, so its results are cached by the
whole line. Everything here is off the hot path: `h1` calls it only for a line its cache does not hold.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from ingressd.protocol.authority import check_authority
from ingressd.protocol.limits import CACHE_ENTRIES, CACHE_LINE_BYTES, CACHE_NAME_BYTES, Entry, HeadError, HeadLimits

# --- names which are never forwarded as they came: `special` of a request head --------------------------------------
X_FORWARDED_FOR: Final = b"x-forwarded-for"
X_FORWARDED_HOST: Final = b"x-forwarded-host"
X_FORWARDED_PORT: Final = b"x-forwarded-port"
X_FORWARDED_PROTO: Final = b"x-forwarded-proto"
X_FORWARDED_SCHEME: Final = b"x-forwarded-scheme"
X_FORWARDED_PREFIX: Final = b"x-forwarded-prefix"
X_SCHEME: Final = b"x-scheme"
X_REAL_IP: Final = b"x-real-ip"
X_REQUEST_ID: Final = b"x-request-id"
X_ORIGINAL_FORWARDED_FOR: Final = b"x-original-forwarded-for"
X_ORIGINAL_FORWARDED_HOST: Final = b"x-original-forwarded-host"
FORWARDED: Final = b"forwarded"
VIA: Final = b"via"
MAX_FORWARDS: Final = b"max-forwards"

# What backends are known to believe blindly; from a peer that is not trusted it must not arrive at one.
SPOOFABLE: Final = frozenset(
    {
        X_FORWARDED_PREFIX,
        FORWARDED,
        b"x-forwarded-ssl",
        b"x-forwarded-uri",
        b"x-forwarded-server",
        b"x-forwarded-client-cert",
        b"front-end-https",
        b"x-original-uri",
        b"x-original-url",
        b"x-original-method",
        b"x-rewrite-url",
        b"x-auth-request-redirect",
        b"x-ssl-client-cert",
        b"x-ssl-client-verify",
        b"x-ssl-client-dn",
        b"ssl-client-cert",
        b"ssl-client-verify",
        b"ssl-client-subject-dn",
        b"ssl-client-issuer-dn",
    }
)

REQUEST_SPECIAL: Final = SPOOFABLE | {
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PORT,
    X_FORWARDED_PROTO,
    X_FORWARDED_SCHEME,
    X_SCHEME,
    X_REAL_IP,
    X_REQUEST_ID,
    X_ORIGINAL_FORWARDED_FOR,
    X_ORIGINAL_FORWARDED_HOST,
    VIA,
}

# --- `special` of a response head -----------------------------------------------------------------------------------
SERVER: Final = b"server"
DATE: Final = b"date"
STRICT_TRANSPORT_SECURITY: Final = b"strict-transport-security"
X_ACCEL_BUFFERING: Final = b"x-accel-buffering"
X_ACCEL_REDIRECT: Final = b"x-accel-redirect"

RESPONSE_SPECIAL: Final = frozenset(
    {
        SERVER,
        DATE,
        STRICT_TRANSPORT_SECURITY,
        X_ACCEL_BUFFERING,
        X_ACCEL_REDIRECT,
        b"x-accel-charset",
        b"x-accel-expires",
        b"x-accel-limit-rate",
        b"x-pad",
    }
)

# RFC 9110, 7.6.1: "intermediaries SHOULD remove or replace fields that are known to require removal before forwarding".
# Trailer goes because trailers are dropped. "Proxy" is the name behind httpoxy: CGI turns it into HTTP_PROXY.
HOP_BY_HOP: Final = frozenset(
    {b"keep-alive", b"proxy-connection", b"trailer", b"http2-settings", b"proxy-authorization", b"proxy"}
)
FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})

# Unique for each message, or secret: caching such lines would only push useful ones out, or keep credentials alive.
UNCACHED: Final = frozenset(
    {
        b"authorization",
        b"cookie",
        b"set-cookie",
        b"proxy-authorization",
        b"x-request-id",
        b"x-forwarded-for",
        b"traceparent",
        b"sec-websocket-key",
        b"sec-websocket-accept",
        b"etag",
    }
)

# --- kinds of line --------------------------------------------------------------------------------------------------
FORWARD: Final = 0
DROP: Final = 1
SPECIAL: Final = 2
HOST: Final = 3
CONTENT_LENGTH: Final = 4
TRANSFER_ENCODING: Final = 5
CONNECTION: Final = 6
EXPECT: Final = 7
UPGRADE: Final = 8
TE: Final = 9
HOPS: Final = 10
KEEP_ALIVE: Final = 11  # a Connection field that says only what HTTP/1.1 means anyway
USER_AGENT: Final = 12  # from here on: forwarded, and noted
REFERER: Final = 13
ACCEPT_ENCODING: Final = 14
CONTENT_TYPE: Final = 15
CONTENT_ENCODING: Final = 16

_KIND: Final = {
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"connection": CONNECTION,
    b"upgrade": UPGRADE,
    b"te": TE,
}
REQUEST_KIND: Final[dict[bytes, int]] = (
    dict.fromkeys(REQUEST_SPECIAL, SPECIAL)
    | dict.fromkeys(HOP_BY_HOP, DROP)
    | _KIND
    | {
        b"host": HOST,
        b"expect": EXPECT,
        MAX_FORWARDS: HOPS,
        b"user-agent": USER_AGENT,
        b"referer": REFERER,
        b"accept-encoding": ACCEPT_ENCODING,
    }
)
RESPONSE_KIND: Final[dict[bytes, int]] = (
    dict.fromkeys(RESPONSE_SPECIAL, SPECIAL)
    | dict.fromkeys(HOP_BY_HOP - {b"proxy", b"proxy-authorization"}, DROP)
    | _KIND
    | {b"content-type": CONTENT_TYPE, b"content-encoding": CONTENT_ENCODING}
)

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_SAFE_NAME = re.compile(rb"[0-9A-Za-z-]+").fullmatch
_SAFE_NAME_UNDERSCORE = re.compile(rb"[0-9A-Za-z_-]+").fullmatch
_UPGRADE_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:/[!#$%&'*+.^_`|~0-9A-Za-z-]+)?").fullmatch
_NOT_ALNUM = re.compile(rb"[^0-9a-z]")
# Eighteen digits stay below 2**60: nobody's integer overflows. No leading zero: what leaves is canonical.
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}").fullmatch
# RFC 9110, 5.5: field-vchar is VCHAR or obs-text; SP and HTAB may stand between.
# A table for bytes.translate that turns every other byte into NUL: twice as fast as a regular expression.
_VALUE_TABLE: Final = bytes(byte if byte == 9 or (byte >= 32 and byte != 127) else 0 for byte in range(256))


def classify_request_line(line: bytes, limits: HeadLimits) -> Entry:
    """What one field line of a request is to the proxy. Raises HeadError(400), or 431 when it is too long."""
    size = len(line)
    if size > limits.field_line_bytes:
        raise HeadError(431, "field line too long")
    name, colon, rest = line.partition(b":")
    if not colon:
        raise HeadError(400, "field line without a colon")
    known = limits.names.get(name)
    if known is None:
        known = _request_name(name, limits)
    if 0 in line.translate(_VALUE_TABLE):
        raise HeadError(400, "control character in a field value")
    lower, kind, cached = known
    entry: Entry = FORWARD
    if kind:
        value = _REQUEST_VALUE[kind](lower, rest.strip(b" \t"))
        if kind == CONNECTION and value[0] == _KEEP_ALIVE_ONLY:
            kind = KEEP_ALIVE
        entry = (kind, line, value)
    if cached and size <= CACHE_LINE_BYTES:
        cache = limits.requests
        if len(cache) >= CACHE_ENTRIES:
            cache.clear()
        cache[line] = entry
    return entry


def _request_name(name: bytes, limits: HeadLimits) -> tuple[bytes, int, bool]:
    """(lowercase name, kind, may be cached) under this policy; remembered by the name as it is spelled."""
    # RFC 9112, 5.1: "No whitespace is allowed between the field name and colon"; 5.2: obs-fold in a request is a 400.
    # An empty name, a space, a bare CR or LF are all no token.
    if not _TOKEN(name):
        raise HeadError(400, "malformed field name")
    lower = name.lower()
    kind = REQUEST_KIND.get(lower, FORWARD)
    if not _SAFE_NAME(name):
        # CGI and WSGI read "_" (and some of them any other sign) as "-": such a twin of a name that we interpret would
        # pass by us and still arrive as that name.
        twin = _NOT_ALNUM.sub(b"-", lower)
        if twin in FRAMING or twin == b"host":
            raise HeadError(400, "disguised framing field")
        permitted = limits.underscores and _SAFE_NAME_UNDERSCORE(name)
        # With underscores in use, X_Forwarded_For must not reach a backend that reads it as X-Forwarded-For.
        unwanted = limits.drop_invalid and not permitted
        if unwanted or REQUEST_KIND.get(twin, FORWARD) in (SPECIAL, DROP, CONNECTION, UPGRADE):
            kind = DROP
    known = (lower, kind, lower not in UNCACHED)
    if len(name) <= CACHE_NAME_BYTES:
        if len(limits.names) >= CACHE_ENTRIES:
            limits.names.clear()
        limits.names[name] = known
    return known


def classify_response_line(line: bytes, limits: HeadLimits) -> Entry:
    """What one field line of an upstream's response is to the proxy. Raises HeadError(502)."""
    size = len(line)
    if size > limits.field_line_bytes:
        raise HeadError(502, "field line too long")
    name, colon, rest = line.partition(b":")
    kept = line
    if not colon or not _TOKEN(name):
        # RFC 9112, 5.1: "A proxy MUST remove any such whitespace from a response message before forwarding".
        tight = name.rstrip(b" \t")
        if not colon or tight == name or not _TOKEN(tight) or tight.lower() in _KIND:
            raise HeadError(502, "malformed field name")
        name = tight
        kept = name + colon + rest
    if 0 in line.translate(_VALUE_TABLE):
        raise HeadError(502, "control character in a field value")
    lower = name.lower()
    kind = RESPONSE_KIND.get(lower, FORWARD)
    entry: Entry = FORWARD
    if kind or kept is not line:
        entry = (kind, kept, _RESPONSE_VALUE[kind](lower, rest.strip(b" \t")))
    if size <= CACHE_LINE_BYTES and lower not in UNCACHED:
        cache = limits.responses
        if len(cache) >= CACHE_ENTRIES:
            cache.clear()
        cache[line] = entry
    return entry


# --- values ---------------------------------------------------------------------------------------------------------
def _plain(name: bytes, value: bytes) -> Any:
    del name
    return value


def _special(name: bytes, value: bytes) -> Any:
    return (name, value)


def _content_length(name: bytes, value: bytes) -> Any:
    # RFC 9110, 8.6: Content-Length = 1*DIGIT. A list of equal numbers is allowed to be refused (RFC 9112, 6.3), and is.
    del name
    if not _LENGTH(value):
        raise HeadError(400, "malformed Content-Length")
    return int(value)


def _response_length(name: bytes, value: bytes) -> Any:
    del name
    if not _LENGTH(value):
        raise HeadError(502, "malformed Content-Length")
    return int(value)


def _transfer_encoding(name: bytes, value: bytes) -> Any:
    """0 for exactly "chunked", else the status for it. The caller raises: where it stands decides too.

    RFC 9112, 6.1: "A server that receives a request message with a transfer coding it does not understand SHOULD
    respond with 501"; 6.3: chunked that is not the final encoding of a request is a 400.
    """
    del name
    lower = value.lower()
    if lower == b"chunked":
        return 0
    if not lower:
        return 501
    codings = [coding.strip(b" \t") for coding in lower.split(b",")]
    if not all(_TOKEN(coding) for coding in codings) or b"chunked" in codings[:-1]:
        return 400
    return 501


NO_OPTIONS: Final = frozenset[bytes]()
_OWN_OPTIONS: Final = frozenset({b"close", b"keep-alive", b"upgrade", b"http2-settings", b"te"})


_KEEP_ALIVE_ONLY: Final = frozenset({b"keep-alive"})


def connection_options(value: bytes) -> frozenset[bytes]:
    """The lowercase tokens of a Connection field's value; what is no token is nobody's option and left out."""
    options = {option.strip(b" \t") for option in value.lower().split(b",")}
    return frozenset(option for option in options if _TOKEN(option))


def _connection(name: bytes, value: bytes) -> Any:
    """(all options, nominated field names)."""
    del name
    options = connection_options(value)
    # RFC 9110, 7.6.1: "A sender MUST NOT send a connection option corresponding to a field that is intended for all
    # recipients of the content". Framing decided by one hop and stripped for the next is smuggling.
    if not options.isdisjoint(FRAMING):
        raise HeadError(400, "Connection nominates a framing field")
    nominated = frozenset(option for option in options - _OWN_OPTIONS if option not in _IMMUNE)
    return (options, nominated)


def _response_connection(name: bytes, value: bytes) -> Any:
    # Servers exist which nominate Transfer-Encoding in a response; we frame anew anyway, so it is ignored there.
    del name
    options = connection_options(value)
    return (options, options - _OWN_OPTIONS - FRAMING)


# What the proxy itself sets or reads cannot be nominated away by a client.
_IMMUNE: Final = REQUEST_SPECIAL | {b"host", b"expect", MAX_FORWARDS}


def _expect(name: bytes, value: bytes) -> Any:
    del name
    return value.lower() == b"100-continue"


def _upgrade(name: bytes, value: bytes) -> Any:
    """The lowercase protocol to switch to: websocket when offered, else the first one; b"" when malformed."""
    del name
    offered = [protocol.strip(b" \t") for protocol in value.lower().split(b",")]
    if not all(_UPGRADE_TOKEN(protocol) for protocol in offered):
        return b""
    return b"websocket" if b"websocket" in offered else offered[0]


def _te(name: bytes, value: bytes) -> Any:
    del name
    return b"trailers" in [coding.strip(b" \t") for coding in value.lower().split(b",")]


def _host(name: bytes, value: bytes) -> Any:
    del name
    return check_authority(value)


_REQUEST_VALUE: Final[dict[int, Callable[[bytes, bytes], Any]]] = {
    DROP: _plain,
    SPECIAL: _special,
    HOST: _host,
    CONTENT_LENGTH: _content_length,
    TRANSFER_ENCODING: _transfer_encoding,
    CONNECTION: _connection,
    EXPECT: _expect,
    UPGRADE: _upgrade,
    TE: _te,
    HOPS: _special,
    USER_AGENT: _plain,
    REFERER: _plain,
    ACCEPT_ENCODING: _plain,
}
_RESPONSE_VALUE: Final[dict[int, Callable[[bytes, bytes], Any]]] = {
    FORWARD: _plain,
    DROP: _plain,
    SPECIAL: _special,
    CONTENT_LENGTH: _response_length,
    TRANSFER_ENCODING: _transfer_encoding,
    CONNECTION: _response_connection,
    UPGRADE: _upgrade,
    TE: _plain,
    CONTENT_TYPE: _plain,
    CONTENT_ENCODING: _plain,
}
