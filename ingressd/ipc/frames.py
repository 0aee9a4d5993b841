"""Length-prefixed frames: four bytes of length, big-endian, then that many bytes."""

from __future__ import annotations

import struct
from typing import Final

MAX_FRAME_BYTES: Final = 32 * 1024 * 1024
"""A frame that announces more is a broken peer: no unit comes near it."""

_LENGTH: Final = struct.Struct(">I")


class FrameError(Exception):
    """The peer sent what cannot be a frame; the connection is of no more use."""


def frame(payload: bytes) -> bytes:
    """One frame. Raises FrameError when the payload is longer than `MAX_FRAME_BYTES`."""
    if len(payload) > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {len(payload)} bytes is above the limit of {MAX_FRAME_BYTES}")
    return _LENGTH.pack(len(payload)) + payload


class FrameReader:
    """Cuts a stream of bytes into payloads, however it arrives."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, received: bytes) -> list[bytes]:
        """The payloads that are whole now. Raises FrameError for a frame that is too long, before buffering it."""
        buffer = self._buffer
        buffer += received
        payloads = []
        start = 0
        while len(buffer) - start >= 4:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > MAX_FRAME_BYTES:
                raise FrameError(f"a frame of {length} bytes is above the limit of {MAX_FRAME_BYTES}")
            end = start + 4 + length
            if len(buffer) < end:
                break
            payloads.append(bytes(buffer[start + 4 : end]))
            start = end
        if start:
            del buffer[:start]
        return payloads
