"""No garbage collection while the world is read for the first time, and the usual ones afterwards."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from ingressd.app import start_garbage
from ingressd.app.start_garbage import StartGarbage


@pytest.fixture(autouse=True)
def collector_as_before() -> Iterator[None]:
    yield
    gc.enable()
    gc.unfreeze()


def test_what_the_start_made_is_never_looked_at_again() -> None:
    async def start() -> None:
        garbage = StartGarbage(asyncio.get_running_loop())
        assert not gc.isenabled()
        before = gc.get_freeze_count()
        garbage.settled()
        assert gc.isenabled()
        frozen = gc.get_freeze_count()
        assert frozen > before
        gc.collect()
        garbage.settled()
        assert gc.get_freeze_count() <= frozen, "what came later is looked at as usual"

    asyncio.run(start())


def test_a_start_that_waits_piles_up_no_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_garbage, "LONGEST_S", 0.0)

    async def start() -> None:
        StartGarbage(asyncio.get_running_loop())
        await asyncio.sleep(0.001)
        assert gc.isenabled()

    asyncio.run(start())
