"""The program of docs/security.md: it plays, judges fairly, counts right, and says what it could not ask."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cases import compare, compare_pages
from cases.compare_pages import Result
from cases.peers import NAMES, NOT_APPLICABLE, MissingError, program_of
from cases.scene import file_names, read_cases

SOME = "baseline: baseline-post$|smuggling: cl-te-both$|pp-untrusted-peer$|hdr-value-lf$"


def result(name: str, outcome: int | None, **more: str) -> Result:
    return Result("host", name, outcome, [] if outcome is not None else ["no"], **more)


@pytest.mark.process
@pytest.mark.parametrize("name", NAMES)
def test_some_cases_are_played(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        program_of(name)
    except MissingError as error:
        pytest.skip(str(error))
    code = compare.main(["--peers", name, "--only", SOME])
    row = re.search(r"\| \*\*all\*\* *\| 4 +\| \*\*(\d) / \d / (\d)", capsys.readouterr().out)
    assert row is not None
    assert code == 0
    assert int(row[1]) >= 2, "a plain POST passes everywhere, two framings nowhere unharmed"
    if name == "ingressd":
        assert row[2] == "0"


def test_a_proxy_that_is_not_installed_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cases.peers.shutil.which", lambda *unused, **named: None)
    assert compare.main(["--peers", "nginx", "--only", SOME]) == 1
    assert "nginx is not installed" in capsys.readouterr().err


def test_every_case_is_played_once() -> None:
    todo = compare.jobs("")
    portions = [job for part in compare.shards(todo) for job in part]
    assert sorted(job.case["name"] for job in portions) == sorted(job.case["name"] for job in todo)
    assert len({job.case["name"] for job in todo}) == len(todo) > 400


def test_a_table_adds_up() -> None:
    ours = {"a": result("a", 0), "b": result("b", 2), "c": result("c", 0)}
    theirs = {"a": result("a", None), "b": result("b", 1), "c": result("c", None, not_applicable="it has no c")}
    table = compare_pages.main_table({"ingressd 1": ours, "other 2": theirs})
    assert "| **2 / 1 / 0** " in table
    assert "| **0 / 1 / 1 (1 n/a)** " in table
    assert "66.7% / 0.0% failed" in table
    assert "0.0% / 50.0% failed" in table
    assert compare_pages.second_text(ours) == "- host: `b`"
    assert compare_pages.better_text(ours, {"other 2": theirs}) == "**other 2**\n\n- host: `b`"
    assert compare_pages.failed_text({"other 2": theirs}) == "**other 2**: 1\n\n- host: `a`"
    assert compare_pages.left_out_text({"other 2": theirs}) == "- other: it has no c: `c`"


def test_what_depends_on_the_cut_shows() -> None:
    whole = {"a": result("a", 0), "b": result("b", 0)}
    table = compare_pages.delivery_table({"all at once": whole, "in pieces": {**whole, "b": result("b", 1)}})
    assert re.search(r"all at once +\| 2 +\| 2 / 0 / 0 +\| none", table)
    assert re.search(r"in pieces +\| 2 +\| 1 / 1 / 0 +\| b ", table)


def test_only_cases_that_exist_are_left_out() -> None:
    names = {case["name"] for group in file_names() for case in read_cases(group)}
    assert {name for cases in NOT_APPLICABLE.values() for name in cases} <= names


def test_the_page_has_a_place_for_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "security.md"
    copy.write_text(compare_pages.PAGE.read_text("utf-8"), "utf-8")
    monkeypatch.setattr(compare_pages, "PAGE", copy)
    places = ["table", "left out", "second", "better", "failed", "pieces", "counted"]
    compare_pages.write({name: f"{name} was here" for name in places})
    assert all(f"<!-- {name} -->\n{name} was here\n<!-- /{name} -->" in copy.read_text("utf-8") for name in places)
    with pytest.raises(ValueError, match="no section"):
        compare_pages.write({"nowhere": ""})


def test_the_page_explains_every_case_that_is_second() -> None:
    page = compare_pages.PAGE.read_text("utf-8")
    generated, _, prose = page.partition("<!-- second -->")[2].partition("<!-- /second -->")
    explained = re.findall(r"`([\w-]+)(…?)`", prose.partition("## ")[0])
    for name in re.findall(r"`([\w-]+)`", generated):
        assert any(name.startswith(known) if open_end else name == known for known, open_end in explained), name
