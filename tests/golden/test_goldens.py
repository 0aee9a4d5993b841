"""Objects in, units, statuses and problems out; each input begins with a comment that says what it proves."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden.golden_world import World, comparable, read_state, shown, states_of

from ingressd.control.store.store import Store
from ingressd.control.translate.translator import Translator

HERE = Path(__file__).parent
INPUTS = sorted(HERE.glob("*/*.in.yaml"))


def test_every_golden_says_what_it_proves_and_has_both_files() -> None:
    assert len(INPUTS) >= 30
    for path in INPUTS:
        assert path.read_text().startswith("# "), f"{path} does not begin with a comment"
    outputs = {path.with_name(path.name.replace(".in.yaml", ".out.json")) for path in INPUTS}
    assert set(HERE.glob("*/*.out.json")) <= outputs, "an output has no input"


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name.removesuffix('.in.yaml')}")
def test_golden(path: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    world = World()
    for config, objects in states_of(path.read_text()):
        events, source_problems = read_state(config, objects, tmp_path)
        translation = world.become(events)
    # A view shares its last good versions with the store, so this is the same question asked of a new translator.
    again = Translator().translate(world.view(), None)
    assert comparable(again) == comparable(translation), "incremental and from scratch differ"
    if len(states_of(path.read_text())) == 1:
        store = Store()
        store.apply(reversed(events))
        shuffled = Translator().translate(store.snapshot(), None)
        assert comparable(shuffled) == comparable(translation), "the order of objects matters"
    got = shown(translation, source_problems, tmp_path)
    output = path.with_name(path.name.replace(".in.yaml", ".out.json"))
    if request.config.getoption("--update-golden", default=False):
        output.write_text(got)
    assert output.exists(), f"no output yet: run with --update-golden and read {output}"
    assert got == output.read_text()
