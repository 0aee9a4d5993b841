"""YAML and JSON text to plain values, strictly, and with positions when somebody needs them.

PyYAML's parser gives events; the values are built here and not by its constructors, because a user's text must not
be able to do what YAML allows: a key twice, aliases that expand without end, tags that make objects, a time stamp or a
time of day that is no longer the text it was. It is also twice as fast.

Rules: a mapping's keys are always the text as written ("80", "on"); values follow YAML 1.1 (`yes`, `on`, `0755`) as
Kubernetes' own tools do, except that sexagesimal numbers and time stamps stay strings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import yaml

MAX_DEPTH: Final = 100
MAX_ALIASED_NODES: Final = 100_000
_JSON_SPACE: Final = re.compile(r"(?:[ \t\r\n]+|^---[ \t]*$)*", re.MULTILINE)
_INT: Final = re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[1-9][0-9_]*|0)\Z")
_FLOAT: Final = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*\.[0-9_]*|[0-9]+(?=e))(?:e[-+]?[0-9]+)?\Z|[-+]?\.inf\Z|\.nan\Z", re.IGNORECASE
)
_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_TAG: Final = "tag:yaml.org,2002:"
_TAG_REFUSED: Final = "the tag is not allowed; text that begins with ! needs quotes"
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

KeyPath = tuple[str | int, ...]
Marks = dict[KeyPath, tuple[int, int]]


class YamlError(ValueError):
    """The text is not what it should be. `line` and `column` are 1-based, in the file.

    `message` quotes no value: that may be a password, which YAML took for an alias or a tag.
    """

    def __init__(self, message: str, *, line: int, column: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


class Document(NamedTuple):
    """One document: its value, the line it starts on, and, when asked for, where each key and item is (1-based)."""

    value: Any
    line: int
    marks: Marks


class Chunk(NamedTuple):
    """A part of a file that can be parsed without the rest, and the line (1-based) it starts on."""

    text: str
    line: int


def decode_text(content: bytes) -> str:
    """UTF-8 with or without a byte-order mark. Raises YamlError."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        column = exc.start - content.rfind(b"\n", 0, exc.start)
        raise YamlError("not UTF-8", line=line, column=column) from None


def split_documents(text: str) -> list[Chunk]:
    """Cut a stream at its document markers, so that a broken document does not take the others with it.

    YAML 1.2, 9.1.2: a line that begins with "---" is a marker even inside a block scalar. A stream with directives is
    left whole, because a directive belongs to the document behind the marker.
    """
    if text.startswith("%") or "\n%" in text:
        return [Chunk(text, 1)]
    chunks, start, line = [], 0, 1
    at = text.find("\n---")
    while at >= 0:
        if text[at + 4 : at + 5] in ("", " ", "\t", "\r", "\n"):
            chunks.append(Chunk(text[start : at + 1], line))
            line += text.count("\n", start, at + 1)
            start = at + 1
        at = text.find("\n---", at + 4)
    chunks.append(Chunk(text[start:], line))
    return chunks


def read_yaml(chunk: Chunk, *, positions: bool = False) -> list[Document]:
    """The documents of a chunk that hold anything. Raises YamlError at the first thing that is wrong."""
    try:
        loader = _LOADER(chunk.text)
    except yaml.YAMLError as exc:
        raise _yaml_error(exc, chunk) from None
    try:
        return list(_documents(_Builder(loader, chunk, positions=positions)))
    except yaml.YAMLError as exc:
        raise _yaml_error(exc, chunk) from None
    finally:
        loader.dispose()


def read_json(text: str) -> list[Document]:
    """The values of a JSON text, one or several behind each other. Raises YamlError."""
    decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
    documents, at = [], _skip(text, 0)
    while at < len(text):
        try:
            value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as exc:
            raise YamlError(exc.msg, line=exc.lineno, column=exc.colno) from None
        except (ValueError, RecursionError) as exc:
            message = "nested too deeply" if isinstance(exc, RecursionError) else str(exc)
            line = text.count("\n", 0, at) + 1
            raise YamlError(message, line=line, column=at - text.rfind("\n", 0, at)) from None
        documents.append(Document(value, text.count("\n", 0, at) + 1, {}))
        at = _skip(text, end)
    return documents


