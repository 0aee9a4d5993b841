"""What we let through, nginx, HAProxy and h11 as upstreams take for the same number of requests.

Each stream that the data plane writes to an upstream is sent to them on a connection of its own, with one more request
behind it. Were they to read a boundary elsewhere, the last request would not be the last, or not be answered.
"""

from __future__ import annotations

from pathlib import Path

import h11
import pytest
from cases.grammar import read_requests
from cases.invariants import requests_sent
from fuzz.others import AMBIGUOUS, LAST, counted, differences, serving, streams


@pytest.fixture(scope="module")
def egress() -> list[bytes]:
    return streams()


@pytest.mark.process
@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_an_upstream_counts_the_same(name: str, egress: list[bytes], tmp_path: Path) -> None:
    assert len(egress) > 800
    try:
        with serving(name, tmp_path) as address:
            assert counted(address, AMBIGUOUS) != 1, "whoever takes everything proves nothing"
            different = differences(address, egress)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert not different, f"{len(different)} of {len(egress)}: {list(different.items())[:5]}"


def test_h11_counts_the_same(egress: list[bytes]) -> None:
    assert h11.__version__
    different = [
        stream
        for stream in egress
        if requests_sent(stream + LAST) != len(read_requests(stream, upgrades=True).requests) + 1
    ]
    assert not different, different[:3]
