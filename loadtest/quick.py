"""`python -m loadtest.quick`: half a minute before a commit to the hot path.

nginx against ingressd, 64 connections, 101 bytes, HTTP, unless told otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

from loadtest import cell, syscalls, table
from loadtest.field import ALL_PEERS, default_builds, enter_field, parse_builds
from loadtest.launch import MissingError


def main(argv: list[str] | None = None) -> int:
    """Measure and print the ratio; 1 when a peer is missing or fails."""
    options = argparse.ArgumentParser(prog="python -m loadtest.quick", description=__doc__)
    options.add_argument("--ingressd", action="append", metavar="[LABEL=]COMMAND")
    options.add_argument("--peers", default="nginx", help=f"of {', '.join(ALL_PEERS)}")
    options.add_argument("--scheme", choices=("http", "https"), default="http")
    options.add_argument("--size", type=int, default=101)
    options.add_argument("--connections", type=int, default=64)
    options.add_argument("--seconds", type=float, default=3.0)
    options.add_argument("--rounds", type=int, default=4)
    options.add_argument("--patience", type=float, default=3.0, help="seconds to wait for quiet CPUs before a run")
    options.add_argument("--syscalls", action="store_true")
    arguments = options.parse_args(argv)
    builds = default_builds() if arguments.ingressd is None else parse_builds(filter(None, arguments.ingressd))
    one = cell.Cell(arguments.scheme, arguments.size, arguments.connections)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loadtest-")))
        try:
            field = enter_field(
                stack, folder, names=arguments.peers.split(","), builds=builds, sizes=tuple({101, one.size_bytes})
            )
        except MissingError as exc:
            print(f"cannot measure: {exc}", file=sys.stderr)
            return 1
        for name, why in field.missing.items():
            print(f"missing: {name}: {why}")
        measured = cell.measure(
            field.peers,
            one,
            seconds=arguments.seconds,
            rounds=arguments.rounds,
            patience_s=arguments.patience,
            say=lambda text: print(text, flush=True),
        )
        print(table.cell_table({"peers": measured}))
        if arguments.syscalls:
            counted = {peer.name: syscalls.count(peer, one, seconds=2) for peer in field.peers}
            print(table.syscall_table({one.scheme: counted}))
        for name in builds:
            if name in measured and measured[name]["ratio_to_nginx"] is not None:
                print(f"{name}: {measured[name]['ratio_to_nginx']:.2f} x nginx")
    return 1 if field.missing else 0


if __name__ == "__main__":
    sys.exit(main())
