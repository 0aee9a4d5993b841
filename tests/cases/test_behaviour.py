"""The routing cases: what a client sees, whatever is behind it. README.md describes how they are written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cases.judge import judge
from cases.serving import Serving, later
from cases.world import World, expand
from stage.echo import EchoLoop

pytestmark = pytest.mark.process

FOLDER = Path(__file__).parent
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}", marks=later(case))
    for path in sorted(FOLDER.glob("*.yaml"))
    for case in yaml.safe_load(path.read_text("utf-8"))
]


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, echo_loop: EchoLoop) -> Iterator[Serving]:
    """One process for all cases."""
    served = Serving(tmp_path_factory.mktemp("behaviour"), echo_loop)
    yield served
    served.close()


@pytest.mark.parametrize("case", CASES)
def test_case(case: dict[str, Any], serving: Serving, echo_loop: EchoLoop) -> None:
    """Every step of the case is answered as it expects."""
    world = World(expand(case, HTTP_PORT=serving.ingressd.http[1]), echo_loop)
    try:
        serving.load(world)
        wrong = judge(world, serving.ingressd)
    finally:
        world.close()
    assert not wrong, "\n".join([f"{case['name']} ({case['source']})", *wrong])
