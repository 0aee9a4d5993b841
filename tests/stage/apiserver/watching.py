"""One running watch: changes in, chunks of JSON lines out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from stage.apiserver.resources import Target
from stage.apiserver.selectors import Select
from stage.apiserver.storage import Change, Stored

Send = Callable[[bytes], bool]
"""Writes one line of a watch; False when it did not leave (a fault, or nobody is there)."""


class Sent(NamedTuple):
    """A watch event that left, and when (time.monotonic())."""

    at: float
    type: str
    kind: str
    namespace: str
    name: str
    resource_version: str


class Watch:
    """What a client sees of one collection, from one version on."""

    def __init__(
        self,
        target: Target,
        path: str,
        *,
        partial: bool,
        select: Select | None,
        bookmarks: bool,
        send: Send,
        sent: Callable[[Sent], None],
    ) -> None:
        self.target = target
        self.path = path
        self.bookmarks = bookmarks
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reset = False
        """It ended by a fault, and the connection has to be reset."""
        self.silent = False
        """A black hole took it."""
        self._partial = partial
        self._select = select
        self._send = send
        self._sent = sent

    def end(self, *, reset: bool = False) -> None:
        """End it; in good order, or with a reset of the connection."""
        self.reset = self.reset or reset
        if not self.ended.done():
            self.ended.set_result(None)

    def sees(self, stored: Stored | None) -> bool:
        """Is an object in what this watch is about?"""
        if stored is None:
            return False
        if self.target.namespace and stored.name[0] != self.target.namespace:
            return False
        if self.target.name and stored.name[1] != self.target.name:
            return False
        return self._select is None or self._select(stored)

    def change(self, change: Change) -> None:
        """Tell of one change; an object that comes into or leaves the selection is ADDED or DELETED."""
        now, before = self.sees(change.now), self.sees(change.before)
        if change.type == "DELETED":
            if before:
                self.event("DELETED", change.now)
        elif now:
            self.event("MODIFIED" if before else "ADDED", change.now)
        elif before and change.before is not None:
            value = change.before.value()
            value["metadata"]["resourceVersion"] = str(change.now.version)
            left = change.before._replace(version=change.now.version, encoded=msgspec.json.encode(value))
            self.event("DELETED", left)

    def event(self, kind: str, stored: Stored) -> None:
        """Send one event about an object."""
        body = stored.partial() if self._partial else stored.whole(self.target.resource)
        at = time.monotonic()
        if self._send(b'{"type":"%s","object":%s}\n' % (kind.encode(), body)):
            version = str(stored.version)
            self._sent(Sent(at, kind, self.target.resource.kind, *stored.name, version))

    def bookmark(self, version: int, *, initial: bool = False) -> None:
        """Say how far the client is, if it wants to hear that."""
        if not self.bookmarks:
            return
        resource = self.target.resource
        kind, api_version = resource.kind, resource.api_version
        if self._partial:
            kind, api_version = "PartialObjectMetadata", "meta.k8s.io/v1"
        metadata: dict[str, object] = {"resourceVersion": str(version), "creationTimestamp": None}
        if initial:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        body = {"kind": kind, "apiVersion": api_version, "metadata": metadata}
        self._send(msgspec.json.encode({"type": "BOOKMARK", "object": body}) + b"\n")

    def error(self, status: dict[str, object]) -> None:
        """Say what went wrong; the caller ends the watch."""
        self._send(msgspec.json.encode({"type": "ERROR", "object": status}) + b"\n")
