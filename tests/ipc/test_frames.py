"""Frames and deltas: cut anywhere, bounded, and nothing counts before the commit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingressd.ipc import frames
from ingressd.ipc.frames import FrameError, FrameReader, frame
from ingressd.ipc.messages import (
    Ack,
    Commit,
    Counters,
    DeltaAssembler,
    Flush,
    Hello,
    Listening,
    Part,
    decode_to_controller,
    decode_to_worker,
    delta_frames,
    encode,
)
from ingressd.model.codec import decode_slots


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(1, 9))
def test_frames_come_out_whole_however_they_are_cut(payloads, step):
    stream = b"".join(map(frame, payloads))
    reader = FrameReader()
    out = []
    for at in range(0, len(stream), step):
        out += reader.feed(stream[at : at + step])
    assert out == payloads


def test_a_frame_above_the_limit_is_refused_before_it_is_buffered(monkeypatch):
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 10)
    assert FrameReader().feed(frame(b"x" * 10)) == [b"x" * 10]
    with pytest.raises(FrameError):
        FrameReader().feed(b"\x00\x00\x00\x0b")
    with pytest.raises(FrameError):
        frame(b"x" * 11)


def assemble(stream):
    assembler = DeltaAssembler()
    deltas = []
    parts = 0
    for payload in FrameReader().feed(stream):
        message = decode_to_worker(payload)
        if isinstance(message, Part):
            parts += 1
            assembler.add(message)
        else:
            assert isinstance(message, Commit)
            deltas.append(assembler.finish(message))
    return deltas, parts


def test_a_big_delta_travels_in_parts_and_arrives_whole():
    changed = {f"host/{number}": b"\xc4\x80" * 1 + b"" for number in range(3)}
    changed = dict.fromkeys(changed, b"\xc5\xff\xff" + b"x" * 65535)
    slots = {"a/b:80": {"127.0.0.1:80": 5, "[::1]:80": 6}}
    stream = b"".join(delta_frames(7, 3, changed=changed, removed=("host/gone",), slots=slots.items()))
    second = b"".join(delta_frames(8, 7, changed={"process": b"\xc0"}))
    (delta, after), parts = assemble(stream + second)
    assert parts >= 3
    assert (delta.version, delta.base, delta.removed) == (7, 3, ("host/gone",))
    assert {upstream: decode_slots(raw) for upstream, raw in delta.slots.items()} == slots
    assert {key: bytes(raw) for key, raw in delta.changed.items()} == changed
    assert list(delta.changed) == list(changed)
    # Nothing of the first delta is left in the second.
    assert (after.version, list(after.changed), after.slots) == (8, ["process"], {})


@pytest.mark.parametrize(
    "message",
    [Hello(1, 2, 3), Ack(4, {"host/a": "no"}, 0.5), Counters(0, b"abc"), Listening(("http",)), Ack(4, {}, 0.1, "boom")],
)
def test_messages_to_the_controller_come_back_as_they_were(message):
    (payload,) = FrameReader().feed(encode(message))
    assert decode_to_controller(payload) == message


def test_a_flush_comes_back_as_it_was():
    (payload,) = FrameReader().feed(encode(Flush(9, True)))
    assert decode_to_worker(payload) == Flush(9, True)