def format_path(path: KeyPath) -> str:
    """("spec", "rules", 0, "host") as "spec.rules[0].host"."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else (f".{part}" if out else part)
    return out


def _skip(text: str, at: int) -> int:
    found = _JSON_SPACE.match(text, at)
    return at if found is None else found.end()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key!r} is there twice")
            seen.add(key)
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _yaml_error(exc: yaml.YAMLError, chunk: Chunk) -> YamlError:
    mark = getattr(exc, "problem_mark", None) or getattr(exc, "context_mark", None)
    problem = getattr(exc, "problem", None) or getattr(exc, "reason", None) or str(exc)
    if mark is None:
        position = getattr(exc, "position", 0)
        before = chunk.text[: position if isinstance(position, int) else 0]
        return YamlError(str(problem), line=chunk.line + before.count("\n"), column=len(before) - before.rfind("\n"))
    return YamlError(str(problem), line=chunk.line + mark.line, column=mark.column + 1)


def _documents(builder: _Builder) -> Iterator[Document]:
    while True:
        event = builder.next_event()
        if isinstance(event, yaml.StreamEndEvent):
            return
        if isinstance(event, yaml.DocumentStartEvent):
            builder.start_document()
            first = builder.next_event()
            value = builder.build(first, (), 0)
            if value is not None:
                yield Document(value, builder.line(first), builder.marks)


class _Builder:
    """Builds the values of one document after the other out of parser events."""

    __slots__ = ("_aliased", "_anchors", "_chunk", "_loader", "_nodes", "_positions", "marks", "next_event")

    def __init__(self, loader: Any, chunk: Chunk, *, positions: bool) -> None:
        self._loader = loader
        self._chunk = chunk
        self._positions = positions
        self.next_event = loader.get_event
        self.start_document()

    def start_document(self) -> None:
        """Forget the anchors of the document before."""
        # An anchor's value and how many nodes it holds; None while it is being built.
        self._anchors: dict[str, tuple[Any, int] | None] = {}
        self._nodes = 0
        self._aliased = 0
        self.marks: Marks = {}

    def line(self, event: Any) -> int:
        """The line of an event in the file."""
        return int(self._chunk.line + event.start_mark.line)

    def build(self, event: Any, path: KeyPath, depth: int) -> Any:
        """The value that starts with this event."""
        kind = type(event)
        if self._positions and path not in self.marks:
            self.marks[path] = (self.line(event), event.start_mark.column + 1)
        self._nodes += 1
        if kind is yaml.AliasEvent:
            return self._alias(event)
        if depth > MAX_DEPTH:
            raise self._error(event, f"nested more than {MAX_DEPTH} deep")
        before = self._nodes
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if kind is yaml.ScalarEvent:
            value = self._scalar(event)
        elif kind is yaml.MappingStartEvent:
            value = self._mapping(event, path, depth)
        else:
            value = self._sequence(event, path, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._nodes - before + 1)
        return value

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            raise self._error(event, "the alias has no anchor; text that begins with * needs quotes")
        target = self._anchors[event.anchor]
        if target is None:
            raise self._error(event, "the alias holds itself")
        self._count_aliased(event, target[1])
        return target[0]

    def _count_aliased(self, event: Any, nodes: int) -> None:
        # What an alias stands for counts again each time, also inside another anchor: that is how bombs grow.
        self._aliased += nodes
        self._nodes += nodes
        if self._aliased > MAX_ALIASED_NODES:
            raise self._error(event, f"aliases stand for more than {MAX_ALIASED_NODES} nodes")

    def _sequence(self, event: Any, path: KeyPath, depth: int) -> list[Any]:
        self._no_tag(event, "seq")
        values: list[Any] = []
        while type(item := self.next_event()) is not yaml.SequenceEndEvent:
            values.append(self.build(item, (*path, len(values)) if self._positions else path, depth + 1))
        return values

    def _mapping(self, event: Any, path: KeyPath, depth: int) -> dict[str, Any]:
        self._no_tag(event, "map")
        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while type(key_event := self.next_event()) is not yaml.MappingEndEvent:
            key = self._key(key_event)
            at = (*path, key) if self._positions else path
            if self._positions:
                self.marks[at] = (self.line(key_event), key_event.start_mark.column + 1)
            value = self.build(self.next_event(), at, depth + 1)
            if key == "<<" and key_event.implicit[0]:
                self._merge(key_event, value, merged)
            elif key in values:
                raise self._error(key_event, f"the key {key!r} is there twice")
            else:
                values[key] = value
        return {**merged, **values} if merged else values

    def _merge(self, event: Any, value: Any, into: dict[str, Any]) -> None:
        for source in value if isinstance(value, list) else [value]:
            if not isinstance(source, dict):
                raise self._error(event, "only mappings can be merged with <<")
            for key, inner in source.items():
                into.setdefault(key, inner)

    def _key(self, event: Any) -> str:
        if type(event) is yaml.AliasEvent:
            value = self._alias(event)
            if not isinstance(value, str):
                raise self._error(event, "a key must be a string")
            return value
        if type(event) is not yaml.ScalarEvent:
            raise self._error(event, "a key must be a string")
        key = str(event.value)
        if event.anchor is not None:
            self._anchors[event.anchor] = (key, 1)
        return key

    def _scalar(self, event: Any) -> Any:
        text = event.value
        if event.tag is not None and event.tag != "!":
            return self._tagged(event, text)
        return resolve(text) if event.implicit[0] else text

    def _tagged(self, event: Any, text: str) -> Any:
        name = event.tag.removeprefix(_TAG)
        if name in ("str", "timestamp"):
            return text
        if name == "binary":
            return "".join(text.split())
        value = resolve(text)
        wanted = {"int": int, "float": (int, float), "bool": bool, "null": type(None)}.get(name)
        if wanted is None or event.tag == name:
            raise self._error(event, _TAG_REFUSED)
        if not isinstance(value, wanted) or (isinstance(value, bool) and name != "bool"):  # type: ignore[arg-type]
            raise self._error(event, f"the value is no {name}")
        return value

    def _no_tag(self, event: Any, name: str) -> None:
        if event.tag is not None and event.tag not in ("!", _TAG + name):
            raise self._error(event, _TAG_REFUSED)

    def _error(self, event: Any, message: str) -> YamlError:
        return YamlError(message, line=self.line(event), column=event.start_mark.column + 1)


def resolve(text: str) -> Any:
    """What a plain scalar means: None, a bool, an int, a float, or the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "0123456789+-.":
        if len(text) <= 64 and _INT.match(text):
            return _to_int(text)
        if len(text) <= 64 and _FLOAT.match(text):
            return _to_float(text)
    return text


def _to_int(text: str) -> Any:
    digits = text.replace("_", "").lower()
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    try:
        if digits.startswith(("0b", "0o", "0x")):
            return sign * int(digits, 0)
        if len(digits) > 1 and digits.startswith("0"):
            return sign * int(digits, 8)
        return sign * int(digits)
    except ValueError:
        return text


def _to_float(text: str) -> Any:
    digits = text.replace("_", "").lower()
    try:
        return float(digits.replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        return text
