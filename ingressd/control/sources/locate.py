"""Where in a file a field of an object is. Only computed when there is a problem to report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from ingressd.settings.yaml_reader import Document, KeyPath, YamlError, decode_text, read_yaml, split_documents

_PART: Final = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_MAPS: Final = (("metadata", "annotations"), ("metadata", "labels"), ("data",), ("stringData",))


def locate_field(content: bytes, *, line: int, path: KeyPath, field: str) -> int:
    """The line (1-based) of a field of the object that starts at `line` and is at `path` of its document.

    The field is a path ("spec.rules[0].host"), or a key of the annotations or the data. When it is not there, the
    line of what is nearest around it.
    """
    return locate_fields(content, line=line, path=path, fields=(field,))[0]


def locate_fields(content: bytes, *, line: int, path: KeyPath, fields: Sequence[str]) -> list[int]:
    """The lines of several fields of one object: its document is read once."""
    document = _document_at(content, line)
    if document is None:
        return [line] * len(fields)
    return [_line_of(document, field, line=line, path=path) for field in fields]


def _line_of(document: Document, field: str, *, line: int, path: KeyPath) -> int:
    for candidate in _candidates(path, field):
        if candidate in document.marks:
            return document.marks[candidate][0]
    nearest = (*path, *field_path(field))
    while nearest and nearest not in document.marks:
        nearest = nearest[:-1]
    return document.marks.get(nearest, (line, 1))[0]


def field_path(field: str) -> KeyPath:
    """ "spec.rules[0].host" as ("spec", "rules", 0, "host")."""
    return tuple(int(index) if index else name for name, index in _PART.findall(field))


def _candidates(path: KeyPath, field: str) -> Iterator[KeyPath]:
    for keys in _MAPS:
        prefix = ".".join(keys) + "."
        if field.startswith(prefix):
            yield (*path, *keys, field.removeprefix(prefix))
    yield (*path, *field_path(field))
    for keys in _MAPS:
        yield (*path, *keys, field)
    yield (*path, field)
    yield field_path(field)


def _document_at(content: bytes, line: int) -> Document | None:
    """The document that begins at a line; else the last that begins before it; else the first."""
    best: Document | None = None
    try:
        chunks = split_documents(decode_text(content))
        starts = [number for number, chunk in enumerate(chunks) if chunk.line <= line]
        # What is before the first marker may be comments only, and then the document is in the next chunk.
        for chunk in chunks[starts[-1] if starts else 0 :]:
            for document in read_yaml(chunk, positions=True):
                if best is None or document.line <= line:
                    best = document
            if best is not None:
                return best
    except YamlError:
        return None
    return best
