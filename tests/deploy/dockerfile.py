"""Dockerfile and .dockerignore as values. Standard library only: try_dockerfile.py needs no virtual environment."""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

KNOWN = frozenset(
    {"FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
)


class Instruction(NamedTuple):
    """One instruction; `text` is what follows its name, lines joined."""

    name: str
    text: str

    def words(self) -> list[str]:
        """The words of the text, options (--…) left out."""
        return [word for word in self.text.split() if not word.startswith("--")]

    def option(self, name: str) -> str | None:
        """The value of `--name=value`."""
        found = re.search(rf"--{name}=(\S+)", self.text)
        return found[1] if found else None

    def arguments(self) -> list[str]:
        """The command of an instruction in its JSON form."""
        values = json.loads(self.text[self.text.index("[") :])
        assert isinstance(values, list)
        return [str(value) for value in values]

    def assignments(self) -> dict[str, str]:
        """NAME=VALUE of ENV; values without spaces."""
        return dict(word.split("=", 1) for word in self.text.split())


class Stage(NamedTuple):
    """A FROM and what follows it. `name` is its own name or its number."""

    name: str
    image: str
    instructions: tuple[Instruction, ...]

    def last(self, name: str) -> Instruction | None:
        """The instruction of this name that counts."""
        found = [one for one in self.instructions if one.name == name]
        return found[-1] if found else None


def parse(text: str) -> list[Stage]:
    """The stages of a Dockerfile. Raises ValueError for an instruction that is not known here."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    stages: list[Stage] = []
    for line in joined.splitlines():
        name, _, rest = line.partition(" ")
        if name not in KNOWN:
            raise ValueError(f"{name} is not known here")
        if name == "FROM":
            words = rest.split()
            stages.append(Stage(words[2] if len(words) == 3 else str(len(stages)), words[0], ()))
        else:
            last = stages.pop()
            stages.append(last._replace(instructions=(*last.instructions, Instruction(name, rest.strip()))))
    return stages


class Ignore:
    """A .dockerignore: of the patterns that match a path or a folder above it, the last one counts."""

    def __init__(self, text: str) -> None:
        lines = [line.strip() for line in text.splitlines()]
        self._patterns = [
            (line.removeprefix("!"), line.startswith("!")) for line in lines if line and not line.startswith("#")
        ]

    def sends(self, path: str) -> bool:
        """Is this path (relative, with slashes) part of the build context?"""
        parts = path.split("/")
        above = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
        sent = True
        for pattern, sends in self._patterns:
            if any(_matches(pattern, one) for one in above):
                sent = sends
        return sent


def _matches(pattern: str, path: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(path.rsplit("/", 1)[-1], pattern.removeprefix("**/"))
    return path.count("/") == pattern.count("/") and fnmatch.fnmatchcase(path, pattern)


def context(root: Path, ignore: Ignore) -> Iterator[str]:
    """The files of a build context, as paths relative to `root`."""
    for folder, folders, names in os.walk(root):
        here = os.path.relpath(folder, root)
        if here == ".":
            folders[:] = [name for name in folders if not name.startswith((".git", ".venv"))]
        for name in names:
            path = name if here == "." else f"{here}/{name}"
            if ignore.sends(path):
                yield path
