"""The admin listener's routes."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final, Protocol

from aiohttp import web

from ingressd.control.admin import hostless
from ingressd.control.admin.page import PageFacts, render
from ingressd.control.health.checks import EndpointView
from ingressd.control.objects.event import ObjectKey
from ingressd.model.codec import to_json
from ingressd.model.problem import Problem
from ingressd.model.units import Unit
from ingressd.observe.http_server_log import http_server_logger

_API_VERSIONS: Final = {"Ingress": "networking.k8s.io/v1"}
_NO_STORE: Final = {"Cache-Control": "no-store"}


class View(Protocol):
    """What the controller lets people see."""

    def ready(self) -> bool:
        """What /readyz says."""

    def live_units(self) -> tuple[int, dict[str, Unit]]:
        """The version that was published last, and its units."""

    def statuses(self) -> dict[ObjectKey, dict[str, Any]]:
        """The status of each of our objects."""

    def problems(self) -> list[Problem]:
        """All problems there are now."""

    def endpoint_health(self) -> list[EndpointView]:
        """Every endpoint that is probed, and what came of it."""

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the format that was asked for, and its media type."""

    def facts(self) -> PageFacts:
        """What the page shows."""


class AdminListener:
    """Serves `view` on a socket that somebody else opened and keeps."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> None:
        """Serve from now on."""
        application = web.Application()
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/debug/snapshot", self._snapshot)
        application.router.add_get("/debug/statuses", self._statuses)
        application.router.add_get("/debug/problems", self._problems)
        application.router.add_get("/debug/health", self._health)
        application.router.add_get("/", self._page)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=0.5,
            logger=http_server_logger("admin"),
        )
        await self._runner.setup()
        handlers = self._runner.server
        assert handlers is not None
        self._server = await asyncio.get_running_loop().create_server(hostless.factory(handlers), sock=listening)

    def leave(self) -> None:
        """Accept no more, since another process does on the same socket; what was accepted is answered."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def close(self) -> None:
        """Answer no more."""
        self.leave()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        if self._view.ready():
            return web.Response(text="ok\n", headers=_NO_STORE)
        return web.Response(text="not ready\n", status=503, headers=_NO_STORE)

    async def _metrics(self, request: web.Request) -> web.Response:
        exposed, media_type = await self._view.metrics(request.headers.get("Accept", ""))
        return web.Response(body=exposed, headers={"Content-Type": media_type, **_NO_STORE})

    async def _snapshot(self, _: web.Request) -> web.Response:
        version, units = self._view.live_units()
        # A big snapshot takes its time to become JSON; workers and sources should not wait for it.
        return _json(await asyncio.to_thread(to_json, {"version": version, "units": units}))

    async def _statuses(self, _: web.Request) -> web.Response:
        items = [
            {
                "apiVersion": _API_VERSIONS.get(key.kind, "v1"),
                "kind": key.kind,
                "metadata": {"name": key.name, **({"namespace": key.namespace} if key.namespace else {})},
                "status": status,
            }
            for key, status in sorted(self._view.statuses().items())
        ]
        return _json(to_json({"apiVersion": "v1", "kind": "List", "items": items}))

    async def _problems(self, _: web.Request) -> web.Response:
        return _json(to_json({"problems": self._view.problems()}))

    async def _health(self, _: web.Request) -> web.Response:
        return _json(to_json({"endpoints": [endpoint._asdict() for endpoint in self._view.endpoint_health()]}))

    async def _page(self, _: web.Request) -> web.Response:
        headers = {
            **_NO_STORE,
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
            "X-Content-Type-Options": "nosniff",
        }
        return web.Response(text=render(self._view.facts()), content_type="text/html", headers=headers)


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers=_NO_STORE)
