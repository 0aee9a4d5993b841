"""Values of fields that an operator configures: literal text, or text with nginx variables (`t=$request_id`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from ingressd.filters.base import RequestView, field_name

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t -~\x80-\U0010ffff]*")
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")

_READERS: Final[dict[str, Callable[[RequestView], bytes]]] = {
    "best_http_host": lambda request: request.host,
    "host": lambda request: request.head.host.rsplit(b":", 1)[0].lower(),
    "http_host": lambda request: request.head.host,
    "pass_access_scheme": lambda request: request.forwarded_scheme,
    "remote_addr": lambda request: request.client_ip.encode(),
    "req_id": lambda request: request.request_id,
    "request_id": lambda request: request.request_id,
    "request_method": lambda request: request.head.method,
    "request_uri": lambda request: request.head.target,
    "scheme": lambda request: request.scheme,
    "the_real_ip": lambda request: request.client_ip.encode(),
    "uri": lambda request: request.head.path,
}


class FieldLine:
    """One configured field. `line` is the whole line when nothing varies, None when it has to be rendered."""

    __slots__ = ("_pieces", "line", "lower_name", "name")

    def __init__(self, name: str, value: str) -> None:
        self.name = name.encode()
        self.lower_name = self.name.lower()
        self._pieces = _compile(value)
        self.line: bytes | None = None
        literal = [piece for piece in self._pieces if isinstance(piece, bytes)]
        if len(literal) == len(self._pieces):
            value_bytes = b"".join(literal)
            self.line = self.name + b": " + value_bytes if value_bytes else b""

    def render(self, request: RequestView) -> bytes:
        """The line for this request, without CRLF; b"" when the value is empty, which means no field."""
        if self.line is not None:
            return self.line
        value = b""
        for piece in self._pieces:
            value += piece if isinstance(piece, bytes) else piece(request)
        return self.name + b": " + value if value else b""


def _compile(value: str) -> list[bytes | Callable[[RequestView], bytes]]:
    pieces: list[bytes | Callable[[RequestView], bytes]] = []
    position = 0
    for match in _VARIABLE.finditer(value):
        read = _reader(match[1] or match[2])
        if read is not None:
            pieces += [value[position : match.start()].encode(), read]
            position = match.end()
    return [*pieces, value[position:].encode()]


def _reader(variable: str) -> Callable[[RequestView], bytes] | None:
    if variable in _READERS:
        return _READERS[variable]
    if not variable.startswith("http_"):
        return None
    field = variable.removeprefix("http_").replace("_", "-").encode()

    def read(request: RequestView) -> bytes:
        head = request.head
        if head.special is not None and field in head.special:
            return b", ".join(head.special[field])
        return b", ".join(line[len(field) + 1 :].strip(b" \t") for line in head.fields if field_name(line) == field)

    return read


def unknown_variables(value: str) -> tuple[str, ...]:
    """Names of variables that are not supported and stay in the value as they are written."""
    names = [match[1] or match[2] for match in _VARIABLE.finditer(value)]
    return tuple(name for name in names if _reader(name) is None)


def is_valid_field(name: str, value: str) -> bool:
    """Whether a configured field can be sent at all (RFC 9110, 5.1 and 5.5)."""
    return bool(_NAME.fullmatch(name) and _VALUE.fullmatch(value))
