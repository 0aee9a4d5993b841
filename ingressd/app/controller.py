"""The controller process, first half: read the configuration, tell the supervisor, then load the rest.

What is imported here decides how soon the other workers start, so the second half is imported late.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from typing import Final

from ingressd.ipc import orders
from ingressd.ipc.orders import Order, send_order
from ingressd.observe import operational_log
from ingressd.observe.shared_table import HEARTBEAT_MS, SharedTable
from ingressd.settings.config import Config
from ingressd.settings.load import load_config

EXIT_BAD_CONFIGURATION: Final = 2
WAIT_S: Final = 0.25
SWITCH_S: Final = 0.0005


def main(arguments: list[str]) -> int:
    """Run `controller CHANNEL TABLE PHASE LEVEL FORMAT CONFIG FLAGS HOLDER` with the inherited descriptors.

    PHASE is "first" until a configuration could be read, then "again". HOLDER is added to our name in the Lease.
    """
    _, channel_number, table_number, phase, level, form, path, flags_text, holder = arguments
    # A scrape of 10,000 routes in use is seconds of work in a thread. With Python's 5 ms between switches every turn of
    # the loop waits as long for its share: 5 ms for what takes 0.6 with this, and 134 instead of 9 at worst.
    sys.setswitchinterval(SWITCH_S)
    log = operational_log.configure(level, form, process="controller")
    channel = socket.socket(fileno=int(channel_number))
    channel.setblocking(False)
    table = SharedTable.attach(int(table_number))
    for descriptor in (int(channel_number), int(table_number)):
        os.set_inheritable(descriptor, False)
    flags: dict[str, str] = json.loads(flags_text)
    environ = dict(os.environ)  # noqa: TID251 - the entry point, from which it is passed on
    config = _first_reading(path, environ, flags, first=phase == "first", table=table)
    if config is None:
        return EXIT_BAD_CONFIGURATION
    log = operational_log.configure(config.log.level, config.log.format, process="controller")
    send_order(
        channel,
        Order(
            orders.CONFIGURED,
            number=config.workers,
            host=config.admin.host,
            port=config.admin.port,
            name=config.log.format,
            detail=config.log.level,
        ),
    )
    # Imported now: aiohttp and cryptography take 0.2 s to load, in which the other workers already start.
    import asyncio  # noqa: PLC0415

    import uvloop  # noqa: PLC0415

    from ingressd.app.control_loop import run  # noqa: PLC0415

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(
            run(config, path=path, environ=environ, flags=flags, channel=channel, table=table, holder=holder, log=log)
        )


def _first_reading(
    path: str, environ: dict[str, str], flags: dict[str, str], *, first: bool, table: SharedTable
) -> Config | None:
    """The configuration at the start. Any mistake ends the very first start; afterwards there are workers that serve,
    so a controller that was started again takes what can be taken, and waits for a file that can be read."""
    said: tuple[str, ...] = ()
    while True:
        loaded = load_config(path, environ=environ, flags=flags)
        errors = tuple(str(problem) for problem in loaded.problems if problem.severity == "error")
        if (first and errors) or loaded.config is None:
            if errors != said:
                sys.stderr.write("".join(f"{error}\n" for error in errors))
                sys.stderr.flush()
                said = errors
            if first:
                return None
            table.controller_column()[HEARTBEAT_MS] = int(time.monotonic() * 1000)
            time.sleep(WAIT_S)
            continue
        return loaded.config
