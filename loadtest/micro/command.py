"""The command line of the programs of this folder."""

from __future__ import annotations

import sys
from pathlib import Path

from loadtest.launch import Place


def program_command(name: str, place: Place) -> list[str]:
    """Start `loadtest/micro/NAME.py`, by its file, so that nothing but the program's own imports is on its path."""
    argv = [sys.executable, str(Path(__file__).with_name(f"{name}.py"))]
    ports = {
        "http": place.http_port,
        "https": place.https_port,
        "admin": place.admin_port,
        "upstream": place.backend_port,
    }
    for option, port in ports.items():
        argv += [f"--{option}", str(port)]
    return [*argv, "--cert", str(place.cert_file), "--key", str(place.key_file), "--log", str(place.access_log)]
