"""What all connections of a worker share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Final

from ingressd.observe.access_log import AccessLogWriter
from ingressd.observe.counters import WorkerCounters
from ingressd.proxy.runtime.runtime import Runtime
from ingressd.proxy.runtime.wheel import TimerWheel
from ingressd.proxy.upstream.outbox import Outbox

READ_BUFFER_BYTES: Final = 65536
"""What one read may bring, and so what is held of a peer at most in one turn; shared by all connections of a worker."""


class Worker:
    """The state of one worker process that outlives every connection. `current` is swapped by one assignment."""

    __slots__ = (
        "access_log",
        "arrivals",
        "buffer",
        "clients",
        "clock",
        "column",
        "counters",
        "current",
        "date_line",
        "draining",
        "log_lines_lost",
        "loop",
        "memory",
        "outbox",
        "random",
        "shedding",
        "wall_offset_s",
        "wheel",
    )

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        counters: WorkerCounters,
        column: Any,
        access_log: AccessLogWriter,
        current: Runtime,
        random: Random,
    ) -> None:
        self.loop = loop
        self.outbox = Outbox(loop)
        self.clock = clock
        self.counters = counters
        self.column = column
        self.access_log = access_log
        self.current = current
        self.random = random
        self.wheel = TimerWheel(clock())
        self.buffer = memoryview(bytearray(READ_BUFFER_BYTES))
        self.clients: set[Any] = set()
        """Open client connections, so that a drain finds them."""
        self.arrivals: set[Any] = set()
        """Accepted connections that are no clients yet: their PROXY header or their TLS handshake is not done."""
        self.log_lines_lost = 0
        """Access log lines that writers closed by now have dropped."""
        self.draining = False
        self.memory: Any = None
        """The `MemoryBudget` of its connections, set by the data plane."""
        self.shedding: Any = None
        """The `Overload` that requests have to pass; None in ordinary times."""
        self.wall_offset_s = 0.0
        """Seconds since 1970 minus `clock()`, renewed every second by the data plane."""
        self.date_line = b""
        """`Date: …` with its CRLF, renewed every second by the data plane."""
