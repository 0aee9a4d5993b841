"""`ingressd run`: the supervisor, with the commands that start its children."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import stat
import time
from collections.abc import Mapping, Sequence

from ingressd.observe import operational_log
from ingressd.proxy.tls.tickets import TicketSecret
from ingressd.supervise import spawn
from ingressd.supervise.supervisor import CONTROLLER, Supervisor


def run(config_path: str, *, flags: Mapping[str, str], level: str, form: str) -> int:
    """Run until told to stop; the exit code. `flags` are those given on the command line, by name without dashes.

    `level` and `form` are for the operational log until the configuration has been read.
    """
    operational_log.configure(level, form, process="supervisor")
    _raise_descriptor_limit()
    _append_to_files()
    flags_text = json.dumps(dict(flags))

    tickets = TicketSecret.fresh(time.time())  # noqa: TID251 - the entry point

    def start(index: int, arguments: Sequence[str], descriptors: Sequence[int]) -> int:
        if index == CONTROLLER:
            argv = spawn.command("ingressd.app.controller", ["controller", *arguments, config_path, flags_text])
            return spawn.start(argv, descriptors)
        tickets.advance(time.time())  # noqa: TID251
        secret = tickets.to_descriptor()
        try:
            argv = spawn.command("ingressd.app.worker", ["worker", str(index), *arguments, str(secret)])
            return spawn.start(argv, (*descriptors, secret))
        finally:
            os.close(secret)

    return Supervisor(start, level=level, form=form).run()


def _append_to_files() -> None:
    """`ingressd run > FILE 2>&1` must not have two writers overwrite each other: each write goes to the end."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
                fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_APPEND)


def _raise_descriptor_limit() -> None:
    """Two descriptors an exchange: what the system allows at most is what we want."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
