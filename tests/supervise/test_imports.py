"""The supervisor stays small, and workers stay clear of what would double their memory."""

import subprocess
import sys

import pytest


def loaded_by(module: str) -> set[str]:
    program = f"import {module}, sys; print('\\n'.join(sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in found.stdout.splitlines()}


def test_the_supervisor_loads_the_standard_library_only():
    assert loaded_by("ingressd.app.run") & {"msgspec", "uvloop", "asyncio", "yaml", "aiohttp", "ssl"} == set()


@pytest.mark.parametrize("heavy", ["aiohttp", "cryptography", "kubernetes_asyncio", "prometheus_client", "yaml"])
def test_a_worker_does_not_load(heavy):
    assert heavy not in loaded_by("ingressd.app.worker")
