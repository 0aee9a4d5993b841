"""The access log: records in, whole lines out, never in the way of the loop."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import stat
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import re2

from ingressd.observe.access_log_format import PATH, JsonFormat, Record, shortened
from ingressd.observe.access_log_text import Escape, TextFormat

FLUSH_S: Final = 0.1
RETRY_S: Final = 0.01
"""How soon a pipe that was full is tried again: it holds 64 KiB, and its reader may be quick."""
BATCH_RECORDS: Final = 128
PIPE_BUF: Final = select.PIPE_BUF
"""POSIX: a write of at most this many bytes to a pipe is atomic, so lines of several workers do not mix."""
WRITE_BYTES: Final = 65536
PENDING_BYTES: Final = 1 << 20
"""How much waits for a reader that is slow; beyond that whole lines are dropped and counted."""

Schedule = Callable[[float, Callable[[], None]], Any]
"""`loop.call_later`, or a fake."""


class _Sink(Protocol):
    """Where bytes go. `write` returns how many it took: all, a part (only when not atomic), or 0 for "not now"."""

    unit: int

    def write(self, block: bytes) -> int: ...
    def close(self) -> None: ...


class AccessLogWriter:
    """Collects records and writes their lines in batches, within `FLUSH_S` or when `BATCH_RECORDS` are there.

    `path` is a file (appended to, made if missing) or "-" for standard output; `template` is "json" or an nginx-style
    template; `skip_urls` are request targets that are not logged, `~` in front of an RE2 pattern, `~*` without case.
    `dropped` counts lines that were lost: the reader of a pipe too slow, a full disk, a line that fits no pipe.
    Raises OSError when the file cannot be opened, ValueError for a bad pattern.
    """

    def __init__(
        self,
        path: str,
        template: str,
        *,
        schedule: Schedule,
        escape: Escape = "default",
        skip_urls: Sequence[str] = (),
    ) -> None:
        self.path = path
        self.dropped = 0
        self._format = JsonFormat() if template == "json" else TextFormat(template, escape=escape)
        self.wants_header: bool = self._format.wants_header
        """True when a record's last element must look up request fields."""
        self._schedule = schedule
        self._scheduled = False
        self._records: list[Record] = []
        self._pending: deque[tuple[bytes, int]] = deque()
        self._pending_bytes = 0
        self._torn = False
        self._skip_exact = frozenset(url.encode() for url in skip_urls if not url.startswith("~"))
        self._skip_patterns = [_pattern(url) for url in skip_urls if url.startswith("~")]
        self._sink: _Sink = _open(path)

    def log(self, record: Record) -> None:
        """Take one record; cheap, and never blocks."""
        records = self._records
        records.append(record)
        if len(records) >= BATCH_RECORDS:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._schedule(FLUSH_S, self._flush_on_time)

    def flush(self) -> None:
        """Format what was collected and write as much as goes out at once."""
        records, self._records = self._records, []
        if self._skip_exact or self._skip_patterns:
            records = [record for record in records if not self._skipped(record[PATH])]
        if records:
            self._append(records)
        self._write()

    def reopen(self) -> None:
        """Write to the file that now has the name (after a log rotation). Raises OSError and keeps the old file."""
        self.flush()
        if self.path == "-":
            return
        sink = _open(self.path)
        self._sink.close()
        self._sink = sink

    def close(self) -> None:
        """Write what can be written, count the rest as dropped, and let go of the file."""
        self.flush()
        self.dropped += sum(lines for _, lines in self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        self._sink.close()
        self._sink = _ClosedSink()

    def _flush_on_time(self) -> None:
        self._scheduled = False
        self.flush()
        if self._pending and not self._scheduled:
            self._scheduled = True
            self._schedule(RETRY_S, self._flush_on_time)

    def _append(self, records: list[Record]) -> None:
        """Put whole lines together to blocks of at most the sink's unit."""
        unit = self._sink.unit
        block: list[bytes] = []
        size = 0
        for record, full in zip(records, self._format(records), strict=True):
            line = full if len(full) <= unit else self._fitting(record, unit)
            if self._pending_bytes + size + len(line) > PENDING_BYTES:
                self.dropped += 1
                continue
            if size + len(line) > unit:
                self._queue(block, size)
                block, size = [], 0
            block.append(line)
            size += len(line)
        if block:
            self._queue(block, size)

    def _fitting(self, record: Record, unit: int) -> bytes:
        """A line that fits: nobody may leave the log by sending a target longer than a pipe takes whole."""
        line = b""
        for length in (512, 128, 32):
            line = self._format([shortened(record, length)])[0]
            if len(line) <= unit:
                break
        return line

    def _queue(self, block: list[bytes], size: int) -> None:
        self._pending.append((b"".join(block), len(block)))
        self._pending_bytes += size

    def _write(self) -> None:
        pending = self._pending
        while pending:
            block, lines = pending[0]
            try:
                written = self._sink.write(block)
            except OSError:
                # No reader (EPIPE) or no space (ENOSPC): a log may not stop the proxy, and these lines are lost.
                self.dropped += lines
                self._drop_first_block()
                continue
            self._pending_bytes -= written
            if written < len(block):
                if written:
                    pending[0] = (block[written:], lines)
                    self._torn = True
                return
            pending.popleft()
            self._torn = False

    def _drop_first_block(self) -> None:
        block, _ = self._pending.popleft()
        self._pending_bytes -= len(block)
        if self._torn and self._pending:
            # A part of the lost block is out; what follows must not continue its last line.
            following, lines = self._pending[0]
            self._pending[0] = (b"\n" + following, lines)
            self._pending_bytes += 1
            self._torn = False

    def _skipped(self, target: bytes) -> bool:
        return target in self._skip_exact or any(pattern.search(target) for pattern in self._skip_patterns)


def _pattern(url: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not url.startswith("~*")
    try:
        return re2.compile(url.lstrip("~").removeprefix("*").encode(), options)
    except re2.error as error:
        raise ValueError(f"skip-access-log-urls: {url!r} is no RE2 pattern: {error}") from error


class _FileSink:
    """A regular file or a terminal: one `O_APPEND` write puts whole lines at the end, whoever else writes."""

    unit = WRITE_BYTES

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, block: bytes) -> int:
        try:
            return os.write(self._descriptor, block)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        os.close(self._descriptor)


class _PipeSink(_FileSink):
    """A pipe. What is asked of it fits `PIPE_BUF` and so goes out whole or not at all.

    The pipe is opened again by its name in /proc rather than switched to non-blocking, which would reach everybody who
    shares the descriptor. Where that is forbidden, `poll` says whether `PIPE_BUF` bytes would block.
    """

    unit = PIPE_BUF

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._poll: select.poll | None = None
        if not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_NONBLOCK:
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLOUT)

    def write(self, block: bytes) -> int:
        if self._poll is not None and not self._poll.poll(0):
            return 0
        return super().write(block)


class _ClosedSink:
    """After `close`: the number of the old descriptor may be somebody else's by now."""

    unit = WRITE_BYTES

    def write(self, block: bytes) -> int:
        raise OSError(errno.EBADF, "the access log is closed")

    def close(self) -> None:
        """Nothing is open."""


class _SocketSink:
    """Standard output as systemd connects it: a stream socket."""

    unit = WRITE_BYTES

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)

    def write(self, block: bytes) -> int:
        try:
            return self._socket.send(block, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        self._socket.close()


def _open(path: str) -> _Sink:
    """A sink for a path, or for standard output. Raises OSError."""
    if path != "-":
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        return _sink(os.open(path, flags, 0o644))
    standard_output = 1
    mode = os.fstat(standard_output).st_mode
    if stat.S_ISSOCK(mode):
        return _SocketSink(os.dup(standard_output))
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
        return _sink(os.open(f"/proc/self/fd/{standard_output}", flags))
    except OSError:
        return _sink(os.dup(standard_output))


def _sink(descriptor: int) -> _Sink:
    is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    return _PipeSink(descriptor) if is_pipe else _FileSink(descriptor)
