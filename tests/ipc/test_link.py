"""A link sends in order, makes frames when they can be written, and forgets what a lost peer will not read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from ingressd.ipc.link import Link
from ingressd.ipc.messages import Flush, decode_to_worker, encode


class Stage:
    def __init__(self) -> None:
        self.here, self.there = socket.socketpair()
        self.there.setblocking(False)
        self.lost = 0
        self.made = 0

    def link(self) -> Link:
        return Link(
            self.here,
            asyncio.get_running_loop(),
            decode=decode_to_worker,
            received=lambda message: None,
            lost=self._lose,
        )

    def _lose(self) -> None:
        self.lost += 1

    def frames(self, count: int, size: int = 100_000) -> Iterator[bytes]:
        for number in range(count):
            self.made += 1
            yield bytes([number]) * size

    async def read(self, size: int) -> bytes:
        loop, found = asyncio.get_running_loop(), bytearray()
        while len(found) < size:
            found += await asyncio.wait_for(loop.sock_recv(self.there, 65536), 30)
        return bytes(found)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.there.close()


def test_frames_are_made_when_they_can_be_written(stage: Stage) -> None:
    async def scenario() -> None:
        link = stage.link()
        link.send_frames(stage.frames(50))
        assert stage.made < 10, "the peer has read nothing yet"
        link.send(Flush(7))
        read = await stage.read(50 * 100_000 + len(encode(Flush(7))))
        assert read == b"".join(bytes([number]) * 100_000 for number in range(50)) + encode(Flush(7))
        link.send(Flush(8))
        assert await stage.read(1) == encode(Flush(8))
        link.close()

    asyncio.run(scenario())


def test_what_waits_for_a_peer_that_is_gone_is_forgotten(stage: Stage) -> None:
    async def scenario() -> None:
        link = stage.link()
        link.send_frames(stage.frames(50))
        stage.there.close()
        await asyncio.sleep(0.01)
        assert (link.closed, stage.lost) == (True, 1)
        made = stage.made
        link.send_frames(stage.frames(5))
        assert stage.made == made

    asyncio.run(scenario())


def test_nothing_is_made_after_close(stage: Stage) -> None:
    async def scenario() -> None:
        link = stage.link()
        link.send_frames(stage.frames(50))
        made = stage.made
        link.close()
        await asyncio.sleep(0.01)
        assert (stage.made, stage.lost) == (made, 0)

    asyncio.run(scenario())
