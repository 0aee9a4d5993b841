"""The command line: `run`, `check`, `explain`, `version`."""

from __future__ import annotations


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    raise NotImplementedError(argv)
