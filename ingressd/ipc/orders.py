"""Orders between the supervisor and its children: JSON, one a datagram, with sockets where the order needs them.

The pair is `SOCK_SEQPACKET`: boundaries are kept, an end of the peer is seen, and descriptors travel with their order.
Standard library only.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

MAX_ORDER_BYTES: Final = 128 * 1024
MAX_DESCRIPTORS: Final = 128
"""With one order; the kernel takes 253."""
BACKLOG: Final = 4096
"""How many connections wait at a socket that comes with LISTEN; a worker that has cut its queue short restores it."""

# From the supervisor to a worker.
ATTACH: Final = "attach"
"""The socket to a (new) controller comes with it."""
LISTEN: Final = "listen"
"""Accept from the socket that comes with it, under `name`."""
UNLISTEN: Final = "unlisten"
"""Accept no more from `name`; what was accepted lives on."""
DRAIN: Final = "drain"
"""To all children: finish the old, take nothing new after the grace period."""
LOG: Final = "log"
"""To all children: the level (`detail`) and format (`name`) of the operational log."""
REOPEN: Final = "reopen"
"""Reopen log files."""

# From the supervisor to the controller.
WORKER: Final = "worker"
"""Worker `worker` with `pid` started; the socket to it comes with it. `number` counts the starts of that worker."""
GONE: Final = "gone"
"""That worker is gone; `number` as in WORKER, `detail` says how, `version` and `unit` what it was applying, or 0."""
BOUND: Final = "bound"
"""Listener `name` is bound, or is not because of `detail`."""
ADMIN: Final = "admin"
"""The admin listener's socket comes with it, or `detail` says why not."""
ADMISSION: Final = "admission"
"""The socket of the admission listener at this address comes with it, or `detail` says why not."""
RELOAD: Final = "reload"
"""SIGHUP: read the configuration again."""
STOP: Final = "stop"
"""Workers are gone: end now."""

SUCCEEDED: Final = "succeeded"
"""Another ingressd serves in our place: let go of the Lease, take back nothing, and end."""

# From the controller to the supervisor.
READY: Final = "ready"
"""Every worker has acknowledged the first complete snapshot. From an heir to the first supervisor: it can take over."""
CONFIGURED: Final = "configured"
"""The configuration could be read: this many workers (`number`), this admin address."""
LISTENERS: Final = "listeners"
"""All listeners there should be: `listeners`, (name, host, port) each."""
WEBHOOK: Final = "webhook"
"""The address the admission listener should have; port 0 for none. Answered by ADMISSION unless there is to be none."""
POLICY: Final = "policy"
"""How a drain goes: `grace_s`, `timeout_s`."""

# Between the supervisor that was started first and its heirs; SUCCEEDED and READY too.
INHERIT: Final = "inherit"
"""What comes with it is the heir's as well; `name` is a kind of `supervise.estate`, `listeners` says whose sockets."""
BEGIN: Final = "begin"
"""That was everything: the heir may start."""
BEQUEATH: Final = "bequeath"
"""To the heir that serves: there will be another; answer with INHERIT and BEGIN."""


class Order(NamedTuple):
    """One order; `op` says which of the fields mean something."""

    op: str
    name: str = ""
    worker: int = -1
    pid: int = 0
    number: int = 0
    version: int = 0
    unit: int = 0
    detail: str = ""
    host: str = ""
    port: int = 0
    grace_s: float = 0.0
    timeout_s: float = 0.0
    listeners: tuple[tuple[str, str, int], ...] = ()


_DEFAULTS: Final = Order("")._asdict()


class OrderError(Exception):
    """The peer sent what is no order, or an order is too long to send."""


def encode_order(order: Order) -> bytes:
    """An order as bytes. Raises OrderError when it is longer than `MAX_ORDER_BYTES`."""
    fields = {name: value for name, value in order._asdict().items() if value != _DEFAULTS[name]}
    encoded = json.dumps(fields, separators=(",", ":")).encode()
    if len(encoded) > MAX_ORDER_BYTES:
        raise OrderError(f"an order {order.op!r} of {len(encoded)} bytes is above the limit of {MAX_ORDER_BYTES}")
    return encoded


def decode_order(encoded: bytes) -> Order:
    """The inverse of `encode_order`. Raises OrderError."""
    try:
        fields: dict[str, Any] = json.loads(encoded)
        listeners = tuple((str(name), str(host), int(port)) for name, host, port in fields.pop("listeners", ()))
        return Order(**fields, listeners=listeners)
    except (ValueError, TypeError, AttributeError) as error:
        raise OrderError(f"not an order: {error}") from error


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected, non-blocking ends for orders."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (one, two):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MAX_ORDER_BYTES)
    return one, two


def send_order(channel: socket.socket, order: Order, descriptors: tuple[int, ...] = ()) -> None:
    """Send one order. Raises BlockingIOError when the peer does not read, OSError when it is gone, OrderError."""
    ancillary = []
    if descriptors:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    channel.sendmsg([encode_order(order)], ancillary)


def receive_order(channel: socket.socket) -> tuple[Order, list[int]] | None:
    """One order and the descriptors that came with it, which are the caller's to close; None when the peer is gone.

    Raises BlockingIOError when there is nothing to read, OrderError.
    """
    # Not socket.recv_fds: it drops the flags it is given, and the descriptors would leak into the children of children.
    encoded, ancillary, flags, _ = channel.recvmsg(
        MAX_ORDER_BYTES, socket.CMSG_SPACE(MAX_DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC
    )
    if not encoded:
        return None
    received = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(content[: len(content) - len(content) % received.itemsize])
    descriptors = received.tolist()
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise OrderError("an order was cut off")
        return decode_order(encoded), descriptors
    except OrderError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def waiting_orders(channel: socket.socket) -> Iterator[tuple[Order, list[int]] | None]:
    """Every order that can be read now, as `receive_order` gives them; None, last, when the peer is gone."""
    while True:
        try:
            received = receive_order(channel)
        except BlockingIOError:
            return
        except OSError:
            received = None
        yield received
        if received is None:
            return
