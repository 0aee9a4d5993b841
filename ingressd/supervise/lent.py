"""The socket of the admission listener: opened when the controller asks for it, and kept when the controller dies.

A connection that comes while there is no controller waits for the next one, as with the admin listener.
"""

from __future__ import annotations

import socket

from ingressd.ipc import orders
from ingressd.ipc.orders import Order
from ingressd.supervise.sockets import Bound, Listeners

_NAME = "admission"


class LentSocket:
    """At most one socket, which a new controller gets again."""

    def __init__(self, inherited: dict[tuple[str, int], socket.socket] | None = None) -> None:
        self._listeners = Listeners(inherited)
        self._wanted = ("", 0)

    @property
    def bound(self) -> dict[str, Bound]:
        """The socket, if there is one."""
        return self._listeners.bound

    @property
    def failed(self) -> bool:
        """Whether a socket is wanted and could not be bound."""
        return bool(self._listeners.failed)

    def want(self, order: Order) -> tuple[Order, socket.socket | None] | None:
        """Open what the controller asks for, or let go of it (port 0); what to answer, None for nothing."""
        self._wanted = (order.host, order.port)
        self._listeners.want(((_NAME, order.host, order.port),) if order.port else ())
        return self._answer()

    def retry(self) -> tuple[Order, socket.socket | None] | None:
        """Try again what could not be bound; what to say, None for nothing new."""
        changes = self._listeners.retry()
        return self._answer() if changes.opened or changes.failed else None

    def close(self) -> None:
        """Let go of the socket."""
        self._listeners.close()

    def _answer(self) -> tuple[Order, socket.socket | None] | None:
        bound = self._listeners.bound.get(_NAME)
        passed = None if bound is None else bound.socket
        detail = self._listeners.failed.get(_NAME, "")
        if passed is None and not detail:
            return None
        # The address says which question is answered: another may be on its way.
        return Order(orders.ADMISSION, host=self._wanted[0], port=self._wanted[1], detail=detail), passed
