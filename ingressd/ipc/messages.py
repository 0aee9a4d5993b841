"""Messages between the controller and one worker.

A delta travels as any number of `Part`s and one `Commit`, so that a worker never decodes much at a time, and nothing of
it counts before the commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from ingressd.ipc.frames import frame
from ingressd.model.codec import Delta, encode_slots

PART_BYTES: Final = 128 * 1024
"""A part is closed when it holds this much; one unit is never split. Decoding so much takes well under 1 ms."""


class Part(msgspec.Struct, tag="part", array_like=True):
    """A piece of the delta that the next `Commit` ends."""

    changed: dict[str, msgspec.Raw]
    slots: dict[str, msgspec.Raw] = {}
    """As in `Delta.slots`."""


class Commit(msgspec.Struct, tag="commit", array_like=True):
    """The delta is complete: bring it live and send an `Ack`."""

    version: int
    base: int
    removed: tuple[str, ...] = ()


class Flush(msgspec.Struct, tag="flush", array_like=True):
    """Send your counters at once, with this token. `everything` asks for all series, not for those that changed."""

    token: int
    everything: bool = False


class Hello(msgspec.Struct, tag="hello", array_like=True):
    """A worker's first message: who it is, and the version it serves (0 for none)."""

    worker: int
    pid: int
    version: int


class Ack(msgspec.Struct, tag="ack", array_like=True):
    """The version serves, but for the units in `refused` (key to reason). `error` says why nothing of it serves."""

    version: int
    refused: dict[str, str]
    seconds: float
    error: str = ""


class Counters(msgspec.Struct, tag="counters", array_like=True):
    """A report of `observe.counters`; `token` is that of the `Flush` it answers, else 0."""

    token: int
    report: bytes


class Listening(msgspec.Struct, tag="listening", array_like=True):
    """The names of the listeners this worker accepts from, after each change."""

    names: tuple[str, ...]


ToWorker = Part | Commit | Flush
ToController = Hello | Ack | Counters | Listening

_encoder = msgspec.msgpack.Encoder()
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_to_controller: msgspec.msgpack.Decoder[ToController] = msgspec.msgpack.Decoder(ToController)


def encode(message: ToWorker | ToController) -> bytes:
    """One message as a frame. Raises FrameError when it is too long."""
    return frame(_encoder.encode(message))


def decode_to_worker(payload: bytes) -> ToWorker:
    """The message a worker received. Raises msgspec.MsgspecError."""
    message: ToWorker = _to_worker.decode(payload)
    return message


def decode_to_controller(payload: bytes) -> ToController:
    """The message the controller received. Raises msgspec.MsgspecError."""
    return _to_controller.decode(payload)


def delta_frames(
    version: int,
    base: int,
    *,
    changed: Mapping[str, bytes],
    removed: tuple[str, ...] = (),
    slots: Iterable[tuple[str, Mapping[str, int]]] = (),
) -> Iterator[bytes]:
    """The frames of one delta, each made when it is asked for: parts, then the commit."""
    part: dict[str, msgspec.Raw] = {}
    size = 0
    for key, unit in changed.items():
        part[key] = msgspec.Raw(unit)
        size += len(key) + len(unit)
        if size >= PART_BYTES:
            yield encode(Part(part))
            part, size = {}, 0
    slot_part: dict[str, msgspec.Raw] = {}
    for upstream, endpoints in slots:
        slot_part[upstream] = encode_slots(endpoints)
        size += len(upstream) + 24 * len(endpoints)
        if size >= PART_BYTES:
            yield encode(Part(part, slot_part))
            part, slot_part, size = {}, {}, 0
    if part or slot_part:
        yield encode(Part(part, slot_part))
    yield encode(Commit(version, base, removed))


class DeltaAssembler:
    """Puts the parts of a delta together again, in a worker."""

    __slots__ = ("_changed", "_slots")

    def __init__(self) -> None:
        self._changed: dict[str, msgspec.Raw] = {}
        self._slots: dict[str, msgspec.Raw] = {}

    def add(self, part: Part) -> None:
        """Keep a part until the commit."""
        self._changed.update(part.changed)
        self._slots.update(part.slots)

    def finish(self, commit: Commit) -> Delta:
        """The whole delta; the assembler is empty afterwards."""
        delta = Delta(
            version=commit.version,
            base=commit.base,
            changed=self._changed,
            removed=commit.removed,
            slots=self._slots,
        )
        self._changed, self._slots = {}, {}
        return delta
