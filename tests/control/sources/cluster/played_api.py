"""An API server that is no server: lists and watches of one history in memory, and whatever goes wrong, to order."""

from __future__ import annotations

import asyncio
import json

from ingressd.control.sources.cluster.api import ApiError

PLURALS = {
    "Ingress": "ingresses",
    "IngressClass": "ingressclasses",
    "Service": "services",
    "EndpointSlice": "endpointslices",
    "Secret": "secrets",
    "ConfigMap": "configmaps",
}


class PlayedApi:
    """Stands for an `ApiServer`.

    `faults` are taken by the next requests but those of the pulse, one each: an ApiError is raised, "hang" never
    answers, an int cuts a stream after so many bytes. While it is `away` nothing answers and nothing comes.
    """

    def __init__(self):
        self.objects = {}
        self.log = []
        self.version = 100
        self.oldest = 100
        self.faults = []
        self.away = False
        self.requests = []
        self._lists = {}
        self._streams = set()

    # ------------------------------------------------------------------ the cluster
    def put(self, kind, name, *, namespace="ns", **more):
        self.version += 1
        metadata = {"name": name, "namespace": namespace, "resourceVersion": str(self.version)}
        if kind == "IngressClass":
            del metadata["namespace"]
            namespace = ""
        key = (kind, namespace, name)
        event = "MODIFIED" if key in self.objects else "ADDED"
        self.objects[key] = {"metadata": metadata, **more}
        self._tell(event, kind, namespace, self.objects[key])
        return str(self.version)

    def delete(self, kind, name, *, namespace="ns"):
        gone = self.objects.pop((kind, namespace, name), None)
        if gone is not None:
            self.version += 1
            gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}}
            self._tell("DELETED", kind, namespace, gone)

    def _tell(self, event, kind, namespace, value):
        self.log.append((self.version, event, kind, namespace, value))
        for stream in self._streams:
            stream.pending.append(self.log[-1])
            stream.news.set()

    def compact(self):
        """Every version and list of before is gone."""
        self.version += 1
        self.oldest = self.version
        self.log.clear()
        self._lists.clear()

    def rewind(self, versions):
        """As after etcd was put back from a backup: the same objects, at versions that were there before."""
        self.break_streams()
        self.version = self.oldest = max(1, self.version - versions)
        self.log.clear()
        self._lists.clear()
        for value in self.objects.values():
            value["metadata"]["resourceVersion"] = str(min(self.version, int(value["metadata"]["resourceVersion"])))

    def bookmark(self):
        for stream in self._streams:
            stream.bookmarks += 1
            stream.news.set()

    def break_streams(self):
        for stream in list(self._streams):
            stream.broken = True
            stream.news.set()

    def end_streams(self):
        for stream in list(self._streams):
            stream.ended = True
            stream.news.set()

    def deafen_streams(self):
        """What is open now never says anything again, and stays open."""
        for stream in self._streams:
            stream.deaf = True

    # ------------------------------------------------------------------ the client
    async def request(self, method, path, *, query=None, accept="", timeout_s=30.0, **_):
        query = query or {}
        self.requests.append((path, dict(query), accept))
        await self._fault(path, timeout_s)
        if path == "/version":
            return b"{}"
        kind, namespace, name = self._meaning(path)
        if name:
            value = self.objects.get((kind, namespace, name))
            if value is None:
                raise ApiError(404, "NotFound", f"{name} not found")
            return json.dumps(value).encode()
        return json.dumps(self._list(kind, namespace, query)).encode()

    def _list(self, kind, namespace, query):
        limit, token = int(query.get("limit", 0)), query.get("continue", "")
        if token:
            if token not in self._lists:
                raise ApiError(410, "Expired", "The provided continue parameter is too old")
            version, items = self._lists.pop(token)
        else:
            version = self.version
            items = [
                value
                for (of, inside, _), value in sorted(self.objects.items())
                if of == kind and namespace in ("", inside)
            ]
        metadata = {"resourceVersion": str(version)}
        if limit and len(items) > limit:
            metadata["continue"] = f"{version}-{len(items)}"
            self._lists[metadata["continue"]] = (version, items[limit:])
            items = items[:limit]
        return {"metadata": metadata, "items": items}

    def renew(self):
        self.renewed = getattr(self, "renewed", 0) + 1

    def stream(self, path, *, query, accept="", timeout_s):
        self.requests.append((path, dict(query), accept))
        return PlayedStream(self, path, query, timeout_s)

    async def _fault(self, path, timeout_s):
        if self.away:
            await asyncio.sleep(timeout_s)
            raise ApiError(0, "Timeout", "no answer in time")
        if self.faults and path != "/version":
            fault = self.faults.pop(0)
            if isinstance(fault, ApiError):
                raise fault
            if fault == "hang":
                await asyncio.sleep(timeout_s)
                raise ApiError(0, "Timeout", "no answer in time")
            return fault
        return None

    def _meaning(self, path):
        parts = path.strip("/").split("/")
        namespace = parts[parts.index("namespaces") + 1] if "namespaces" in parts else ""
        for kind, plural in PLURALS.items():
            if plural in parts:
                name = parts[-1] if parts[-1] != plural else ""
                return kind, namespace, name
        raise AssertionError(path)


class PlayedStream:
    """A watch."""

    def __init__(self, api, path, query, timeout_s):
        self.api = api
        self.path = path
        self.kind, self.namespace, _ = api._meaning(path)
        self.version = int(query["resourceVersion"])
        self.lasts_s = float(query["timeoutSeconds"])
        self.timeout_s = timeout_s
        self.news = asyncio.Event()
        self.broken = self.ended = self.deaf = False
        self.bookmarks = 0
        self.pending = []
        self.left = None
        self.gone = False

    async def __aenter__(self):
        self.left = await self.api._fault(self.path, 20.0)
        self.gone = self.version < self.api.oldest
        self.pending = list(self.api.log)
        self.ends_s = asyncio.get_running_loop().time() + self.lasts_s
        self.api._streams.add(self)
        self.news.set()
        return self

    async def __aexit__(self, *_):
        self.api._streams.discard(self)

    async def read(self):
        loop = asyncio.get_running_loop()
        while True:
            if self.left is not None and self.left <= 0:
                raise ApiError(0, "Unreachable", "cut")
            data = b"" if self.deaf or self.api.away else self._due()
            if data:
                if self.left is not None:
                    data, self.left = data[: self.left], self.left - len(data)
                return data
            if self.broken:
                raise ApiError(0, "Unreachable", "Connection reset by peer")
            if self.ended or (not self.deaf and loop.time() >= self.ends_s):
                return b""
            self.news.clear()
            try:
                async with asyncio.timeout(min(self.timeout_s, max(0.0, self.ends_s - loop.time()) or 1)):
                    await self.news.wait()
            except TimeoutError:
                if self.deaf and loop.time() >= self.ends_s + 30:
                    raise ApiError(0, "Timeout", "silent") from None

    def _due(self):
        if self.gone:
            status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            return json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"
        lines = []
        for version, event, kind, namespace, value in self.pending:
            if version > self.version and kind == self.kind and self.namespace in ("", namespace):
                lines.append({"type": event, "object": value})
                self.version = version
        self.pending.clear()
        if self.bookmarks:
            self.bookmarks = 0
            lines.append({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(self.api.version)}}})
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)
