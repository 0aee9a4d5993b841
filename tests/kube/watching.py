"""The stand-ins' side of the API server: requests that insist, and a list-and-watch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp

from kube.api import Api, Object, path_of

AGAIN_IN_S = 0.2


class GoneError(Exception):
    """The object is not there any more, or is another one by now."""


class Client:
    """The API server as the user of an `Api`, for one event loop."""

    def __init__(self, api: Api) -> None:
        self._base = f"https://{api.server.netloc}"
        connector = aiohttp.TCPConnector(ssl=api.tls, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, headers={"User-Agent": "kube-stand-in"})

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def insist(self, method: str, path: str, body: Any = None, *, merge: bool = False) -> Object:
        """One request, again until the server answers. Raises GoneError for 404 and 409, RuntimeError when refused.

        A 409 to a PATCH, which names no version, is the server's own race with another writer: again.
        """
        kind = "application/merge-patch+json" if merge else "application/json"
        data = None if body is None else json.dumps(body).encode()
        while True:
            try:
                async with self._session.request(
                    method, self._base + path, data=data, headers={"Content-Type": kind}
                ) as response:
                    answer = await response.read()
                    conflict = response.status == 409
                    if response.status == 404 or (conflict and method != "PATCH"):
                        raise GoneError(answer.decode())
                    if response.status < 400:
                        return json.loads(answer)  # type: ignore[no-any-return]
                    if response.status not in (409, 429, 500, 503, 504):
                        raise RuntimeError(f"{method} {path}: {response.status} {answer.decode()}")
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            await asyncio.sleep(AGAIN_IN_S)

    async def watch(self, resource: str, on_event: Callable[[Object, bool], None]) -> None:
        """Call `on_event(object, present)` for what is there and for every change, until cancelled."""
        present: dict[str, Object] = {}
        while True:
            try:
                listed = await self.insist("GET", path_of(resource))
                fresh = {_key(one): one for one in listed["items"]}
                for key in present.keys() - fresh.keys():
                    on_event(present[key], False)
                for key, one in fresh.items():
                    if present.get(key) != one:
                        on_event(one, True)
                present = fresh
                await self._follow(resource, listed["metadata"]["resourceVersion"], present, on_event)
            except (aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(AGAIN_IN_S)

    async def _follow(
        self, resource: str, version: str, present: dict[str, Object], on_event: Callable[[Object, bool], None]
    ) -> None:
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "600"}
        patient = aiohttp.ClientTimeout(total=None, sock_read=None, sock_connect=5)
        async with self._session.get(self._base + path_of(resource), params=query, timeout=patient) as response:
            rest = b""
            async for data in response.content.iter_any():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        return
                    one = event["object"]
                    if event["type"] == "DELETED":
                        present.pop(_key(one), None)
                    else:
                        present[_key(one)] = one
                    on_event(one, event["type"] != "DELETED")


def _key(one: Object) -> str:
    metadata = one["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}/{metadata['uid']}"
