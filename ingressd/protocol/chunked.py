"""Chunked transfer coding (RFC 9112, section 7.1), decoded strictly and written canonically.

Extensions and trailers are checked, bounded and dropped: nobody upstream reads them the same way twice.
"""

import re
from typing import Final

from ingressd.protocol.fields import FRAMING

LAST_CHUNK: Final = b"0\r\n\r\n"

SIZE_LINE_BYTES: Final = 1024
TRAILER_BYTES: Final = 16384
MAX_CHUNK_BYTES: Final = 2**60
# What framing may cost beyond 16 bytes a chunk and twice the payload, so that a peer cannot make us parse a kilobyte
# for each byte it delivers.
EXCESS_BYTES: Final = 16384

_SIZE: Final = 0
_DATA: Final = 1
_DATA_END: Final = 2
_TRAILERS: Final = 3
_DONE: Final = 4

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
# chunk-size [ chunk-ext ]. Whitespace around ";" and "=" is grammar's BWS, which recipients read differently; refused.
_STRICT = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;%b(?:=(?:%b|%b))?)*\r\n" % (_TOKEN, _TOKEN, _QUOTED)).fullmatch
# Some old servers pad the size with blanks; of a response that is harmless, for we are the only reader.
_LENIENT = re.compile(
    rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?[ \t]*)*\r\n" % (_TOKEN, _TOKEN, _QUOTED)
).fullmatch
_PLAIN_SIZE = re.compile(rb"([1-9A-Fa-f][0-9A-Fa-f]{0,7})\r\n").match
_UNFINISHED_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}(?:[ \t;][^\r\n]*)?\r?").fullmatch
_TRAILER = re.compile(rb"%b:[\t -~\x80-\xff]*\r\n" % _TOKEN).fullmatch


class BodyError(Exception):
    """A body that cannot be framed. `status` is what to answer while that is possible, `reason` is for the log."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class ChunkedDecoder:
    """Decodes one chunked message body; make a new one for each message.

    `response` allows the blanks after a chunk size that old servers send. Holds at most one unfinished line.
    """

    __slots__ = ("_excess", "_line", "_parse_size", "_state", "_trailer_bytes", "done", "left")

    def __init__(self, *, response: bool = False) -> None:
        self.done = False
        self._parse_size = _LENIENT if response else _STRICT
        self._state = _SIZE
        self.left = 0
        """Bytes of the present chunk that have not come yet."""
        self._line = b""
        self._excess = 0
        self._trailer_bytes = 0

    def feed(self, data: bytes, start: int = 0) -> tuple[bytes, int]:
        """The payload in `data[start:]` and the offset up to which `data` was consumed.

        Everything is consumed until `done`; then the offset is where the next message begins. Raises BodyError.
        """
        position = start
        size = len(data)
        payload: list[bytes] = []
        while position < size and self._state != _DONE:
            if self._state == _DATA:
                part = data[position : position + self.left]
                payload.append(part)
                position += len(part)
                self.left -= len(part)
                if not self.left:
                    self._state = _DATA_END
            elif self._state == _SIZE and not self._line:
                taken = self._feed_whole_chunks(data, position, payload=payload)
                position = taken if taken > position else self._feed_line(data, position)
            else:
                position = self._feed_line(data, position)
        return (payload[0] if len(payload) == 1 else b"".join(payload)), position

    def _feed_whole_chunks(self, data: bytes, position: int, *, payload: list[bytes]) -> int:
        """Take chunks without extensions that have come whole: most of what there ever is."""
        while True:
            match = _PLAIN_SIZE(data, position)
            if match is None:
                return position
            start = match.end()
            end = start + int(match[1], 16)
            if not data.startswith(b"\r\n", end):
                return position
            payload.append(data[start:end])
            if self._excess:
                self._excess = max(0, self._excess + start - position - 16 - 2 * (end - start))
            position = end + 2

    def _feed_line(self, data: bytes, position: int) -> int:
        feed = data.find(b"\n", position)
        if feed < 0:
            self._line += data[position:]
            self._check_unfinished()
            return len(data)
        line = self._line + data[position : feed + 1]
        self._line = b""
        if self._state == _SIZE:
            self._take_size(line)
        elif self._state == _DATA_END:
            # RFC 9112, 7.1: chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF.
            if line != b"\r\n":
                raise BodyError(400, "no CRLF after chunk data")
            self._state = _SIZE
        else:
            self._take_trailer(line)
        return feed + 1

    def _take_size(self, line: bytes) -> None:
        match = self._parse_size(line)
        if match is None or len(line) > SIZE_LINE_BYTES:
            raise BodyError(400, "malformed chunk size")
        length = int(match[1], 16)
        if length > MAX_CHUNK_BYTES:
            raise BodyError(400, "chunk too large")
        self._excess = max(0, self._excess + len(line) - 16 - 2 * length)
        if self._excess > EXCESS_BYTES:
            raise BodyError(400, "too much chunk framing")
        self.left = length
        self._state = _DATA if length else _TRAILERS

    def _take_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self._state = _DONE
            self.done = True
            return
        self._trailer_bytes += len(line)
        if self._trailer_bytes > TRAILER_BYTES:
            raise BodyError(400, "trailers too large")
        if not _TRAILER(line):
            raise BodyError(400, "malformed trailer")
        # RFC 9110, 6.5.1: "A sender MUST NOT generate a trailer field unless the sender knows the corresponding header
        # field name's definition permits it"; framing never does, and some parsers act on it. A server's is dropped.
        if self._parse_size is _STRICT and line.partition(b":")[0].lower() in FRAMING:
            raise BodyError(400, "framing field in the trailers")

    def _check_unfinished(self) -> None:
        """Refuse an unfinished line that no further byte can make right, and bound it."""
        line = self._line
        if self._state == _SIZE:
            if len(line) > SIZE_LINE_BYTES or not _UNFINISHED_SIZE(line):
                raise BodyError(400, "malformed chunk size")
        elif self._state == _DATA_END:
            if line != b"\r":
                raise BodyError(400, "no CRLF after chunk data")
        elif line != b"\r" and len(line) + self._trailer_bytes > TRAILER_BYTES:
            raise BodyError(400, "trailers too large")
        elif b"\r" in line[:-1] or line[0] in b" \t":
            raise BodyError(400, "malformed trailer")


def chunk(payload: bytes) -> bytes:
    """One canonical chunk; b"" for an empty payload, which would otherwise end the message."""
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""
