"""A child is a fresh interpreter with just the descriptors it was given."""

import os

from ingressd.supervise import spawn


def test_a_child_gets_its_arguments_its_descriptors_and_our_import_path():
    read_end, write_end = os.pipe()
    other = os.open("/dev/null", os.O_RDONLY)
    program = (
        "import sys; sys.path[:] = sys.argv.pop().split(':'); import os, ingressd\n"
        f"try: os.fstat({other}); leaked = 'leaked'\n"
        "except OSError: leaked = 'clean'\n"
        "os.write(int(sys.argv[1]), leaked.encode()); sys.exit(7)"
    )
    argv = spawn.command("ingressd.unused", [str(write_end)])
    argv[argv.index("-c") + 1] = program
    pid = spawn.start(argv, (write_end,))
    os.close(write_end)
    with os.fdopen(read_end) as answer:
        assert answer.read() == "clean"
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    os.close(other)


def test_a_program_that_cannot_start_ends_with_127(capfd):
    pid = spawn.start(["/does/not/exist"], ())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 127
    assert "cannot start /does/not/exist" in capfd.readouterr().err
