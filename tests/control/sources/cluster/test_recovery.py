"""The snapshot is for starts at which the API server does not answer, and for no others."""

from __future__ import annotations

import asyncio

from ingressd.control.objects.decode import decode_value
from ingressd.control.sources.cluster.recovery import PIECE, STUCK_S, Recovery
from ingressd.control.sources.cluster.snapshot import Restored

OBJECT = decode_value("Service", {"metadata": {"name": "a"}})
GOOD = decode_value("Ingress", {"metadata": {"name": "refused"}})


def restored(*, confirmed_at_s=4000.0, count=1):
    return Restored(iter([OBJECT] * count), count, (GOOD, GOOD), confirmed_at_s)


class FakeSource:
    def __init__(self):
        self.listed = self.failing = False
        self.progress = 0
        self.seeds = []
        self.planted = []

    def heard(self):
        return self.progress

    def plant(self, objects):
        self.planted += objects

    def seed(self, objects, *, age_s):
        self.seeds.append(([*self.planted, *objects], age_s))


class FakeSnapshot:
    def __init__(self, restored):
        self.restored = restored
        self.meanwhile = lambda: None

    def last_good(self):
        return (GOOD,)

    async def restore(self):
        self.meanwhile()
        return self.restored


class Stage:
    def __init__(self, *found):
        self.now = 100.0
        self.source, self.snapshot = FakeSource(), FakeSnapshot(*found or [restored()])
        self.recovery = Recovery(
            self.snapshot, self.source, clock=lambda: self.now, wall_clock=lambda: 5000.0 + self.now
        )

    def step(self):
        return asyncio.run(self.recovery.step())


def test_a_server_that_answers_is_believed_alone():
    stage = Stage()
    for progress in range(100):
        stage.source.progress = progress
        stage.now += STUCK_S - 0.1
        assert not stage.step(), "slow, but it gets on"
    stage.source.listed = True
    assert stage.step()
    assert stage.source.seeds == []
    assert stage.recovery.good == (GOOD,)


def test_the_first_failure_is_enough():
    stage = Stage()
    assert not stage.step()
    stage.source.failing = True
    assert stage.step()
    assert stage.source.seeds == [([OBJECT], 1100.0)]
    assert stage.recovery.good == (GOOD, GOOD)


def test_no_progress_is_a_failure():
    stage = Stage()
    assert not stage.step()
    stage.now += STUCK_S - 0.1
    assert not stage.step()
    stage.now += 0.1
    assert stage.step()
    assert len(stage.source.seeds) == 1


def test_without_a_snapshot_there_is_only_waiting():
    stage = Stage(None)
    stage.source.failing = True
    assert stage.step()
    assert stage.source.seeds == []


def test_a_list_that_ends_while_the_file_is_read_wins():
    stage = Stage()
    stage.source.failing = True
    stage.snapshot.meanwhile = lambda: setattr(stage.source, "listed", True)
    assert stage.step()
    assert stage.source.seeds == []


def test_a_clock_that_was_put_back_makes_nothing_younger_than_new():
    stage = Stage(restored(confirmed_at_s=9e9))
    stage.source.failing = True
    stage.step()
    assert stage.source.seeds == [([OBJECT], 0.0)]


def test_a_big_snapshot_goes_in_piece_by_piece():
    stage = Stage(restored(count=2 * PIECE + 1))
    stage.source.failing = True
    stage.step()
    assert stage.source.seeds == [([OBJECT] * (2 * PIECE + 1), 1100.0)]
