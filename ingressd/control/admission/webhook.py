"""The webhook as the configuration wants it now: which socket, which certificate, or none."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Iterable

from ingressd.control.admission.listener import AdmissionListener
from ingressd.control.objects.static import StaticAdmission
from ingressd.ipc import orders
from ingressd.ipc.orders import Order
from ingressd.model.problem import Origin, Problem
from ingressd.model.secret import PrivateBytes

log = logging.getLogger("ingressd.admission")

_ORIGIN = Origin("Config", "", "admission", "admission")
_NOWHERE = ("", 0)


def invalid_pair(fault: str, *, kept: str = "the webhook does not answer") -> Problem:
    """Certificate and key that a `contexts` refuses, and what happens instead."""
    return Problem("error", _ORIGIN, "InvalidCertificate", "certFile", f"{fault}: {kept}")


class Webhook:
    """Follows the configuration: asks the supervisor for the socket, and gives the listener socket and certificate.

    `contexts` makes a TLS context of a pair or raises ValueError; `tell` sends an order to the supervisor; `say`
    replaces what the webhook has to say. Without any certificate that was ever good the socket is not asked for: a
    refused connection lets an API server go on at once, and one that nobody accepts keeps it waiting.
    """

    def __init__(
        self,
        listener: AdmissionListener,
        *,
        contexts: Callable[[bytes, PrivateBytes], ssl.SSLContext],
        tell: Callable[[Order], None],
        say: Callable[[Iterable[Problem]], None],
    ) -> None:
        self._listener = listener
        self._contexts = contexts
        self._tell = tell
        self._say = say
        self._wanted: StaticAdmission | None = None
        self._context: ssl.SSLContext | None = None
        self._address = _NOWHERE
        self._socket: socket.socket | None = None
        self._served: tuple[socket.socket | None, ssl.SSLContext | None] = (None, None)
        self._fault = ""
        self._unbound = ""
        self._changed = asyncio.Event()

    def follow(self, wanted: StaticAdmission | None) -> None:
        """The configuration of now; the same one again costs nothing."""
        if wanted is self._wanted or wanted == self._wanted:
            return
        self._load(wanted)
        self._wanted = wanted
        address = _NOWHERE if wanted is None or self._context is None else (wanted.host, wanted.port)
        if address != self._address:
            self._address = address
            self._unbound = ""
            self._let_go()
            self._tell(Order(orders.WEBHOOK, host=address[0], port=address[1]))
        self._report()
        self._changed.set()

    def bound(self, order: Order, passed: socket.socket | None) -> None:
        """The supervisor's answer. One about an address that is no longer wanted came too late."""
        if (order.host, order.port) != self._address:
            if passed is not None:
                passed.close()
            return
        self._unbound = order.detail
        self._let_go()
        self._socket = passed
        self._report()
        self._changed.set()

    def leave(self) -> None:
        """Accept no more, since another process does on the same socket; what was accepted is answered."""
        self._let_go()
        self._listener.stop()

    async def run(self) -> None:
        """Serve what is wanted, until cancelled."""
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                await self._apply()
        finally:
            self._let_go()
            await self._listener.close()

    async def _apply(self) -> None:
        wanted = (self._socket, self._context)
        if wanted == self._served:
            return
        self._served = wanted
        if self._socket is None or self._context is None:
            self._listener.stop()
            return
        await self._listener.serve(self._socket, self._context)
        log.info("answering on port %d, with the certificate that the configuration has now", self._address[1])

    def _load(self, wanted: StaticAdmission | None) -> None:
        """Make the context of a new pair; a broken one leaves that of the last good pair in its place."""
        if wanted is None:
            self._context, self._fault = None, ""
            return
        before = self._wanted
        if before is not None and (before.cert_pem, before.key_pem) == (wanted.cert_pem, wanted.key_pem):
            return
        try:
            self._context = self._contexts(wanted.cert_pem, wanted.key_pem)
            self._fault = ""
        except ValueError as error:
            self._fault = str(error)

    def _let_go(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _report(self) -> None:
        problems = []
        if self._fault:
            without = self._context is None
            problems.append(
                invalid_pair(self._fault) if without else invalid_pair(self._fault, kept="the last good pair serves on")
            )
        if self._unbound:
            problems.append(Problem("error", _ORIGIN, "NotBound", "address", self._unbound))
        self._say(problems)
