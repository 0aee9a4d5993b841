"""Reads a byte stream of messages the way a connection does: whole, byte by byte, or in any pieces.

Every check of a codec goes through `same_however_it_comes`: the message alone in one piece, with a second message
behind it, and each byte on its own must all say the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from ingressd.protocol.chunked import BodyError, ChunkedDecoder
from ingressd.protocol.h1 import (
    CHUNKED,
    LENGTH,
    HeadError,
    HeadLimits,
    RequestHead,
    ResponseHead,
    find_head_end,
    parse_request_head,
    parse_response_head,
)

SECOND = b"GET /second HTTP/1.1\r\nHost: second.example\r\n\r\n"
SECOND_RESPONSE = b"HTTP/1.1 204 No Content\r\n\r\n"

Message = tuple[dict, bytes]
"""What a head says, and its body."""


def describe(head: RequestHead | ResponseHead) -> dict:
    """All that a head says, comparable."""
    return {name: getattr(head, name) for name in head.__slots__}


class Stream:
    """What a server has made of the bytes so far: whole messages, then perhaps a refusal."""

    def __init__(self, limits: HeadLimits, *, method: bytes | None = None) -> None:
        self.limits = limits
        self.method = method  # of the request; None when this stream carries requests
        self.messages: list[Message] = []
        self.refused: int | None = None
        self.reason = ""
        self._held = b""
        self._scanned = 0
        self._head: RequestHead | ResponseHead | None = None
        self._decoder: ChunkedDecoder | None = None
        self._body = b""

    @property
    def clean(self) -> bool:
        """Whether nothing is begun and not ended."""
        return self.refused is None and self._head is None and not self._held

    def receive(self, data: bytes) -> None:
        if self.refused is not None:
            return
        self._held += data
        try:
            while self._held and self._step():
                pass
        except (HeadError, BodyError) as error:
            self.refused = error.status
            self.reason = error.reason

    def _step(self) -> bool:
        if self._head is None:
            response = self.method is not None
            end = find_head_end(self._held, 0, scanned=self._scanned, limits=self.limits, response=response)
            if end < 0:
                self._scanned = len(self._held)
                return False
            self._head = self._parse(self._held[:end])
            self._held = self._held[end:]
            self._scanned = 0
            self._body = b""
            self._decoder = self._make_decoder(self._head)
        return self._step_body(self._head)

    def _parse(self, head: bytes) -> RequestHead | ResponseHead:
        if self.method is None:
            return parse_request_head(head, self.limits)
        return parse_response_head(head, method=self.method, limits=self.limits)

    def _make_decoder(self, head: RequestHead | ResponseHead) -> ChunkedDecoder | None:
        if isinstance(head, RequestHead):
            return ChunkedDecoder() if head.chunked else None
        return ChunkedDecoder(response=True) if head.framing == CHUNKED else None

    def _step_body(self, head: RequestHead | ResponseHead) -> bool:
        if self._decoder is not None:
            payload, consumed = self._decoder.feed(self._held)
            self._body += payload
            self._held = self._held[consumed:]
            if not self._decoder.done:
                return False
        elif isinstance(head, RequestHead) or head.framing == LENGTH:
            length = head.content_length or 0
            missing = length - len(self._body)
            self._body += self._held[:missing]
            self._held = self._held[missing:]
            if len(self._body) < length:
                return False
        self.messages.append((describe(head), self._body))
        self._head = None
        self._decoder = None
        return True


def read(pieces: Iterable[bytes], limits: HeadLimits | None = None, *, method: bytes | None = None) -> Stream:
    """Feed all pieces to a fresh stream."""
    stream = Stream(limits or HeadLimits(), method=method)
    for piece in pieces:
        stream.receive(piece)
    return stream


def single_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def accepted(data: bytes, limits: HeadLimits | None = None) -> tuple[RequestHead, bytes]:
    """The one request in `data` and its body, after all ways to receive it agreed. Fails when it is refused."""
    limits = limits or HeadLimits()
    whole = read([data], limits)
    assert whole.refused is None, whole.reason
    assert whole.clean
    assert len(whole.messages) == 1
    for pieces in ([data + SECOND], single_bytes(data + SECOND)):
        both = read(pieces, limits)
        assert both.refused is None, both.reason
        assert both.messages[0] == whole.messages[0]
        assert [message["target"] for message, _ in both.messages[1:]] == [b"/second"]
        assert both.clean
    end = find_head_end(data)
    return parse_request_head(data[:end], limits), whole.messages[0][1]


def refused(data: bytes, limits: HeadLimits | None = None) -> int:
    """The status `data` is refused with, after all ways to receive it agreed; nothing in it may pass as a message."""
    limits = limits or HeadLimits()
    whole = read([data], limits)
    assert whole.refused is not None, f"accepted: {whole.messages}"
    assert whole.messages == []
    assert read([data + SECOND], limits).messages == []
    for pieces in ([SECOND + data], single_bytes(SECOND + data)):
        stream = read(pieces, limits)
        assert stream.refused == whole.refused
        assert [message["target"] for message, _ in stream.messages] == [b"/second"]
    return whole.refused


def accepted_response(
    data: bytes, limits: HeadLimits | None = None, *, method: bytes = b"GET"
) -> tuple[ResponseHead, bytes]:
    """The one framed response in `data` and its body, after all ways to receive it agreed."""
    limits = limits or HeadLimits()
    whole = read([data], limits, method=method)
    assert whole.refused is None, whole.reason
    assert whole.clean
    assert len(whole.messages) == 1
    for pieces in ([data + SECOND_RESPONSE], single_bytes(data + SECOND_RESPONSE)):
        both = read(pieces, limits, method=method)
        assert both.refused is None, both.reason
        assert both.messages[0] == whole.messages[0]
        assert [message["status"] for message, _ in both.messages[1:]] == [204]
    head = parse_response_head(data[: find_head_end(data, response=True)], method=method, limits=limits)
    return head, whole.messages[0][1]


def refused_response(data: bytes, limits: HeadLimits | None = None, *, method: bytes = b"GET") -> int:
    """The status a response is refused with, after all ways to receive it agreed."""
    limits = limits or HeadLimits()
    whole = read([data], limits, method=method)
    assert whole.refused is not None, f"accepted: {whole.messages}"
    for pieces in ([SECOND_RESPONSE + data], single_bytes(SECOND_RESPONSE + data)):
        stream = read(pieces, limits, method=method)
        assert stream.refused == whole.refused
        assert len(stream.messages) == 1 + len(whole.messages)
    return whole.refused
