"""`python -m loadtest.idle`: memory of an idle kept-alive connection, plain and over TLS, of the peer's whole tree.

Every connection makes one request first, so that whatever a proxy allocates for an exchange and keeps is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import ssl
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtest import procfs, table
from loadtest.field import ALL_PEERS, DEFAULT_PEERS, Peer, default_builds, enter_field, parse_builds
from loadtest.launch import LOAD_CPU, RESULTS, MissingError, unverified_context

REQUEST = b"GET /101 HTTP/1.1\r\nHost: localhost\r\n\r\n"
BATCH = 50
FILES_BESIDES = 1000


def per_connection_kib(before_kib: int, after_kib: int, connections: int) -> float:
    """KiB a connection. ValueError without connections."""
    if connections < 1:
        raise ValueError("no connection was made")
    return (after_kib - before_kib) / connections


async def _open(port: int, context: ssl.SSLContext | None) -> asyncio.StreamWriter:
    name = "localhost" if context else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise OSError(f"answered {head[:40]!r}")
    await reader.readexactly(101)
    return writer


async def _hold(peer: Peer, scheme: str, connections: int) -> dict[str, float]:
    """Open the connections, measure, close them."""
    context = unverified_context() if scheme == "https" else None
    port = peer.port(scheme)
    for writer in await asyncio.gather(*(_open(port, context) for _ in range(BATCH))):
        writer.close()
    await asyncio.sleep(1)
    pss_before, rss_before = procfs.memory_kib(peer.running.pid)
    writers: list[asyncio.StreamWriter] = []
    try:
        while len(writers) < connections:
            wanted = min(BATCH, connections - len(writers))
            writers += await asyncio.gather(*(_open(port, context) for _ in range(wanted)))
        await asyncio.sleep(2)
        pss_after, rss_after = procfs.memory_kib(peer.running.pid)
    finally:
        for writer in writers:
            writer.transport.abort()
    return {
        "connections": len(writers),
        "pss_kib_per_connection": per_connection_kib(pss_before, pss_after, len(writers)),
        "rss_kib_per_connection": per_connection_kib(rss_before, rss_after, len(writers)),
    }


def _allowed(connections: int) -> int:
    """Raise the limit of open files, for us and whom we start; fewer connections where it cannot be raised enough."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + FILES_BESIDES
    if hard != resource.RLIM_INFINITY and hard < wanted:
        wanted, connections = hard, (hard - FILES_BESIDES) // 2
        print(f"only {hard} files may be open: {connections} connections", file=sys.stderr)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return connections


def measure(peer: Peer, scheme: str, connections: int) -> dict[str, float] | None:
    """One peer that has held no connections before. None, and a word why, when it does not hold them."""
    try:
        return asyncio.run(_hold(peer, scheme, connections))
    except (OSError, EOFError) as exc:
        print(f"{peer.name} {scheme}: {exc}", file=sys.stderr)
        return None


def measure_all(names: Sequence[str], builds: Mapping[str, str], *, connections: int) -> dict[str, Any]:
    """Measure everybody, one after the other. Missing when there is no backend.

    Everybody is started anew for TLS: what the plain connections have left behind would be used again, and not be seen.
    """
    connections = _allowed(connections)
    results: dict[str, Any] = {"connections": connections, "peers": {}}
    os.sched_setaffinity(0, {LOAD_CPU})
    for scheme in ("http", "https"):
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loadtest-")))
            field = enter_field(stack, folder, names=names, builds=builds, sizes=(101,))
            results["missing"] = field.missing
            for peer in field.peers:
                one = results["peers"].setdefault(peer.name, {"empty_pss_kib": procfs.memory_kib(peer.running.pid)[0]})
                one[scheme] = measure(peer, scheme, connections)
    return results


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m loadtest.idle", description=__doc__)
    options.add_argument("--peers", default=",".join(DEFAULT_PEERS), help=f"of {', '.join(ALL_PEERS)}")
    options.add_argument("--ingressd", action="append", metavar="[LABEL=]COMMAND")
    options.add_argument("--connections", type=int, default=8000)
    arguments = options.parse_args()
    builds = default_builds() if arguments.ingressd is None else parse_builds(filter(None, arguments.ingressd))
    names = [name for name in arguments.peers.split(",") if name]
    try:
        results = measure_all(names, builds, connections=arguments.connections)
    except MissingError as exc:
        print(f"cannot measure: {exc}", file=sys.stderr)
        return 1
    for name, why in results["missing"].items():
        print(f"missing: {name}: {why}")
    print(table.idle_table(results))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "idle.json").write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
