"""Starting a child: fork, tie its life to ours, exec a fresh interpreter.

A fresh interpreter rather than a fork that goes on, so that a child holds nothing of the supervisor's memory. It is
told its import path instead of finding it again (`-S`), which saves a third of a bare start.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import ingressd

_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None, use_errno=True)


def _import_path() -> str:
    root = os.path.dirname(os.path.dirname(os.path.abspath(ingressd.__file__)))
    path = [entry or os.getcwd() for entry in sys.path]
    return os.pathsep.join(path if root in path else [*path, root])


def command(module: str, arguments: Sequence[str]) -> list[str]:
    """The command that calls `main(arguments)` of a module in a fresh interpreter; its exit code is what main returns.

    The import path is the last argument, out of sight in `ps`.
    """
    program = (
        f"import sys; sys.path[:] = sys.argv.pop().split(':'); from {module} import main; sys.exit(main(sys.argv[1:]))"
    )
    return [sys.executable, "-S", "-P", "-c", program, *arguments, _import_path()]


def same_command() -> list[str]:
    """The command line that started this process: what is installed in its place by now is what it starts.

    A script is named itself, not the interpreter that it named when we started.
    """
    script = sys.argv[0]
    if sys.orig_argv[1:] == sys.argv and os.access(script, os.X_OK):
        return [script, *sys.argv[1:]]
    program, *arguments = sys.orig_argv
    return [shutil.which(program) or sys.executable, *arguments]


def start(argv: list[str], descriptors: Sequence[int], environ: Mapping[str, str] | None = None) -> int:
    """Start `argv` with these descriptors open under the same numbers; the process id. Raises OSError.

    The child gets SIGKILL when the supervisor ends, however it ends.
    """
    parent = os.getpid()
    # A signal that reached the child before exec would be written into our wake-up pipe.
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _become(argv, descriptors, parent, os.environ if environ is None else environ)  # noqa: TID251
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _become(argv: list[str], descriptors: Sequence[int], parent: int, environ: Mapping[str, str]) -> None:
    """In the child: never returns."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        # A Ctrl-C at a terminal reaches the whole group; the supervisor alone decides what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, True)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(argv[0], argv, environ)  # noqa: S606 - our own interpreter with our own arguments
    except BaseException as error:  # noqa: BLE001 - whatever it is, the child must not go on as a second supervisor
        os.write(2, f"cannot start {argv[0]}: {error}\n".encode())
    finally:
        os._exit(127)
