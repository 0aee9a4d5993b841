"""Lists and watch events as bytes, taken apart without looking at more than where an object begins and ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from ingressd.control.sources.cluster.api import ApiError, Status, api_error

LIST_ACCEPT: Final = "application/json"
METADATA_LIST_ACCEPT: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
METADATA_ACCEPT: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class _ListMetadata(msgspec.Struct, rename={"resource_version": "resourceVersion", "continued": "continue"}):
    resource_version: str = ""
    continued: str = ""


class Page(msgspec.Struct):
    """One page of a list. The items of a list carry neither kind nor version."""

    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None


class _HeadMetadata(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class Head(msgspec.Struct):
    """Which object it is, and at which version."""

    metadata: _HeadMetadata


class Event(msgspec.Struct):
    """One event of a watch (metav1.WatchEvent): ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""

    type: str
    object: msgspec.Raw


_page: Final = msgspec.json.Decoder(Page).decode
_head: Final = msgspec.json.Decoder(Head).decode
_event: Final = msgspec.json.Decoder(Event).decode
_status: Final = msgspec.json.Decoder(Status).decode


def decode_page(body: bytes) -> Page:
    """A page of a list. Raises ApiError (status 0) when it is none."""
    try:
        return _page(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(0, "Malformed", f"the list is not what a list is: {error}") from None


def decode_head(data: msgspec.Raw) -> Head:
    """The name and version of an object. Raises ApiError (status 0) when it has none."""
    try:
        return _head(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(0, "Malformed", f"an object is not what an object is: {error}") from None


def refusal(event: Event) -> ApiError:
    """What an ERROR event says."""
    try:
        return api_error(_status(event.object))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ApiError(0, "Malformed", "the watch ended with an error that says nothing")


class Lines:
    """Splits what a watch sends into events, however long they are and however they arrive.

    What is left at the end of a stream was cut off and counts for nothing: the watch goes on from the version before.
    """

    def __init__(self) -> None:
        self._begun: list[bytes] = []

    @property
    def begun(self) -> bool:
        """Whether the last event is not whole yet."""
        return bool(self._begun)

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that are whole with this. Raises ApiError (status 0) for one that is no event."""
        *whole, rest = data.split(b"\n")
        if whole:
            if self._begun:
                whole[0] = b"".join((*self._begun, whole[0]))
                self._begun.clear()
            for line in whole:
                if line and not line.isspace():
                    yield self._decode(line)
        if rest:
            self._begun.append(rest)

    def _decode(self, line: bytes) -> Event:
        try:
            return _event(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ApiError(0, "Malformed", f"an event is not what an event is: {error}") from None
