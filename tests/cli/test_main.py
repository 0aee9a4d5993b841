"""The command line names the nearest known word, and helps."""

import os
import subprocess
import sys

import pytest

from ingressd.cli.main import main
from ingressd.settings.overlay import OPTIONS


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rum"], "unknown command 'rum'; did you mean 'run'?"),
        (["--confg", "x"], "unknown flag '--confg'"),
        (["run", "--confg", "x"], "unknown flag --confg; did you mean '--config'?"),
        (["run", "--worker=3", "--config", "x"], "unknown flag --worker; did you mean '--workers'?"),
        (["run", "extra", "--config", "x"], "unexpected argument 'extra'"),
        (["run"], "--config FILE (or INGRESSD_CONFIG) is missing"),
        (["version", "--jsn"], "unknown flag --jsn"),
        (["run", "--config"], "expected one argument"),
    ],
)
def test_a_mistake_is_named_and_ends_with_2(words, said, capsys, monkeypatch):
    monkeypatch.delenv("INGRESSD_CONFIG", raising=False)
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_help_names_every_command_and_run_every_flag_with_its_variable(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {command} " in shown for command in ("run", "check", "explain", "version"))
    assert main(["run", "--help"]) == 0
    shown = "".join(capsys.readouterr().out.split())
    for option in OPTIONS:
        assert f"--{option.name}VALUE" in shown
        assert f"[{option.variable}]" in shown


def test_without_a_command_help_is_shown_and_the_code_is_2(capsys):
    assert main([]) == 2
    assert "usage: ingressd COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["check", "explain"])
def test_the_other_commands_have_help(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"usage: ingressd {command}" in capsys.readouterr().out


def test_version_says_how_it_was_built(capsys):
    assert main(["version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ingressd", "Python", "OpenSSL", "build"]
    assert lines[-1].split()[1] in ("pure", "compiled")


def test_a_bad_variable_ends_the_start_with_2(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("admin: {address: '127.0.0.1:1'}\n")
    environ = {**os.environ, "INGRESSD_WORKRS": "3"}
    done = subprocess.run(
        [sys.executable, "-m", "ingressd", "run", "--config", str(config)], capture_output=True, text=True, env=environ
    )
    assert done.returncode == 2
    assert "INGRESSD_WORKRS: unknown variable; did you mean 'INGRESSD_WORKERS'?" in done.stderr
