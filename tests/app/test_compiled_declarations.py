"""The declarations beside the hot modules say the same as their sources: a slot that only one of them knows would fail
in one build and pass in the other."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECLARATIONS = sorted(path.relative_to(ROOT) for path in (ROOT / "ingressd").rglob("*.pxd"))
_CLASS = re.compile(r"^cdef class (\w+)(?:\((\w+)\))?:\n((?:(?:    .*)?\n)*)", re.MULTILINE)
_ATTRIBUTE = re.compile(r"^    cdef (?:public )?[\w ]+(?:\[::1\])? (\w+)$", re.MULTILINE)
_METHOD = re.compile(r"^    cp?def (?:[\w]+ )?(\w+)\(", re.MULTILINE)


def slots_of(kind: type) -> set[str]:
    """The slots of a class, without those of its bases."""
    slots = kind.__dict__.get("__slots__", ())
    return {slots} if isinstance(slots, str) else set(slots)


@pytest.mark.parametrize("path", DECLARATIONS, ids=str)
def test_declared_attributes_are_the_slots(path: Path) -> None:
    module = importlib.import_module(".".join(path.with_suffix("").parts))
    if not str(module.__file__).endswith(".py"):
        pytest.skip("compiled: the source decides in the pure build")
    classes = _CLASS.findall((ROOT / path).read_text())
    functions = re.search(r"^c(?:p?)def ", (ROOT / path).read_text(), re.MULTILINE)
    assert classes or functions
    for name, _, body in classes:
        kind = getattr(module, name)
        assert set(_ATTRIBUTE.findall(body)) - {"__weakref__"} == slots_of(kind) - {"__weakref__"}, name
        for method in _METHOD.findall(body):
            assert callable(getattr(kind, method)), f"{name}.{method}"


def test_every_declaration_belongs_to_a_module_that_is_compiled() -> None:
    setup = (ROOT / "setup.py").read_text()
    assert DECLARATIONS
    for path in DECLARATIONS:
        assert f'"{path.with_suffix(".py").as_posix()}"' in setup
