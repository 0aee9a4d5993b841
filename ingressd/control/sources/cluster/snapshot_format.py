"""How the objects of a cluster lie in a snapshot file: pieces of bytes out of objects, and back. No I/O.

A header (magic, format, length and SHA-256 of what follows), then a zlib stream of records: first a `Preamble`, then
lists of objects of one kind. An object is written as a map by the names of the API, so a field that a newer ingressd
reads or no longer reads is no reason for another format.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from ingressd.control.objects.decode import KINDS
from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import KubernetesObject
from ingressd.model.secret import PrivateBytes

FORMAT: Final = 1
PIECE_BYTES: Final = 64 * 1024
"""How much is encoded or compressed at a time: about a millisecond's work."""
_HEADER: Final = struct.Struct(">8sHHQ32s")
_MAGIC: Final = b"ingressd"
_LENGTH: Final = struct.Struct(">I")
HEADER_BYTES: Final = _HEADER.size


class SnapshotError(Exception):
    """A snapshot cannot be used; the message says why."""


class Preamble(msgspec.Struct, frozen=True):
    """Of which cluster, and which part of it, the objects are (`scope`), and who wrote them."""

    scope: str
    version: str


class Entry(NamedTuple):
    """An object; `good` for a last good version that is not the current one."""

    key: ObjectKey
    object: KubernetesObject
    good: bool


def _reveal(value: Any) -> bytes:
    if isinstance(value, PrivateBytes):
        return value.reveal()
    raise NotImplementedError(type(value).__name__)


def _conceal(of_type: type, value: Any) -> PrivateBytes:
    if of_type is PrivateBytes and isinstance(value, bytes):
        return PrivateBytes(value)
    raise ValueError(f"expected bytes, got {type(value).__name__}")


_encode: Final = msgspec.msgpack.Encoder(enc_hook=_reveal).encode
_preamble: Final = msgspec.msgpack.Decoder(Preamble)
_record: Final = msgspec.msgpack.Decoder(tuple[str, bool, tuple[msgspec.Raw, ...]])
_objects: Final[dict[str, msgspec.msgpack.Decoder[KubernetesObject]]] = {
    name: msgspec.msgpack.Decoder(kind.type, dec_hook=_conceal) for name, kind in KINDS.items()
}


class Packer:
    """Objects in, compressed pieces out; `header` when all of them are written."""

    def __init__(self, preamble: Preamble) -> None:
        self._digest = hashlib.sha256()
        self._written_bytes = 0
        self._deflate = zlib.compressobj(1)
        self._kind = ("", False)
        self._waiting: list[msgspec.Raw] = []
        self._waiting_bytes = 0
        self._first = _framed(_encode(preamble))

    def add(self, kind: str, value: KubernetesObject, *, good: bool = False) -> bytes:
        """Take one object; a piece that is ready to be written, mostly b""."""
        out = b""
        if (kind, good) != self._kind or self._waiting_bytes >= PIECE_BYTES:
            out = self._flush()
            self._kind = (kind, good)
        encoded = _encode(value)
        self._waiting.append(msgspec.Raw(encoded))
        self._waiting_bytes += len(encoded)
        return out

    def finish(self) -> bytes:
        """The last piece."""
        return self._flush() + self._counted(self._deflate.flush())

    def header(self) -> bytes:
        """What belongs before all pieces."""
        return _HEADER.pack(_MAGIC, FORMAT, 0, self._written_bytes, self._digest.digest())

    def _flush(self) -> bytes:
        records, self._first = self._first, b""
        if self._waiting:
            records += _framed(_encode((*self._kind, self._waiting)))
            self._waiting, self._waiting_bytes = [], 0
        return self._counted(self._deflate.compress(records))

    def _counted(self, piece: bytes) -> bytes:
        self._digest.update(piece)
        self._written_bytes += len(piece)
        return piece


def check(content: bytes) -> None:
    """Is a file whole, and of our format? Raises SnapshotError."""
    if len(content) < HEADER_BYTES:
        raise SnapshotError("it is too short for a header")
    magic, form, _, length, digest = _HEADER.unpack_from(content)
    if magic != _MAGIC:
        raise SnapshotError("it is no snapshot of ingressd")
    if form != FORMAT:
        raise SnapshotError(f"it has format {form}, and this version reads format {FORMAT}")
    body = memoryview(content)[HEADER_BYTES:]
    if len(body) != length:
        raise SnapshotError(f"it is truncated: {len(body)} of {length} bytes are there")
    if hashlib.sha256(body).digest() != digest:
        raise SnapshotError("its checksum is wrong")


def unpack(content: bytes, *, scope: str, good_only: bool = False) -> Iterator[list[Entry]]:
    """The objects of a file that `check` has passed, piece by piece: last good versions first. With `good_only` no
    others. Raises SnapshotError when they are of another cluster or selection, or cannot be read."""
    try:
        records = _records(memoryview(content)[HEADER_BYTES:])
        preamble = _preamble.decode(next(records))
        if preamble.scope != scope:
            raise SnapshotError("it is of another cluster, or of other namespaces or labels")
        for record in records:
            kind, good, encoded = _record.decode(record)
            if good_only and not good:
                return
            decode = _objects[kind].decode
            found = []
            for one in encoded:
                value = decode(one)
                found.append(Entry(ObjectKey(kind, value.metadata.namespace, value.metadata.name), value, good))
            yield found
    except (msgspec.DecodeError, zlib.error, struct.error, KeyError, StopIteration) as exc:
        raise SnapshotError(f"it cannot be read: {exc}") from None


def _framed(record: bytes) -> bytes:
    return _LENGTH.pack(len(record)) + record


def _records(body: memoryview) -> Iterator[bytes]:
    inflate = zlib.decompressobj()
    waiting = bytearray()
    for start in range(0, len(body), PIECE_BYTES):
        piece = inflate.decompress(body[start : start + PIECE_BYTES], PIECE_BYTES)
        while piece:
            waiting += piece
            while len(waiting) >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(waiting)
                if len(waiting) < _LENGTH.size + length:
                    break
                yield bytes(memoryview(waiting)[_LENGTH.size : _LENGTH.size + length])
                del waiting[: _LENGTH.size + length]
            piece = inflate.decompress(inflate.unconsumed_tail, PIECE_BYTES)
    if waiting or not inflate.eof:
        raise SnapshotError("its last record is not whole")
