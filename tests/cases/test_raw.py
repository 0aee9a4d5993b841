"""The raw cases: byte-exact requests, hostile clients, broken upstreams. README.md describes how they are written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from zlib import crc32

import pytest
from cases.invariants import broken
from cases.raw_judge import is_settled, judge_raw
from cases.raw_runner import play
from cases.scene import Scene, file_names, read_cases
from cases.serving import later
from stage.echo import EchoLoop

pytestmark = pytest.mark.process


def cases(*names: str) -> list[Any]:
    """The cases of these files."""
    return [
        pytest.param(case, id=f"{name}: {case['name']}", marks=later(case))
        for name in names
        for case in read_cases(name)
    ]


ALL = cases(*file_names())
CUT = [param for param in ALL if not param.values[0].get("long") and not param.id.startswith("slow:")]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, echo_loop: EchoLoop) -> Iterator[Scene]:
    """The processes for all cases."""
    scene = Scene(tmp_path_factory.mktemp("raw"), echo_loop)
    try:
        yield scene
    finally:
        scene.close()


@pytest.mark.parametrize("case", ALL)
def test_raw_case(case: dict[str, Any], scene: Scene) -> None:
    """One of the accepted outcomes, nothing that is never accepted, and the invariants."""
    check(case, scene)


@pytest.mark.parametrize("case", CUT)
def test_raw_case_byte_by_byte(case: dict[str, Any], scene: Scene) -> None:
    """The same when every byte comes alone: no outcome may depend on how the network cut the message."""
    check(case, scene, pieces=1)


@pytest.mark.parametrize("case", CUT)
def test_raw_case_in_pieces_of_any_size(case: dict[str, Any], scene: Scene) -> None:
    """The same once more, in a few pieces cut anywhere."""
    check(case, scene, seed=crc32(case["name"].encode()))


def test_nothing_has_leaked_over_all_cases(scene: Scene) -> None:
    """Tasks and memory are where they were, and no traceback was logged."""
    scene.ingressd("")
    for _, baseline in scene.started():
        assert not list(baseline.rest_broken())


def check(case: dict[str, Any], scene: Scene, **cut: int) -> None:
    ingressd, baseline, entrance = scene.entrance(case.get("listener", "http"), case.get("limits"))
    scripted = "upstream" in case
    seen = play(case, scene.recorder, entrance, lambda seen: is_settled(case, seen, scripted=scripted), **cut)
    _, wrong = judge_raw(case, seen)
    wrong += broken(seen, scripted=scripted, upgrades=case.get("upgrades", False))
    wrong += baseline.files_broken()
    assert not ingressd.ended(), ingressd.output()
    assert not wrong, "\n".join([f"{case['name']}: {case.get('why', '')}", *wrong])
