"""ingressd in front of one scripted upstream."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stage.running import Ingressd, route_to, running
from stage.scripted import Script, Scripted, scripted

Behind = Callable[..., tuple[Ingressd, Scripted]]


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Behind]:
    """`behind(script, settings)` starts both: host api.test leads to the scripted upstream."""
    with contextlib.ExitStack() as stack:

        def start(script: Script, settings: dict[str, str] | None = None) -> tuple[Ingressd, Scripted]:
            upstream = stack.enter_context(scripted(script))
            config = route_to({"api": [upstream.address]}, settings=settings or {})
            return stack.enter_context(running(tmp_path, **config)), upstream

        yield start
