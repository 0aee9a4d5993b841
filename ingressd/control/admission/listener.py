"""The HTTPS side of the webhook: limits, time, and which certificate."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final

from aiohttp import web

from ingressd.control.admission.connection import IDLE_S, Connections
from ingressd.control.admission.review import Check, ReviewError, review
from ingressd.observe.http_server_log import http_server_logger

PATH: Final = "/networking/v1/ingresses"
MAX_BODY_BYTES: Final = 3 * 1024 * 1024
"""The API server's own limit for a request."""
TIMEOUT_S: Final = 5.0
"""For a TLS handshake, for a head, and for a body with its answer."""
AT_ONCE: Final = 16
"""Reviews, each with its body in memory."""

log = http_server_logger("admission")


class AdmissionListener:
    """Answers reviews on a socket that somebody else opened. What it serves can be replaced at any time.

    `answered` hears whether a review was "allowed", "denied" or "failed", and how long after its head had come.
    """

    def __init__(
        self,
        check: Check,
        *,
        answered: Callable[[str, float], None],
        clock: Callable[[], float],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._check = check
        self._answered = answered
        self._clock = clock
        self._timeout_s = timeout_s
        self._running = 0
        self._connections = Connections(patience_s=timeout_s)
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    async def serve(self, listening: socket.socket, context: ssl.SSLContext) -> None:
        """Accept from a copy of this socket with this certificate, in place of what was accepted from before.

        Connections that are there stay.
        """
        if self._runner is None:
            application = web.Application(client_max_size=MAX_BODY_BYTES)
            application.router.add_post(PATH, self._handle)
            self._runner = web.AppRunner(
                application,
                access_log=None,
                handle_signals=False,
                keepalive_timeout=IDLE_S,
                lingering_time=1.0,
                logger=log,
            )
            await self._runner.setup()
        handlers = self._runner.server
        assert handlers is not None
        before = self._server
        self._server = await asyncio.get_running_loop().create_server(
            self._connections.factory(handlers),
            sock=listening.dup(),
            ssl=context,
            ssl_handshake_timeout=self._timeout_s,
            ssl_shutdown_timeout=1.0,
        )
        if before is not None:
            before.close()

    def stop(self) -> None:
        """Accept no more."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def close(self) -> None:
        """Accept no more and let go of every connection."""
        self.stop()
        if self._runner is not None:
            self._connections.abort()
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        began_s = self._clock()
        answer = "failed"
        self._connections.busy(request.transport)
        self._running += 1
        try:
            if self._running > AT_ONCE:
                return _refused(503, "too many reviews at once")
            if (request.content_length or 0) > MAX_BODY_BYTES:
                raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, request.content_length or 0)
            async with asyncio.timeout(self._timeout_s):
                body = await request.read()
            reviewed = review(body, self._check)
            answer = "denied" if reviewed.denied else "allowed"
            if reviewed.denied:
                log.info("denied Ingress %s: %s", reviewed.named, reviewed.denied)
            return web.Response(body=reviewed.body, content_type="application/json")
        except TimeoutError:
            return _refused(408, "the review did not come in time")
        except ReviewError as error:
            return _refused(400, str(error))
        finally:
            self._running -= 1
            self._answered(answer, self._clock() - began_s)
            self._connections.idle(request.transport)


def _refused(status: int, text: str) -> web.Response:
    response = web.Response(status=status, text=f"{text}\n", headers={"Connection": "close"})
    response.force_close()
    return response
