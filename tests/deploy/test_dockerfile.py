"""The image by its Dockerfile: pinned, in stages, nobody's user. try_dockerfile.py executes it."""

from __future__ import annotations

import re

import pytest
from deploy.dockerfile import Ignore, context, parse
from deploy.rendered import ROOT, base_files, container_of

STAGES = parse((ROOT / "Dockerfile").read_text())
LAST = STAGES[-1]


def test_every_base_is_pinned_to_a_patch_release():
    assert len(STAGES) > 1
    for stage in STAGES:
        assert re.search(r":\d+\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?\Z", stage.image), stage.image
    assert len({stage.image for stage in STAGES}) == 1, "the virtual environment is moved between them"


def test_the_last_stage_takes_what_was_built_and_runs_nothing():
    names = [one.name for one in LAST.instructions]
    assert "RUN" not in names
    copied = [one for one in LAST.instructions if one.name == "COPY" and one.option("from")]
    assert [one.option("from") for one in copied] == [STAGES[0].name]


def test_it_is_run_by_the_user_that_the_pods_name():
    user = LAST.last("USER")
    assert user is not None
    assert user.text == "65532:65532"


def test_it_has_a_health_check_without_a_shell():
    check = LAST.last("HEALTHCHECK")
    assert check is not None
    assert "/healthz" in check.arguments()[-1]


def test_pods_start_what_the_entry_point_starts():
    entry, command = LAST.last("ENTRYPOINT"), LAST.last("CMD")
    assert entry is not None
    assert command is not None
    assert entry.arguments() == ["ingressd"]
    assert command.arguments() == container_of(base_files())["args"]


def test_the_ports_for_clients_are_exposed_and_the_admin_listeners_is_not():
    exposed = LAST.last("EXPOSE")
    assert exposed is not None
    ports = {port["name"]: str(port["containerPort"]) for port in container_of(base_files())["ports"]}
    assert exposed.words() == [ports["http"], ports["https"]]


def test_what_is_copied_is_in_the_build_context_and_nothing_else_is():
    sent = list(context(ROOT, Ignore((ROOT / ".dockerignore").read_text())))
    sources = {
        source.rstrip("/")
        for stage in STAGES
        for one in stage.instructions
        if one.name == "COPY" and not one.option("from")
        for source in one.words()[:-1]
    }
    for source in sources:
        assert any(path == source or path.startswith(f"{source}/") for path in sent), source
    for path in sent:
        assert any(path == source or path.startswith(f"{source}/") for source in sources), path
        assert not path.endswith((".so", ".pyc"))


def test_of_patterns_that_match_the_last_one_counts():
    ignore = Ignore("*\n!kept\n**/*.so\n# a remark\n")
    paths = ["kept", "kept/a/b.py", "kept/a/b.so", "left/a", "c.so"]
    assert [path for path in paths if ignore.sends(path)] == ["kept", "kept/a/b.py"]


def test_lines_are_joined_and_stages_named():
    one, other = parse("# x\nFROM a AS first\nRUN b \\\n# between\n && c\nFROM d\nUSER 1\n")
    assert (one.name, one.image, other.name) == ("first", "a", "1")
    assert one.instructions[0].text.split() == ["b", "&&", "c"]
    with pytest.raises(ValueError, match="ADD is not known"):
        parse("FROM a\nADD b c\n")
