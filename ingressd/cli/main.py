"""The command line: `run`, `check`, `explain`, `version`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from ingressd.settings.nearest import did_you_mean
from ingressd.settings.overlay import OPTIONS, command_value
from ingressd.version import __version__

EXIT_USAGE: Final = 2

_ABOUT: Final = "A Kubernetes ingress controller and L7 reverse proxy."
_COMMANDS: Final = {
    "run": "run the proxy",
    "check": "translate offline and print every problem",
    "explain": "say which route a request would take, and why",
    "version": "print versions and how this was built",
}
_RUN_ABOUT: Final = """Run the proxy until SIGTERM.

SIGTERM drains and ends, a second one ends at once. SIGHUP reads the configuration again (it is watched anyway), SIGUSR1
reopens log files, SIGUSR2 hands over to what is installed now without dropping a connection."""
_EPILOG: Final = "Every flag has a variable INGRESSD_FLAG (dashes become underscores); flag > variable > file."


class _Parser(argparse.ArgumentParser):
    """Names the nearest known flag or command in its errors."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with code 2."""
        sys.stderr.write(f"{self.prog}: error: {message}\nTry '{self.prog} --help'.\n")
        raise SystemExit(EXIT_USAGE)

    def known_flags(self) -> list[str]:
        """All long flags."""
        return [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]


def _parser(command: str) -> _Parser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog=f"ingressd {command}", allow_abbrev=False, epilog=_EPILOG, formatter_class=formatter)
    if command == "run":
        parser.description = _RUN_ABOUT
        parser.add_argument("--config", metavar="FILE", help="the configuration file")
        for option in OPTIONS:
            parser.add_argument(f"--{option.name}", metavar="VALUE", help=f"{option.about} [{option.variable}]")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    environ = dict(os.environ)  # noqa: TID251 - the entry point, from which it is passed on
    command = arguments[0] if arguments else ""
    if command in ("", "-h", "--help", "help"):
        sys.stdout.write(_help())
        return 0 if command else EXIT_USAGE
    if command == "--version":
        command = "version"
    if command not in _COMMANDS:
        kind = "flag" if command.startswith("-") else "command"
        sys.stderr.write(f"ingressd: error: unknown {kind} {command!r}{did_you_mean(command, _COMMANDS)}\n{_help()}")
        return EXIT_USAGE
    try:
        return _dispatch(command, arguments[1:], environ)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else EXIT_USAGE


def _help() -> str:
    commands = "".join(f"  {name:9}{about}\n" for name, about in _COMMANDS.items())
    return (
        f"ingressd {__version__}: {_ABOUT}\n\nusage: ingressd COMMAND [FLAGS]\n\n{commands}\n"
        f"'ingressd COMMAND --help' says more. {_EPILOG}\n"
    )


def _dispatch(command: str, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    parser = _parser(command)
    # Late imports: `run` starts children, and each tenth of a second counts; the others load the whole control plane.
    if command == "run":
        return _run(_parse(parser, arguments), environ)
    if command == "version":
        _parse(parser, arguments)
        from ingressd.cli import about  # noqa: PLC0415

        return about.run()
    if command == "check":
        from ingressd.cli import check  # noqa: PLC0415

        check.add_arguments(parser)
        return check.run(_parse(parser, arguments))
    from ingressd.cli import explain  # noqa: PLC0415

    explain.add_arguments(parser)
    return explain.run(_parse(parser, arguments))


def _parse(parser: _Parser, arguments: Sequence[str]) -> argparse.Namespace:
    parsed, unknown = parser.parse_known_args(list(arguments))
    for word in unknown:
        if word.startswith("-"):
            flag = word.split("=", 1)[0]
            parser.error(f"unknown flag {flag}{did_you_mean(flag, parser.known_flags())}")
        parser.error(f"unexpected argument {word!r}")
    return parsed


def _run(parsed: argparse.Namespace, environ: Mapping[str, str]) -> int:
    given = vars(parsed)
    path = command_value("config", environ=environ, flag=given["config"])
    if not path:
        sys.stderr.write("ingressd run: error: --config FILE (or INGRESSD_CONFIG) is missing\n")
        return EXIT_USAGE
    flags = {option.name: value for option in OPTIONS if (value := given[option.name.replace("-", "_")]) is not None}
    from ingressd.app.run import run  # noqa: PLC0415 - see _dispatch

    return run(path, flags=flags, level=_word("log-level", flags, environ), form=_word("log-format", flags, environ))


def _word(name: str, flags: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Level or format of the log until the configuration has been read; whoever reads it reports a bad word."""
    choices = {"log-level": ("info", "debug", "warning", "error"), "log-format": ("text", "json")}[name]
    word = command_value(name, environ=environ, flag=flags.get(name))
    return word if word in choices else choices[0]
