"""The proxy people write themselves with aiohttp: `web.Application` in front, `ClientSession` behind, bodies streamed.

Access log to a file, prometheus-client counters, uvloop. Run as a program.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import ssl
import uuid

import aiohttp
import prometheus_client
import uvloop
from aiohttp import web
from multidict import CIMultiDict

HOP_BY_HOP = frozenset(
    ["connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"]
)
REQUESTS = prometheus_client.Counter("proxy_requests", "Requests", ["method", "status"])
DURATION = prometheus_client.Histogram("proxy_request_seconds", "Duration")
LOG_FORMAT = (
    '{"time":"%t","remote_addr":"%a","request":"%r","status":%s,"bytes_sent":%b,"duration_s":%Tf,'
    '"user_agent":"%{User-Agent}i","referer":"%{Referer}i"}'
)


class Proxy:
    """Forwards every request to one upstream."""

    def __init__(self, upstream: str, session: aiohttp.ClientSession) -> None:
        self._upstream = upstream
        self._session = session

    async def handle(self, request: web.Request) -> web.StreamResponse:
        with DURATION.time():
            try:
                response = await self._forward(request)
            except aiohttp.ClientError:
                response = web.Response(status=502, text="502 Bad Gateway")
        REQUESTS.labels(request.method, str(response.status)).inc()
        return response

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        headers = CIMultiDict(
            (name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP
        )
        headers["X-Forwarded-For"] = headers["X-Real-IP"] = request.remote or ""
        headers["X-Forwarded-Proto"] = headers["X-Forwarded-Scheme"] = request.scheme
        headers["X-Forwarded-Host"] = request.host
        headers.setdefault("X-Request-ID", uuid.uuid4().hex)
        body = request.content if request.can_read_body else None
        async with self._session.request(
            request.method, self._upstream + request.raw_path, headers=headers, data=body, allow_redirects=False
        ) as upstream:
            response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
            for name, value in upstream.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    response.headers.add(name, value)
            await response.prepare(request)
            async for chunk in upstream.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response


async def _metrics(_: web.BaseRequest) -> web.Response:
    return web.Response(body=prometheus_client.generate_latest(), content_type="text/plain")


async def serve(options: argparse.Namespace) -> None:
    """Serve until cancelled."""
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", Proxy(f"http://127.0.0.1:{options.upstream}", session).handle)
    runner = web.AppRunner(app, access_log_format=LOG_FORMAT)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options.cert, options.key)
    await web.TCPSite(runner, "127.0.0.1", options.http, backlog=4096).start()
    await web.TCPSite(runner, "127.0.0.1", options.https, backlog=4096, ssl_context=context).start()
    admin = web.ServerRunner(web.Server(_metrics, access_log=None))
    await admin.setup()
    await web.TCPSite(admin, "127.0.0.1", options.admin).start()
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("http", "https", "admin", "upstream"):
        parser.add_argument(f"--{name}", type=int, required=True, metavar="PORT")
    for name in ("cert", "key", "log"):
        parser.add_argument(f"--{name}", required=True, metavar="FILE")
    options = parser.parse_args()
    logging.basicConfig(filename=options.log, format="%(message)s", level=logging.INFO)
    uvloop.run(serve(options))


if __name__ == "__main__":
    main()
