"""What is written together must not be lost together."""

from __future__ import annotations

import asyncio

import pytest

from ingressd.proxy.upstream.outbox import Outbox


class Peer:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.got = b""

    def write(self, data: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.got += data


def flushed(*peers: Peer) -> None:
    loop = asyncio.new_event_loop()
    try:
        outbox = Outbox(loop)
        for peer in peers:
            outbox.write(peer, b"x")
        outbox.flush()
    finally:
        loop.close()


def test_one_that_was_reset_in_this_turn_costs_the_others_nothing() -> None:
    """As uvloop says it."""
    one, other = Peer(RuntimeError("the handler is closed")), Peer()
    flushed(one, other)
    assert other.got == b"x"


def test_nor_does_anything_else_that_goes_wrong_with_one() -> None:
    """A write that is left out in the middle of an answer would join what does not belong together."""
    one, other = Peer(ZeroDivisionError()), Peer()
    with pytest.raises(ZeroDivisionError):
        flushed(one, other)
    assert other.got == b"x"
