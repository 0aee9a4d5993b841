"""`ingressd check`: every problem of a configuration or of manifests, with its object and line."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

from ingressd.cli.offline import Offline, translate_config, translate_manifests
from ingressd.settings.overlay import command_value

CLEAN, WARNINGS, ERRORS = 0, 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `ingressd check` takes."""
    parser.description = "Translate offline and print every problem. Exit code: 0 clean, 2 errors."
    parser.add_argument("--config", metavar="FILE", help="the configuration file [INGRESSD_CONFIG]")
    parser.add_argument("--strict", action="store_true", help="exit with 1 for warnings alone [INGRESSD_STRICT]")
    parser.add_argument("paths", metavar="PATH", nargs="*", help="manifest files or folders, without a configuration")


def run(parsed: argparse.Namespace) -> int:
    """The command; its exit code."""
    environ = dict(os.environ)  # noqa: TID251 - an entry point, from which it is passed on
    config = command_value("config", environ=environ, flag=parsed.config)
    if not config and not parsed.paths:
        sys.stderr.write("ingressd check: error: say --config FILE (or INGRESSD_CONFIG), or PATH…\n")
        return ERRORS
    # Paths alone are checked alone, whatever the environment says for `run`.
    if parsed.paths and not parsed.config:
        config = ""
    strict = parsed.strict or (command_value("strict", environ=environ, flag=None) or "").lower() in (
        "1",
        "true",
        "yes",
    )
    now_s = time.time()  # noqa: TID251 - an entry point
    return check(config or None, parsed.paths, strict=strict, environ=environ, flags={}, now_s=now_s, out=sys.stdout)


def check(
    config: str | None,
    paths: Sequence[str] = (),
    *,
    strict: bool,
    environ: Mapping[str, str],
    flags: Mapping[str, str],
    now_s: float,
    out: TextIO,
) -> int:
    """Check the configuration file `config`, or the manifests at `paths`, or both, each on its own.

    Prints one line a problem, one a reference to what only the cluster knows (a note), and a summary. The exit code: 2
    if there is an error, 1 if there are warnings and `strict`, else 0.
    """
    results: list[Offline] = []
    if config is not None:
        results.append(translate_config(config, environ=environ, flags=flags, now_s=now_s))
    if paths:
        results.append(translate_manifests(paths, now_s=now_s))
    problems = [problem for result in results for problem in result.problems]
    for problem in problems:
        print(problem, file=out)
    for problem in (problem for result in results for problem in result.unchecked):
        where = f"{problem.where}: " if problem.file else ""
        print(f"{where}note: {problem.about}: only the cluster knows what this refers to", file=out)
    errors = sum(problem.severity == "error" for problem in problems)
    warnings = len(problems) - errors
    objects = sum(result.objects for result in results)
    print(f"{_count(objects, 'object')} checked: {_count(errors, 'error')}, {_count(warnings, 'warning')}", file=out)
    refused = any(result.config is None for result in results)
    if errors or refused:
        return ERRORS
    return WARNINGS if warnings and strict else CLEAN


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
