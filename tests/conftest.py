"""Fixtures for tests against real processes, and how Hypothesis runs. Unit tests need nothing else from here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from stage.echo import EchoLoop

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def echo_loop() -> Iterator[EchoLoop]:
    """The loop that echoes run on."""
    loop = EchoLoop()
    yield loop
    loop.close()
