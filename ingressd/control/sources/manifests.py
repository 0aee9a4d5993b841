"""Manifest files to objects: several documents each, Lists taken apart, a broken document reported and left out.

Each document is remembered by its text, so that a change costs the documents that changed, and an object whose text
did not change stays the very same object.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ingressd.control.objects.decode import DecodeError, decode_value, key_of_value, kind_of
from ingressd.control.objects.event import AnyObject, ObjectKey, Position
from ingressd.control.sources.locate import locate_field
from ingressd.model.problem import Origin, Problem, Severity
from ingressd.settings.yaml_reader import (
    Chunk,
    Document,
    KeyPath,
    YamlError,
    decode_text,
    read_json,
    read_yaml,
    split_documents,
)

Placed = tuple[AnyObject, Position]


class Fault(NamedTuple):
    """Something wrong in one document. Lines count from the start of the chunk (0 is its first line)."""

    message: str
    reason: str
    line: int
    key: ObjectKey | None = None
    field: str = ""
    path: KeyPath = ()


class Found(NamedTuple):
    """One object of a chunk."""

    key: ObjectKey
    value: AnyObject
    line: int
    path: KeyPath


class Parsed(NamedTuple):
    """What one chunk holds. `broken`: it cannot be told which objects it holds."""

    found: tuple[Found, ...]
    faults: tuple[Fault, ...]
    broken: bool = False


class ManifestContents(NamedTuple):
    """What one file holds. `refused` are the keys of objects that are there and wrong."""

    objects: dict[ObjectKey, Placed]
    problems: tuple[Problem, ...]
    refused: frozenset[ObjectKey]
    broken: bool


class ManifestReader:
    """Reads manifest files, remembering the text of each document. State is keyed by file, then by document text."""

    def __init__(self) -> None:
        self._contents: dict[str, tuple[bytes, ManifestContents]] = {}
        self._chunks: dict[str, dict[str, Parsed]] = {}

    def read(self, file: str, content: bytes) -> ManifestContents:
        """The objects of a file, from memory where its text is the same."""
        last = self._contents.get(file)
        if last is not None and last[0] == content:
            return last[1]
        contents = self._parse(file, content)
        self._contents[file] = (content, contents)
        return contents

    def last(self, file: str) -> ManifestContents | None:
        """What a file held when it was last read."""
        last = self._contents.get(file)
        return None if last is None else last[1]

    def forget_others(self, files: set[str]) -> None:
        """Forget every file but these."""
        for file in [file for file in self._contents if file not in files]:
            del self._contents[file]
            self._chunks.pop(file, None)

    def _parse(self, file: str, content: bytes) -> ManifestContents:
        try:
            text = decode_text(content)
        except YamlError as exc:
            problem = file_problem(file, exc.message, reason="InvalidManifest", line=exc.line)
            return ManifestContents({}, (problem,), frozenset(), True)
        is_json = file.endswith(".json")
        chunks = [Chunk(text, 1)] if is_json else split_documents(text)
        before = self._chunks.get(file, {})
        after: dict[str, Parsed] = {}
        collected = _Collected(file, content)
        for number, chunk in enumerate(chunks):
            parsed = before.get(chunk.text) or after.get(chunk.text)
            if parsed is None:
                parsed = parse_chunk(chunk.text, is_json=is_json)
            after[chunk.text] = parsed
            collected.add(chunk.line, number, parsed)
        self._chunks[file] = after
        return collected.contents()


def parse_chunk(text: str, *, is_json: bool) -> Parsed:
    """The objects of one part of a file."""
    try:
        documents = read_json(text) if is_json else read_yaml(Chunk(text, 1))
    except YamlError as exc:
        return Parsed((), (Fault(exc.message, "InvalidManifest", exc.line - 1),), True)
    found: list[Found] = []
    faults: list[Fault] = []
    for document in documents:
        for path, value in _objects(document):
            _decode(value, path, document.line - 1, into=(found, faults))
    return Parsed(tuple(found), tuple(faults))


def file_problem(file: str, message: str, *, reason: str, line: int = 0, severity: Severity = "error") -> Problem:
    """A problem of a whole file or of a part of it that holds no object we can name."""
    return Problem(severity, Origin("Manifest", "", file), reason, "", message, file, line)


def _objects(document: Document) -> Iterator[tuple[KeyPath, Any]]:
    value = document.value
    if isinstance(value, dict):
        kind, items = value.get("kind"), value.get("items")
        if isinstance(kind, str) and kind.endswith("List") and isinstance(items, list):
            # An IngressList out of an API server does not repeat kind and version in its items.
            of = {"apiVersion": value.get("apiVersion"), "kind": kind.removesuffix("List")} if kind != "List" else {}
            for index, item in enumerate(items):
                yield ("items", index), {**of, **item} if of and isinstance(item, dict) else item
            return
    yield (), value


def _decode(value: Any, path: KeyPath, line: int, *, into: tuple[list[Found], list[Fault]]) -> None:
    found, faults = into
    kind = None
    try:
        kind = kind_of(value)
        if kind is not None:
            key, decoded = decode_value(kind, value)
            found.append(Found(key, decoded, line, path))
    except DecodeError as exc:
        key_or_none = None if kind is None else key_of_value(kind, value)
        faults.append(Fault(exc.message, "InvalidObject", line, key_or_none, exc.field, path))


class _Collected:
    """The chunks of one file put together."""

    def __init__(self, file: str, content: bytes) -> None:
        self._file = file
        self._content = content
        self._objects: dict[ObjectKey, Placed] = {}
        self._problems: list[Problem] = []
        self._refused: set[ObjectKey] = set()
        self._broken = False

    def add(self, first_line: int, number: int, parsed: Parsed) -> None:
        """Add what the chunk that starts at `first_line` holds."""
        self._broken = self._broken or parsed.broken
        for found in parsed.found:
            position = Position(self._file, first_line + found.line, number, found.path)
            if found.key in self._objects:
                self._problems.append(duplicate(found.key, self._objects[found.key][1], by=position))
            self._objects[found.key] = (found.value, position)
        for fault in parsed.faults:
            self._problems.append(self._problem(fault, first_line + fault.line))
            if fault.key is not None:
                self._refused.add(fault.key)

    def contents(self) -> ManifestContents:
        """All of it."""
        refused = frozenset(self._refused - self._objects.keys())
        return ManifestContents(self._objects, tuple(self._problems), refused, self._broken)

    def _problem(self, fault: Fault, line: int) -> Problem:
        if fault.field or fault.path:
            line = locate_field(self._content, line=line, path=fault.path, field=fault.field)
        if fault.key is None:
            message = f"{fault.field}: {fault.message}" if fault.field else fault.message
            return file_problem(self._file, message, reason=fault.reason, line=line)
        origin = Origin(fault.key.kind, fault.key.namespace, fault.key.name)
        return Problem("error", origin, fault.reason, fault.field, fault.message, self._file, line)


def duplicate(key: ObjectKey, loser: Position, *, by: Position) -> Problem:
    """The problem of an object that is written twice: the later one wins, as with `kubectl apply`."""
    origin = Origin(key.kind, key.namespace, key.name)
    message = f"written again in {by.file}:{by.line}, which wins"
    return Problem("warning", origin, "DuplicateObject", "", message, loser.file, loser.line)
