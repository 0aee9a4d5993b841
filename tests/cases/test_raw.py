"""The raw cases: byte-exact requests, hostile clients, broken upstreams. README.md describes how they are written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cases.raw_judge import judge_raw
from cases.raw_runner import play
from cases.recorder import Recorder
from cases.serving import later
from stage.echo import EchoLoop
from stage.ports import spelled
from stage.running import Ingressd

pytestmark = pytest.mark.process

FOLDER = Path(__file__).parent / "raw"


def cases(*names: str) -> list[Any]:
    """The cases of these files."""
    return [
        pytest.param(case, id=f"{name}: {case['name']}", marks=later(case))
        for name in names
        for case in yaml.safe_load((FOLDER / f"{name}.yaml").read_text("ascii"))
    ]


ALL = cases(*sorted(path.stem for path in FOLDER.glob("*.yaml")))
ROUTES = [("a.test", "/public", "pub"), ("a.test", "/admin", "adm"), ("a.test", "/", "u1"), ("b.test", "/", "u2")]
SETTINGS = {
    "client-header-timeout": "2",
    "client-body-timeout": "3",
    "keep-alive": "3",
    "proxy-connect-timeout": "2",
    "proxy-read-timeout": "3",
    "proxy-send-timeout": "3",
    "large-client-header-buffers": "4 16k",
}


@dataclass
class Fixture:
    """ingressd between the client and recording upstreams."""

    ingressd: Ingressd
    recorder: Recorder


@pytest.fixture(scope="module")
def fixture(tmp_path_factory: pytest.TempPathFactory, echo_loop: EchoLoop) -> Iterator[Fixture]:
    """One process for all cases."""
    recorder = Recorder(echo_loop)
    ingressd = Ingressd(
        tmp_path_factory.mktemp("raw"),
        settings=SETTINGS,
        routes=[{"host": host, "path": path, "upstream": upstream} for host, path, upstream in ROUTES],
        upstreams={name: {"endpoints": [spelled(address)]} for name, address in recorder.addresses.items()},
    )
    try:
        ingressd.start()
        yield Fixture(ingressd, recorder)
        ingressd.stop()
    finally:
        recorder.close()


@pytest.mark.parametrize("case", ALL)
def test_raw_case(case: dict[str, Any], fixture: Fixture) -> None:
    """One of the accepted outcomes, nothing that is never accepted, and the invariants."""
    check(case, fixture)


@pytest.mark.parametrize("case", cases("smuggling", "chunked", "request_line", "host", "header", "path"))
def test_raw_case_byte_by_byte(case: dict[str, Any], fixture: Fixture) -> None:
    """The same when every byte comes alone: no outcome may depend on how the network cut the message."""
    check(case, fixture, pieces=1)


def check(case: dict[str, Any], fixture: Fixture, *, pieces: int = 0) -> None:
    seen = play(case, fixture.recorder, fixture.ingressd.http, pieces=pieces)
    _, wrong = judge_raw(case, seen)
    assert not fixture.ingressd.ended(), fixture.ingressd.output()
    assert not wrong, "\n".join([f"{case['name']}: {case.get('why', '')}", *wrong])
