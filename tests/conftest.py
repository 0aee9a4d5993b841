"""Fixtures for tests against real processes. Unit tests need nothing from here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stage.echo import EchoLoop


@pytest.fixture(scope="session")
def echo_loop() -> Iterator[EchoLoop]:
    """The loop that echoes run on."""
    loop = EchoLoop()
    yield loop
    loop.close()
