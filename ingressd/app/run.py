"""`ingressd run`: the supervisor, with the commands that start its children."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import stat
import sys
import time
from collections.abc import Mapping, Sequence

from ingressd.proxy.tls.tickets import TicketSecret
from ingressd.supervise import spawn
from ingressd.supervise.children import CONTROLLER
from ingressd.supervise.estate import VARIABLE, Estate, EstateError, claim
from ingressd.supervise.supervisor import EXIT_FAILED, Kin, Supervisor


def run(config_path: str, *, flags: Mapping[str, str], level: str, form: str) -> int:
    """Run until told to stop; the exit code. `flags` are those given on the command line, by name without dashes.

    `level` and `form` are for the operational log until the configuration has been read.
    """
    try:
        estate = claim(os.environ)  # noqa: TID251 - the entry point; no child shall see the variable
    except EstateError as error:
        sys.stderr.write(f"ingressd run: nothing could be taken over: {error}\n")
        return EXIT_FAILED
    _raise_descriptor_limit()
    _dump_no_cores()
    _append_to_files()
    flags_text = json.dumps(dict(flags))

    # An heir runs for leader beside the one before it, so it needs a name of its own.
    holder = "" if estate is None else f"_{os.getpid()}"
    tickets = _ticket_secret(estate)

    def start(index: int, arguments: Sequence[str], descriptors: Sequence[int]) -> int:
        if index == CONTROLLER:
            argv = spawn.command("ingressd.app.controller", ["controller", *arguments, config_path, flags_text, holder])
            return spawn.start(argv, descriptors)
        secret = secret_of_today()
        try:
            argv = spawn.command("ingressd.app.worker", ["worker", str(index), *arguments, str(secret)])
            return spawn.start(argv, (*descriptors, secret))
        finally:
            os.close(secret)

    def start_heir(channel: int) -> int:
        environ = {**os.environ, VARIABLE: str(channel)}  # noqa: TID251 - what we were started with
        return spawn.start(spawn.same_command(), (channel,), environ)

    def secret_of_today() -> int:
        tickets.advance(time.time())  # noqa: TID251
        return tickets.to_descriptor()

    return Supervisor(start, level=level, form=form, kin=Kin(start_heir, secret_of_today, estate)).run()


def _ticket_secret(estate: Estate | None) -> TicketSecret:
    """What sessions resume by: handed on, so that they outlive a hand-over, or new."""
    if estate is not None and estate.tickets is not None:
        descriptor, estate.tickets = estate.tickets, None
        with contextlib.suppress(ValueError, OSError):  # Another version may write it otherwise: full handshakes then.
            return TicketSecret.from_descriptor(descriptor)
    return TicketSecret.fresh(time.time())  # noqa: TID251 - the entry point


def _append_to_files() -> None:
    """`ingressd run > FILE 2>&1` must not have two writers overwrite each other: each write goes to the end."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
                fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_APPEND)


def _dump_no_cores() -> None:
    """A core would hold private keys, and lie on a disk. The soft limit, of our children too: `prlimit` lifts it."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def _raise_descriptor_limit() -> None:
    """Two descriptors an exchange: what the system allows at most is what we want."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
