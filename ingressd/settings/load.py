"""From file, variables and flags to one `Config`."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ingressd.settings.config import ConfigProblem, LoadedConfig
from ingressd.settings.config_reader import read_config
from ingressd.settings.overlay import lay_over
from ingressd.settings.quota import default_workers
from ingressd.settings.section import Report
from ingressd.settings.yaml_reader import Chunk, Document, YamlError, decode_text, read_yaml


def load_config(path: str, *, environ: Mapping[str, str], flags: Mapping[str, str]) -> LoadedConfig:
    """Read the file and lay variables and flags over it: flag > variable > file. "" is no file.

    `flags` are command-line flags by name without dashes ("access-log-path"); `environ` is the whole environment, of
    which only `INGRESSD_*` is looked at. Never raises for bad input: the problems say what and where.
    """
    content = b""
    if path:
        path = os.path.abspath(path)
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError as exc:
            message = f"cannot be read: {exc.strerror or exc}"
            return LoadedConfig(None, (ConfigProblem("", message, file=path),))
    return parse_config(content, path=path, environ=environ, flags=flags, workers=default_workers())


def parse_config(
    content: bytes, *, path: str, environ: Mapping[str, str], flags: Mapping[str, str], workers: int
) -> LoadedConfig:
    """The same for a file that has been read. `workers` is the default when nobody says."""
    try:
        documents = read_yaml(Chunk(decode_text(content), 1), positions=True)
    except YamlError as exc:
        return LoadedConfig(None, (ConfigProblem("", exc.message, file=path, line=exc.line, column=exc.column),))
    document = documents[0] if documents else Document({}, 1, {})
    if len(documents) > 1:
        message = "a configuration file is one document"
        return LoadedConfig(None, (ConfigProblem("", message, file=path, line=documents[1].line, column=1),))
    if not isinstance(document.value, dict):
        message = "expected a mapping"
        return LoadedConfig(None, (ConfigProblem("", message, file=path, line=document.line, column=1),))
    values, origins, problems = lay_over(document.value, environ=environ, flags=flags)
    report = Report(path, document.marks, origins)
    config = read_config(report, values, workers=workers)
    problems += report.problems
    refused = any(problem.severity == "error" and not problem.entry for problem in problems)
    return LoadedConfig(None if refused else config, tuple(problems))
