"""What one supervisor hands on to the next: its listening sockets, and the secret behind TLS session tickets.

Both keep the sockets until the older one has drained, so what waits in their queues is always somebody's.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Final

from ingressd.ipc import orders
from ingressd.ipc.orders import MAX_DESCRIPTORS, Order, OrderError, receive_order, send_order
from ingressd.supervise.sockets import Bound

VARIABLE: Final = "_INGRESSD_INHERITS"
"""Names the descriptor of an heir's channel. Not one of ours to set, so not `INGRESSD_…`."""

LISTENERS: Final = "listeners"
ADMIN: Final = "admin"
ADMISSION: Final = "admission"
TICKETS: Final = "tickets"

CLAIM_S: Final = 10.0
"""How long an heir waits for what it is to get."""

Address = tuple[str, int]


class EstateError(Exception):
    """What was handed on did not arrive."""


def nothing(kind: str) -> dict[Address, socket.socket]:
    """What the first supervisor takes in place of an estate."""
    return {}


class Estate:
    """What an heir got. Whoever takes something closes it; `parent` is the channel to the first supervisor."""

    def __init__(self, parent: socket.socket) -> None:
        self.parent = parent
        self.tickets: int | None = None
        self._sockets: dict[str, dict[Address, socket.socket]] = {}

    def take(self, kind: str) -> dict[Address, socket.socket]:
        """The sockets of a kind by address."""
        return self._sockets.pop(kind, {})

    def add(self, order: Order, descriptors: list[int]) -> None:
        """One INHERIT. What we do not know, a later version's for instance, is left."""
        if order.name == TICKETS and len(descriptors) == 1:
            self.tickets = descriptors[0]
        elif order.name in (LISTENERS, ADMIN, ADMISSION) and len(descriptors) == len(order.listeners):
            mine = self._sockets.setdefault(order.name, {})
            for (_, host, port), descriptor in zip(order.listeners, descriptors, strict=True):
                mine[host, port] = socket.socket(fileno=descriptor)
        else:
            for descriptor in descriptors:
                os.close(descriptor)

    def close(self) -> None:
        """Close what nobody took."""
        for sockets in self._sockets.values():
            for unused in sockets.values():
                unused.close()
        self._sockets.clear()
        if self.tickets is not None:
            os.close(self.tickets)
            self.tickets = None
        self.parent.close()


def claim(environ: MutableMapping[str, str], *, within_s: float = CLAIM_S) -> Estate | None:
    """What the supervisor that started this process hands on; None when nobody does. The variable is taken away.

    Raises EstateError.
    """
    number = environ.pop(VARIABLE, None)
    if number is None:
        return None
    try:
        estate = Estate(socket.socket(fileno=int(number)))
    except (ValueError, OSError) as error:
        raise EstateError(f"{VARIABLE}={number}: {error}") from error
    estate.parent.set_inheritable(False)
    estate.parent.settimeout(within_s)
    try:
        while (received := receive_order(estate.parent)) is not None:
            order, descriptors = received
            if order.op == orders.BEGIN:
                estate.parent.setblocking(False)
                return estate
            estate.add(order, descriptors)
    except (OSError, OrderError) as error:
        estate.close()
        raise EstateError(str(error)) from error
    estate.close()
    raise EstateError("whoever hands over is gone")


def bequeath(channel: socket.socket, held: Mapping[str, Mapping[str, Bound]], tickets: int) -> None:
    """Send all sockets, by kind and name, and `tickets`, a descriptor; then BEGIN. All stay the caller's.

    Raises OSError, OrderError.
    """
    for order, descriptors in _letters(held):
        send_order(channel, order, descriptors)
    send_order(channel, Order(orders.INHERIT, name=TICKETS), (tickets,))
    send_order(channel, Order(orders.BEGIN))


def _letters(held: Mapping[str, Mapping[str, Bound]]) -> Iterator[tuple[Order, tuple[int, ...]]]:
    for kind, sockets in held.items():
        mine = list(sockets.items())
        for first in range(0, len(mine), MAX_DESCRIPTORS):
            part = mine[first : first + MAX_DESCRIPTORS]
            listeners = tuple((name, bound.host, bound.port) for name, bound in part)
            yield Order(orders.INHERIT, name=kind, listeners=listeners), tuple(b.socket.fileno() for _, b in part)
