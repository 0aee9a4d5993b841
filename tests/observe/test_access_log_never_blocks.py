"""Where the lines go: files, pipes that are full, rotation, the end."""

import json
import os
import socket
import subprocess
import sys

import pytest
from stage.access_records import record

from ingressd.observe.access_log import BATCH_RECORDS, FLUSH_S, PENDING_BYTES, RETRY_S, AccessLogWriter


class Timers:
    """`loop.call_later` by hand."""

    def __init__(self):
        self.calls = []

    def __call__(self, delay_s, call):
        self.calls.append((delay_s, call))

    def run(self):
        calls, self.calls = self.calls, []
        for _, call in calls:
            call()


@pytest.fixture
def timers():
    return Timers()


@pytest.fixture
def pipe(tmp_path):
    """A writer's path and a reader that nobody reads from until asked."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield str(path), reader
    os.close(reader)


def read_all(descriptor):
    data = b""
    while True:
        try:
            part = os.read(descriptor, 65536)
        except BlockingIOError:
            return data
        if not part:
            return data
        data += part


def test_lines_wait_for_the_timer_and_come_as_one_batch(tmp_path, timers):
    path = tmp_path / "access.log"
    writer = AccessLogWriter(str(path), "json", schedule=timers)
    for status in (200, 404, 503):
        writer.log(record(status=status))
    assert path.read_bytes() == b""
    assert [delay for delay, _ in timers.calls] == [FLUSH_S]
    timers.run()
    assert [json.loads(line)["status"] for line in path.read_text().splitlines()] == [200, 404, 503]
    assert timers.calls == []
    writer.log(record(status=201))
    timers.run()
    assert len(path.read_text().splitlines()) == 4
    writer.close()


def test_a_full_batch_does_not_wait(tmp_path, timers):
    path = tmp_path / "access.log"
    writer = AccessLogWriter(str(path), "json", schedule=timers)
    for _ in range(BATCH_RECORDS):
        writer.log(record())
    assert len(path.read_text().splitlines()) == BATCH_RECORDS
    writer.close()


def test_file_is_appended_to_by_several_writers(tmp_path, timers):
    path = tmp_path / "access.log"
    path.write_text("old\n")
    writers = [AccessLogWriter(str(path), "$status", schedule=timers) for _ in range(2)]
    for turn in range(4):
        writers[turn % 2].log(record(status=200 + turn))
        writers[turn % 2].flush()
    assert path.read_text().split() == ["old", "200", "201", "202", "203"]
    for writer in writers:
        writer.close()


def test_reopen_follows_the_name_after_rotation(tmp_path, timers):
    path = tmp_path / "access.log"
    writer = AccessLogWriter(str(path), "$status", schedule=timers)
    writer.log(record(status=200))
    path.rename(tmp_path / "access.log.1")
    writer.log(record(status=201))
    writer.reopen()
    writer.log(record(status=202))
    writer.close()
    assert (tmp_path / "access.log.1").read_text().split() == ["200", "201"]
    assert path.read_text().split() == ["202"]


def test_reopen_that_fails_keeps_the_old_file(tmp_path, timers):
    folder = tmp_path / "log"
    folder.mkdir()
    writer = AccessLogWriter(str(folder / "access.log"), "$status", schedule=timers)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"access\.log"):
        writer.reopen()
    writer.log(record(status=200))
    writer.close()
    assert (tmp_path / "elsewhere" / "access.log").read_text() == "200\n"


def test_after_close_nothing_is_written_anywhere(tmp_path, timers):
    writer = AccessLogWriter(str(tmp_path / "access.log"), "$status", schedule=timers)
    writer.close()
    somebody_elses = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)
    writer.log(record())
    writer.flush()
    timers.run()
    os.close(somebody_elses)
    assert (tmp_path / "other").read_bytes() == b""
    assert writer.dropped == 1


def test_a_pipe_that_is_full_drops_whole_lines_and_counts_them(pipe, timers):
    path, reader = pipe
    writer = AccessLogWriter(path, "json", schedule=timers)
    logged = 0
    while writer.dropped == 0:
        for _ in range(BATCH_RECORDS):
            writer.log(record(status=200 + logged % 100))
            logged += 1
        assert logged < 100_000
    data = read_all(reader)
    for _ in range(100):
        timers.run()
        more = read_all(reader)
        data += more
        if not more:
            break
    lines = data.splitlines(keepends=True)
    assert all(line.endswith(b"}\n") and json.loads(line) for line in lines)
    assert len(lines) + writer.dropped == logged
    assert len(data) > 0.9 * PENDING_BYTES
    writer.log(record(status=299))
    writer.close()
    assert json.loads(read_all(reader).splitlines()[-1])["status"] == 299


def test_what_waits_is_tried_again_without_new_records(pipe, timers):
    path, reader = pipe
    writer = AccessLogWriter(path, "json", schedule=timers)
    for _ in range(BATCH_RECORDS * 4):
        writer.log(record())
    data = b""
    while timers.calls:
        delays = [delay for delay, _ in timers.calls]
        data += read_all(reader)
        timers.run()
    assert len((data + read_all(reader)).splitlines()) == BATCH_RECORDS * 4
    assert delays == [RETRY_S]
    writer.close()


def test_lines_of_two_workers_do_not_mix_in_a_pipe(pipe, timers):
    path, reader = pipe
    writers = [AccessLogWriter(path, "json", schedule=timers) for _ in range(2)]
    data = b""
    for turn in range(60):
        for number, writer in enumerate(writers):
            for _ in range(17):
                writer.log(record(status=200 + number, path=b"/" + b"x" * (turn * 37 % 700)))
            writer.flush()
        if turn % 3 == 0:
            data += read_all(reader)
    for writer in writers:
        for _ in range(30):
            writer.flush()
            data += read_all(reader)
        writer.close()
    lines = [json.loads(line) for line in data.splitlines()]
    assert len(lines) == 60 * 17 * 2
    assert all(writer.dropped == 0 for writer in writers)


def test_a_line_too_long_for_a_pipe_is_shortened_not_lost(pipe, timers):
    path, reader = pipe
    writer = AccessLogWriter(path, "json", schedule=timers)
    writer.log(record(path=b"/secret/" + b"a" * 8000, user_agent=b"\xff" * 8000, referer=b"\xff" * 8000))
    writer.log(record(path=b"/next"))
    writer.close()
    first, second = (json.loads(line) for line in read_all(reader).splitlines())
    assert first["path"].startswith("/secret/")
    assert second["path"] == "/next"
    assert writer.dropped == 0


def test_a_long_line_is_whole_in_a_file(tmp_path, timers):
    path = tmp_path / "access.log"
    writer = AccessLogWriter(str(path), "json", schedule=timers)
    writer.log(record(path=b"/" + b"a" * 8000))
    writer.close()
    assert len(json.loads(path.read_text())["path"]) == 8001


def test_a_reader_that_went_away_costs_lines_and_nothing_else(pipe, timers):
    path, reader = pipe
    writer = AccessLogWriter(path, "json", schedule=timers)
    os.dup2(os.open("/dev/null", os.O_RDONLY), reader)
    writer.log(record())
    writer.flush()
    assert writer.dropped == 1
    writer.close()


def test_a_full_disk_costs_lines_and_nothing_else(timers):
    writer = AccessLogWriter("/dev/full", "json", schedule=timers)
    writer.log(record())
    writer.log(record())
    writer.flush()
    assert writer.dropped == 2
    writer.close()


def test_urls_that_are_not_logged(tmp_path, timers):
    path = tmp_path / "access.log"
    writer = AccessLogWriter(
        str(path), "$request_uri", schedule=timers, skip_urls=("/healthz", "~^/static/", "~*\\.PNG$")
    )
    for target in (b"/healthz", b"/healthz?x", b"/static/a", b"/a/static/", b"/b.png", b"/B.PNG?x"):
        writer.log(record(path=target))
    writer.close()
    assert path.read_text().split() == ["/healthz?x", "/a/static/", "/B.PNG?x"]


def test_a_pattern_that_is_none_is_refused(tmp_path, timers):
    with pytest.raises(ValueError, match="no RE2 pattern"):
        AccessLogWriter(str(tmp_path / "access.log"), "json", schedule=timers, skip_urls=("~(",))


def test_a_file_that_cannot_be_opened_is_refused(tmp_path, timers):
    with pytest.raises(OSError, match="missing"):
        AccessLogWriter(str(tmp_path / "missing" / "access.log"), "json", schedule=timers)


PROGRAM = """
import sys
from ingressd.observe.access_log import AccessLogWriter
from stage.access_records import record
writer = AccessLogWriter("-", "json", schedule=lambda delay, call: None)
for _ in range(2000):
    writer.log(record())
writer.close()
sys.stderr.write(str(writer.dropped))
"""


def run_with_stdout(stdout):
    environment = os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(__file__))}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], stdout=stdout, stderr=subprocess.PIPE, env=environment, timeout=120
    )


def test_standard_output_is_not_switched_to_non_blocking():
    """Others write there too, and would get BlockingIOError; and nobody reads, so blocking would show as a time-out."""
    reader, writing = os.pipe()
    result = run_with_stdout(writing)
    assert result.returncode == 0
    assert os.get_blocking(writing)
    os.close(writing)
    os.set_blocking(reader, False)
    lines = read_all(reader).splitlines()
    os.close(reader)
    assert all(json.loads(line)["status"] == 200 for line in lines)
    assert len(lines) + int(result.stderr) == 2000


def test_standard_output_may_be_a_socket():
    reading, writing = socket.socketpair()
    with reading, writing:
        result = run_with_stdout(writing.fileno())
        assert result.returncode == 0
        assert writing.getblocking()
        reading.setblocking(False)
        assert read_all(reading.fileno()).startswith(b'{"time":')
