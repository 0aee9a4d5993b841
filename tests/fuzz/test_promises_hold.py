"""A short run of the fuzz targets, and every input that once broke a promise."""

import pytest
from fuzz.run import TARGETS, fuzz


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_promises_hold_for_mutated_messages(target: str) -> None:
    checker = fuzz(target, 1500, seed=20)
    assert checker.accepted > 100, "the mutations are too wild to reach anything"
    assert checker.refused > 100, "the mutations are too tame to break anything"
