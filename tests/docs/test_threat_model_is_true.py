"""docs/threat-model.md and SECURITY.md name settings, flags, files and constants: each exists and is as they say."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from ingressd.settings.configmap_table import BUILT
from ingressd.settings.flags import FLAGS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/threat-model.md").read_text("utf-8")
DEFAULTS = {setting.key: setting.default for setting in BUILT}
NAMES = {*DEFAULTS, *FLAGS}
ROWS = re.findall(r"(?m)^\| `([^`]+)` (?:`([A-Z_]+)` )?\| `?([^|`]+)`? \| [^|]+ \|$", PAGE)
LIMITS = [(key, value.strip()) for key, constant, value in ROWS if not constant]
CONSTANTS = [(file, constant, value.strip()) for file, constant, value in ROWS if constant]


def test_the_tables_are_found():
    assert len(LIMITS) > 20
    assert len(CONSTANTS) > 20


@pytest.mark.parametrize(("key", "default"), LIMITS, ids=[key for key, _ in LIMITS])
def test_a_limit_has_that_default(key, default):
    assert DEFAULTS[key] == default


@pytest.mark.parametrize(("file", "constant", "value"), CONSTANTS, ids=[name for _, name, _ in CONSTANTS])
def test_a_constant_has_that_value(file, constant, value):
    module = importlib.import_module("ingressd." + file.removesuffix(".py").replace("/", "."))
    assert getattr(module, constant) == float(value.split()[0])


@pytest.mark.parametrize("page", ["docs/threat-model.md", "SECURITY.md"])
def test_every_name_exists(page):
    text = (ROOT / page).read_text("utf-8")
    words = {word for word in re.findall(r"`([^`\n]+)`", text) if " " not in word}
    keys = {word for word in words if re.fullmatch(r"[a-z]+(-[a-z]+)+", word)}
    files = {word for word in words if "/" in word and not word.startswith("/")}
    assert keys | files, "the page names nothing?"
    assert keys - NAMES == set()
    assert [file for file in files if not any((root / file).exists() for root in (ROOT, ROOT / "ingressd"))] == []


def test_every_limit_of_a_client_or_an_upstream_is_on_the_page():
    # `elsewhere`: what bounds us and no peer.
    bounds = {
        key for key in DEFAULTS if re.search(r"timeout|size|requests$|buffers|tries|connections|fields|time$", key)
    }
    elsewhere = {"proxy-next-upstream-timeout", "upstream-keepalive-requests", "upstream-keepalive-timeout"}
    assert bounds - {key for key, _ in LIMITS} - elsewhere == set()
