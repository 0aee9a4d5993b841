"""A small upstream: says as JSON what it saw; /sse counts to five, /ws echoes, /slow takes two seconds.

On its own: python examples/demo_upstream.py NAME PORT
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

from aiohttp import WSMsgType, web


def application(name: str) -> web.Application:
    """The upstream called `name`."""

    async def describe(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = [f"{key.decode('latin-1')}: {value.decode('latin-1')}" for key, value in request.raw_headers]
        seen = {"upstream": name, "method": request.method, "path": request.path_qs, "headers": headers}
        answer = json.dumps({**seen, "body_bytes": len(body)}) + "\n"
        return web.Response(text=answer, content_type="application/json")

    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(2)
        return await describe(request)

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        for number in range(1, 6):
            await response.write(f"data: {number} from {name}\n\n".encode())
            await asyncio.sleep(0.4)
        return response

    async def websocket(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/sse", events)
    app.router.add_get("/ws", websocket)
    app.router.add_get("/slow", slow)
    app.router.add_route("*", "/{path:.*}", describe)
    return app


async def serve(name: str, port: int) -> web.AppRunner:
    """Serve on 127.0.0.1 until the runner is cleaned up."""
    runner = web.AppRunner(application(name), access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner


async def _main(name: str, port: int) -> None:
    await serve(name, port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
