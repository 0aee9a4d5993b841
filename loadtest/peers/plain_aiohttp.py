"""A plain aiohttp proxy (`loadtest/micro/aiohttp_proxy.py`): what people would write themselves."""

from __future__ import annotations

from loadtest.launch import Place
from loadtest.micro.command import program_command


def command(place: Place) -> list[str]:
    """The command to start."""
    return program_command("aiohttp_proxy", place)
