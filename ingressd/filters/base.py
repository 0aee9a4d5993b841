"""What a filter is.

A filter has two lives. Compiling happens when a snapshot is applied: the filter looks at the policies and the route and
returns an object with everything precomputed, or None when it has nothing to do there, and then it costs that route
nothing. An exchange then calls the compiled objects of its route, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from ingressd.model.units import ProcessPolicy, Route, RoutePolicy
from ingressd.protocol.h1 import RequestHead, ResponseHead


class RequestView(Protocol):
    """What a filter may know of an exchange; the exchange's `Forwarded` is one, so nothing is copied for filters."""

    head: RequestHead
    scheme: bytes
    """b"http" or b"https": how the client's connection reached this proxy."""
    forwarded_scheme: bytes
    """The scheme the client used, as far as trusted proxies say; `scheme` otherwise."""
    host: bytes
    """The authority the client asked for, with its port if it named one, as far as trusted proxies say."""
    client_ip: str
    request_id: bytes


class Answer:
    """An answer of our own, in place of the upstream's.

    `headers` are those besides what every answer of ours has (Date, Content-Type, Content-Length); `body` None is the
    page that names the status. `reason` goes to the access log's `error`.
    """

    __slots__ = ("body", "headers", "reason", "status")

    def __init__(
        self, status: int, headers: tuple[tuple[bytes, bytes], ...] = (), body: bytes | None = None, reason: str = ""
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.reason = reason

    def __repr__(self) -> str:
        return f"<answer {self.status} {self.headers!r}>"


class BodyTransform(Protocol):
    """Changes a body on its way. The message is framed anew: its length is not known beforehand."""

    def feed(self, data: bytes) -> bytes:
        """What can be sent after these bytes; may be empty."""

    def finish(self) -> bytes:
        """What is left at the end of the body."""


class RequestFilter(Protocol):
    """A compiled filter on the request side."""

    def on_request(self, request: RequestView) -> Answer | None:
        """Edit `request.head.fields`, or answer; an answer ends the request side."""


class ResponseFilter(Protocol):
    """A compiled filter on the response side."""

    def on_response(self, request: RequestView, response: ResponseHead) -> BodyTransform | None:
        """Edit `response.fields` and `response.special`; return what changes the body, if anything does."""

    def own_lines(self, request: RequestView) -> bytes:
        """Field lines, each with its CRLF, for an answer of our own to this request; b"" for none."""


class AnnotationFault(NamedTuple):
    """An annotation that cannot be read. `closes`: it guards the object's routes, which answer 503 until it can."""

    name: str
    message: str
    closes: bool = False


class ParsedAnnotations(NamedTuple):
    """What an object's annotations set: fields of `RoutePolicy`, and what is wrong with them."""

    route: dict[str, Any]
    faults: tuple[AnnotationFault, ...] = ()


class FilterSpec(NamedTuple):
    """One feature: what it is called, the settings it serves (name, one line of documentation), how it is compiled.

    `annotations` are those it serves, likewise, named without their prefix; `parse_annotations` reads them out of all
    that an object has. `route` is None when there is no route: for answers of ours to requests that match none.
    """

    name: str
    settings: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    parse_annotations: Callable[[Mapping[str, str]], ParsedAnnotations] | None = None
    compile_request: Callable[[ProcessPolicy, RoutePolicy, Route | None], RequestFilter | None] | None = None
    compile_response: Callable[[ProcessPolicy, RoutePolicy, Route | None], ResponseFilter | None] | None = None


def field_name(line: bytes) -> bytes:
    """The lowercased name of a field line."""
    return line[: line.find(b":")].lower()
