"""A cap on the handshakes that one turn of the loop begins.

The first step of a full handshake signs with the certificate's key: up to a millisecond during which nothing else of
the worker moves. A burst of new connections must not add those up in front of the requests already running.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

HANDSHAKES_PER_TURN: Final = 4


class Waiting(Protocol):
    """A connection whose ClientHello is complete."""

    def begin_handshake(self) -> None:
        """Take the expensive step. Does nothing when the connection is gone by now."""


class HandshakeGate:
    """Lets at most `per_turn` handshakes begin in a turn of the loop, the others in order in the turns after."""

    __slots__ = ("_begun", "_loop", "_per_turn", "_scheduled", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, per_turn: int = HANDSHAKES_PER_TURN) -> None:
        self._loop = loop
        self._per_turn = per_turn
        self._begun = 0
        self._scheduled = False
        self._waiting: deque[Waiting] = deque()

    def __repr__(self) -> str:
        return f"<HandshakeGate {len(self._waiting)} waiting>"

    def enter(self, waiting: Waiting) -> None:
        """Begin this handshake now if there is room in this turn, else as soon as there is."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)
        if self._begun < self._per_turn and not self._waiting:
            self._begun += 1
            waiting.begin_handshake()
        else:
            self._waiting.append(waiting)

    def _turn(self) -> None:
        waiting = self._waiting
        begun = 0
        # The next turn is asked for first: what begins here may raise nothing, yet must not be able to stop the gate.
        self._scheduled = bool(waiting)
        if waiting:
            self._loop.call_soon(self._turn)
        while waiting and begun < self._per_turn:
            begun += 1
            self._begun = begun
            waiting.popleft().begin_handshake()
        self._begun = begun
