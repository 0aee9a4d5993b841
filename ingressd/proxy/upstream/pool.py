"""Idle connections of one endpoint of one upstream.

An endpoint that broke the framing, or said what nobody asked for, may say the rest of it when somebody else's request
is on that connection already. For a while its connections carry one request each.

Keyed by upstream, address and TLS server name, because connections are interchangeable only when all three agree (the
upstream fixes certificate, verification and protocol). Owned by one worker. LIFO: the connection used last is the least
likely to have been closed by the peer, and the others age out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ingressd.observe.counters import WorkerCounters
from ingressd.proxy.upstream.connection import UpstreamConnection

DISTRUST_S: Final = 10.0
"""How long nothing is pooled after a fault in the framing."""


class PoolLimits:
    """How many connections a worker keeps, for how long, and for how many requests (`upstream-keepalive-*`).

    `buffer_bytes` is how much may wait to be written to one of them before the client is no longer read.
    """

    __slots__ = ("age_s", "buffer_bytes", "connections", "idle_s", "requests")

    def __init__(
        self, *, connections: int, idle_s: float, requests: int, age_s: float, buffer_bytes: int = 65536
    ) -> None:
        self.buffer_bytes = buffer_bytes
        self.connections = connections
        self.idle_s = idle_s
        self.requests = requests
        self.age_s = age_s


class IdleRoom:
    """What all idle connections of a worker take together; `crowded` is called when they are more than the limit."""

    __slots__ = ("count", "crowded")

    def __init__(self, crowded: Callable[[], None] | None = None) -> None:
        self.count = 0
        self.crowded = crowded


class IdlePool:
    """A stack of idle connections."""

    __slots__ = ("_counters", "_room", "_shut", "_suspect", "closed", "idle", "limits", "trusted_from_s")

    def __init__(self, limits: PoolLimits, counters: WorkerCounters, room: IdleRoom) -> None:
        self.limits = limits
        self._counters = counters
        self._room = room
        self.idle: list[UpstreamConnection] = []
        self.closed = False
        self.trusted_from_s = 0.0
        """When connections are kept again (monotonic seconds)."""
        self._suspect = self._shut = False

    def __repr__(self) -> str:
        return f"<IdlePool {len(self.idle)} idle{', closed' if self.closed else ''}>"

    def take(self, server_name: str) -> UpstreamConnection | None:
        """The connection used last, or None."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            self._room.count -= 1
            if connection.server_name == server_name:
                if connection.reusable:
                    connection.reused = True
                    return connection
                continue
            idle.append(connection)
            self._room.count += 1
            return self._take_other(server_name)
        return None

    def _take_other(self, server_name: str) -> UpstreamConnection | None:
        for index in range(len(self.idle) - 1, -1, -1):
            connection = self.idle[index]
            if connection.server_name == server_name and connection.reusable:
                del self.idle[index]
                self._room.count -= 1
                connection.reused = True
                return connection
        return None

    def opened(self, connection: UpstreamConnection) -> None:
        """A new connection begins its first exchange."""
        connection.on_lost = self.lost

    def release(self, connection: UpstreamConnection, now: float) -> None:
        """Take a connection back after an exchange; closed instead when a limit says so."""
        limits = self.limits
        if not connection.reusable:
            if connection.faulty:
                self._distrust(connection)
                self._keeps(now)
            connection.close()
            return
        if self._shut and not self._keeps(now):
            connection.close()
            return
        if (
            connection.requests >= limits.requests
            or now - connection.opened_s >= limits.age_s
            or limits.connections <= 0
        ):
            self._retire(connection)
            return
        if len(self.idle) >= limits.connections:
            self.retire_oldest(1)
        connection.idle_since_s = now
        self.idle.append(connection)
        room = self._room
        room.count += 1
        if room.count > limits.connections and room.crowded is not None:
            room.crowded()

    def lost(self, connection: UpstreamConnection) -> None:
        """The connection is gone."""
        if connection in self.idle:
            self.idle.remove(connection)
            self._room.count -= 1
        if connection.faulty:
            self._distrust(connection)

    def _keeps(self, now: float) -> bool:
        """Whether connections are kept, when there is a doubt."""
        if self._suspect:
            self._suspect = False
            self.trusted_from_s = now + DISTRUST_S
        self._shut = self.closed or now < self.trusted_from_s
        return not self._shut

    def _distrust(self, connection: UpstreamConnection) -> None:
        """The endpoint broke the framing. Time runs from the next release, which knows it."""
        connection.faulty = False
        self._suspect = self._shut = True
        self._counters.framing_faults += 1
        self.drop_idle()

    def drop_idle(self) -> None:
        """Close what is idle: something is wrong with the endpoint or the way to it."""
        idle, self.idle = self.idle, []
        self._room.count -= len(idle)
        for connection in idle:
            self._retire(connection)

    def sweep(self, now: float) -> None:
        """Close what has been idle too long; the oldest are first."""
        idle = self.idle
        limit = now - self.limits.idle_s
        while idle and idle[0].idle_since_s <= limit:
            self.retire_oldest(1)

    def retire_oldest(self, count: int) -> None:
        """Close so many of those that have been idle longest."""
        for connection in self.idle[:count]:
            self._retire(connection)
        self._room.count -= len(self.idle[:count])
        del self.idle[:count]

    def _retire(self, connection: UpstreamConnection) -> None:
        self._counters.pool_closed += 1
        connection.close()

    def close(self) -> None:
        """The endpoint leaves: idle connections are closed now, busy ones after their answer."""
        self.closed = self._shut = True
        self._room.count -= len(self.idle)
        for connection in self.idle:
            connection.close()
        self.idle.clear()
