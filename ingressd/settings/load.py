"""From file, variables and flags to one `Config`."""

from __future__ import annotations

from collections.abc import Mapping

from ingressd.settings.config import LoadedConfig


def load_config(path: str, *, environ: Mapping[str, str], flags: Mapping[str, str]) -> LoadedConfig:
    """Read the file and lay variables and flags over it: flag > variable > file.

    `flags` are command-line flags by name without dashes ("access-log-path"); `environ` is the whole environment, of
    which only `INGRESSD_*` is looked at. Never raises for bad input: the problems say what and where.
    """
    raise NotImplementedError
