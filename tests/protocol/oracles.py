"""Other people's parsers as judges: httptools (llhttp) and h11 must read what we accept just as we do."""

from __future__ import annotations

import h11
import httptools

# llhttp knows a closed list of methods; the others it cannot judge.
LLHTTP_METHODS = frozenset(
    b"GET HEAD POST PUT DELETE OPTIONS PATCH PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK SEARCH REPORT MERGE PURGE "
    b"M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE LINK UNLINK CHECKOUT".split()
)

Read = tuple[bytes, list[tuple[bytes, bytes]], bytes | None, int]
"""Request target or status code, fields with lowercase names, body (None when it was not read), messages ended."""


class RefusalError(Exception):
    """The oracle does not take the message."""


class _Sink:
    """Callbacks of httptools."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.ended = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.ended:
            self.fields.append((name.lower(), value.strip(b" \t")))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ended += 1


def httptools_request(data: bytes) -> Read:
    sink = _Sink()
    parser = httptools.HttpRequestParser(sink)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        return sink.url, sink.fields, None, 1
    except httptools.HttpParserError as error:
        raise RefusalError(f"httptools: {error}") from error
    return sink.url, sink.fields, sink.body, sink.ended


def httptools_response(data: bytes) -> Read:
    sink = _Sink()
    parser = httptools.HttpResponseParser(sink)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        return b"%d" % parser.get_status_code(), sink.fields, None, 1
    except httptools.HttpParserError as error:
        raise RefusalError(f"httptools: {error}") from error
    return b"%d" % parser.get_status_code(), sink.fields, sink.body, sink.ended


def h11_request(data: bytes) -> Read:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1_000_000)
    connection.receive_data(data)
    return _drain(connection)


def h11_response(data: bytes, method: bytes) -> Read:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1_000_000)
    connection.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"a.example")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    return _drain(connection)


def _drain(connection: h11.Connection) -> Read:
    start = b""
    fields: list[tuple[bytes, bytes]] = []
    body = b""
    ended = 0
    try:
        while not ended:
            event = connection.next_event()
            if event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                break
            if isinstance(event, h11.Request):
                start, fields = event.target, list(event.headers)
            elif isinstance(event, h11.Response):
                start, fields = b"%d" % event.status_code, list(event.headers)
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                ended += 1
    except h11.RemoteProtocolError as error:
        raise RefusalError(f"h11: {error}") from error
    return start, fields, body, ended
