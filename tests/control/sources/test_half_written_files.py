"""Which differences are whole changes, and which may be half of one."""

import os

from ingressd.control.sources.signatures import files_in, look, must_settle

FOLDER, OTHER = (1, 1, 0), (1, 2, 0)


def file(inode, mtime=1):
    return (1, inode, mtime, mtime, 10)


def test_a_rename_over_a_file_is_whole():
    assert not must_settle({"/m": FOLDER, "/m/a": file(5)}, {"/m": FOLDER, "/m/a": file(6)})


def test_a_write_in_place_may_be_half():
    assert must_settle({"/m": FOLDER, "/m/a": file(5)}, {"/m": FOLDER, "/m/a": file(5, 2)})


def test_a_new_file_and_one_that_is_gone_may_be_half():
    before, after = {"/m": FOLDER}, {"/m": FOLDER, "/m/a": file(5)}
    assert must_settle(before, after)
    assert must_settle(after, before)


def test_a_swapped_folder_is_whole_whatever_is_in_it():
    assert not must_settle({"/m": FOLDER, "/m/a": file(5)}, {"/m": OTHER, "/m/b": file(6)})


def test_a_folder_that_is_gone_may_come_back():
    assert must_settle({"/m": FOLDER, "/m/a": file(5)}, {})


def test_one_of_a_pair_waits_for_the_other():
    before, after = {"/c": file(1), "/k": file(2)}, {"/c": file(3), "/k": file(2)}
    assert must_settle(before, after, paired=frozenset({"/c", "/k"}))


def test_what_counts_in_a_folder(tmp_path):
    for name in ("b.yaml", "a.yml", "c.json", ".hidden.yaml", "readme.md", "d.yaml~"):
        (tmp_path / name).write_text("")
    (tmp_path / "deep.yaml").mkdir()
    (tmp_path / "deep.yaml" / "x.yaml").write_text("")
    root = str(tmp_path)
    found = files_in(root, look((), [root]))
    assert [os.path.basename(path) for path in found] == ["a.yml", "b.yaml", "c.json"]


def test_a_root_that_is_a_file_or_nothing(tmp_path):
    path = str(tmp_path / "one.conf")
    assert files_in(path, look((), [path])) == []
    (tmp_path / "one.conf").write_text("")
    assert files_in(path, look((), [path])) == [path]
