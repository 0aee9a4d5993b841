"""What `make audit` makes of pip-audit's report: what is found needs a reason, what is unknown is not "fine"."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CLEAN = {"name": "yarl", "version": "1.0", "vulns": []}
SKIPPED = {"name": "inner", "skip_reason": "Dependency not found on PyPI and could not be audited: inner (1.0)"}
KNOWN = {
    "name": "jinja2",
    "version": "2.10",
    "vulns": [{"id": "PYSEC-2019-217", "aliases": ["CVE-2019-10906"], "fix_versions": ["2.10.1"], "description": ""}],
}
BAD = {
    "name": "aiohttp",
    "version": "3.9.1",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": [], "description": ""}],
}
EXCUSE = '[[allowed]]\nid = "CVE-1"\npackage = "aiohttp"\nreason = "not our half"\nuntil = 2099-01-01\n'


@pytest.fixture
def audit() -> Any:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "requirements/audit.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def played(
    audit: Any, tmp_path: Path, monkeypatch: Any, *, known: Any = KNOWN, pinned: Any = CLEAN, allowed: str = ""
) -> int:
    """`main` with one list, pip-audit's answers about it and about the known one, and an allow-list."""
    (tmp_path / "run.lock").write_text("")
    (tmp_path / "audit-allowed.toml").write_text(allowed)
    monkeypatch.setattr(audit, "FOLDER", tmp_path)
    monkeypatch.setattr(audit, "ask", lambda path: {"dependencies": [pinned if path.suffix == ".lock" else known]})
    code: int = audit.main()
    return code


def test_nothing_found_passes(audit, tmp_path, monkeypatch, capsys):
    assert played(audit, tmp_path, monkeypatch) == 0
    assert "0 known vulnerabilities" in capsys.readouterr().err


def test_a_vulnerability_fails_and_is_named(audit, tmp_path, monkeypatch, capsys):
    assert played(audit, tmp_path, monkeypatch, pinned=BAD) == 1
    assert "audit: aiohttp 3.9.1: CVE-1, PYSEC-1, not fixed yet\n" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["CVE-1", "PYSEC-1"])
def test_one_with_a_reason_passes_under_any_of_its_names(audit, tmp_path, monkeypatch, name):
    assert played(audit, tmp_path, monkeypatch, pinned=BAD, allowed=EXCUSE.replace("CVE-1", name)) == 0


@pytest.mark.parametrize(
    ("allowed", "why"),
    [
        (EXCUSE.replace("aiohttp", "yarl"), "yarl: CVE-1 is allowed and is no finding any more"),
        (EXCUSE.replace("2099", "2020"), "look again"),
        (EXCUSE.replace("not our half", " "), "CVE-1 needs a reason"),
        (EXCUSE.replace("2099-01-01", '"soon"'), "a date in `until`"),
        (EXCUSE.replace("reason", "because"), "unexpected keyword argument 'because'"),
        ("[[allowed]\n", "audit-allowed.toml"),
    ],
)
def test_an_entry_that_ended_or_is_wrong_fails(audit, tmp_path, monkeypatch, capsys, allowed, why):
    assert played(audit, tmp_path, monkeypatch, pinned=BAD, allowed=allowed) == 1
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("known", [{**KNOWN, "vulns": []}, {"name": "jinja2", "skip_reason": "not found on PyPI"}])
def test_a_mirror_without_advisories_is_no_clean_result(audit, tmp_path, monkeypatch, capsys, known):
    assert played(audit, tmp_path, monkeypatch, known=known, pinned=CLEAN) == 0
    said = capsys.readouterr().err
    assert "NOT looked at" in said
    assert "known vulnerabilities" not in said


def test_what_the_service_does_not_know_is_said(audit, tmp_path, monkeypatch, capsys):
    allowed = EXCUSE.replace("aiohttp", "inner")
    assert played(audit, tmp_path, monkeypatch, pinned=SKIPPED, allowed=allowed) == 0
    assert "NOT looked at, unknown to the advisory service: inner" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import sys; sys.exit('requests.exceptions.ConnectionError: no route')", "no route"),
        ("import sys; sys.exit(3)", "pip-audit ended with 3"),
    ],
)
def test_without_an_answer_it_passes_and_says_so(audit, tmp_path, monkeypatch, capsys, program, why):
    (tmp_path / "pip_audit.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert audit.main() == 0
    said = capsys.readouterr().err
    assert "NOT looked at" in said
    assert why in said


def test_pip_audits_report_is_taken_as_it_prints_it(audit, tmp_path, monkeypatch, capsys):
    # It prints a line for people on stderr and ends with 1 when it finds something.
    report = json.dumps({"dependencies": [KNOWN, BAD], "fixes": []})
    (tmp_path / "pip_audit.py").write_text(f"import sys; print({report!r}); sys.exit('Found 2 known vulnerabilities')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert audit.main() == 1
    assert "aiohttp 3.9.1: CVE-1" in capsys.readouterr().err


def test_the_list_in_the_repository_can_be_read(audit):
    audit.allowed_of((ROOT / "requirements/audit-allowed.toml").read_text("utf-8"))
    package = audit.KNOWN[0]
    assert all(f"\n{package}==" not in lock.read_text("utf-8") for lock in (ROOT / "requirements").glob("*.lock"))
