"""The answers ingressd gives by itself: status, phrase and body in nginx's words, and nothing about the inside."""

from __future__ import annotations

from typing import Final

PHRASES: Final[dict[int, str]] = {
    200: "OK",
    204: "No Content",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    303: "See Other",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    400: "Bad Request",
    401: "Authorization Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Not Allowed",
    408: "Request Time-out",
    411: "Length Required",
    413: "Request Entity Too Large",
    414: "Request-URI Too Large",
    417: "Expectation Failed",
    421: "Misdirected Request",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Temporarily Unavailable",
    504: "Gateway Time-out",
    505: "HTTP Version Not Supported",
    508: "Loop Detected",
}


def status_line(status: int, reason: bytes | None = None) -> bytes:
    """`HTTP/1.1 STATUS REASON` with its CRLF."""
    if reason is None:
        reason = PHRASES.get(status, "").encode("ascii")
    return b"HTTP/1.1 %d %s\r\n" % (status, reason)


def page(status: int) -> bytes:
    """The body that names the status as nginx does."""
    title = f"{status} {PHRASES.get(status, '')}".rstrip()
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
        "</body>\r\n</html>\r\n"
    ).encode("ascii")


PAGES: Final[dict[int, bytes]] = {status: page(status) for status in PHRASES}
