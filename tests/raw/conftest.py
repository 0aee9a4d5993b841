"""ingressd with one upstream and a certificate, for the recipes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stage.certificates import Pair
from stage.echo import Echo, EchoLoop, raise_echoes
from stage.ports import spelled
from stage.running import Ingressd, running

Serve = Callable[..., Ingressd]
PLAIN = {"ssl-redirect": "false"}


def write_pair(folder: Path, name: str, pair: Pair) -> dict[str, str]:
    """A pair as two files, each put in place by rename; how the configuration names them."""
    for suffix, content in (("crt", pair.cert), ("key", pair.key)):
        pending = folder / f".{name}.{suffix}"
        pending.write_bytes(content)
        pending.replace(folder / f"{name}.{suffix}")
    return {"certFile": f"{name}.crt", "keyFile": f"{name}.key"}


@pytest.fixture
def echo(echo_loop: EchoLoop) -> Iterator[Echo]:
    """An upstream that keeps what it saw."""
    (one,) = raise_echoes(echo_loop, "up")
    yield one
    one.close()


@pytest.fixture
def serve(tmp_path: Path, echo: Echo) -> Iterator[Serve]:
    """`serve(hosts=…, tls=…)` starts ingressd: each host leads to the echo."""
    with contextlib.ExitStack() as stack:

        def start(*hosts: str, **config: Any) -> Ingressd:
            return stack.enter_context(
                running(
                    tmp_path,
                    **{
                        "routes": [{"host": host, "path": "/", "upstream": "up"} for host in hosts or ("a.test",)],
                        "upstreams": {"up": {"endpoints": [spelled(echo.address)]}},
                        **config,
                        "settings": {**PLAIN, **config.get("settings", {})},
                    },
                )
            )

        yield start
