"""The socket of the admin listener: opened when the configuration has been read, and kept until the end."""

from __future__ import annotations

import logging
import socket

from ingressd.supervise.sockets import Bound, address, open_listener

log = logging.getLogger("ingressd.supervise")


class AdminSocket:
    """None until `open`, which takes the one that was `inherited` if it has the address."""

    def __init__(self, inherited: dict[tuple[str, int], socket.socket]) -> None:
        self._inherited = inherited
        self.bound: Bound | None = None

    @property
    def socket(self) -> socket.socket | None:
        """The socket, when it is open."""
        return None if self.bound is None else self.bound.socket

    def open(self, host: str, port: int) -> bool:
        """Whether it could be opened; the log says why not."""
        try:
            listening = self._inherited.pop((host, port), None) or open_listener(host, port)
        except OSError as error:
            log.error("cannot listen on %s (admin): %s", address(host, port), error.strerror)
            return False
        self._let_go_of_inherited()
        self.bound = Bound(host, port, listening)
        return True

    def close(self) -> None:
        """Close our copy."""
        self._let_go_of_inherited()
        if self.bound is not None:
            self.bound.socket.close()

    def _let_go_of_inherited(self) -> None:
        for unused in self._inherited.values():
            unused.close()
        self._inherited = {}
