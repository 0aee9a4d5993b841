"""What a source yields."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from ingressd.control.objects.event import ObjectEvent, Position
from ingressd.model.problem import Problem
from ingressd.settings.config import Config

LOCAL: Final = "local"
CLUSTER: Final = "cluster"
"""The names of the two sources that there are."""


class SourceBatch(NamedTuple):
    """Events that belong together: they are applied as one change.

    `complete` says that everything the source can see has been yielded at least once, this batch included; nothing is
    published before every source has said so. `listed` says it of everything but the Secrets and ConfigMaps that
    translation has yet to ask for by name. `problems` is all that the source has to say at this moment: it replaces
    what it said before. `config` is the configuration in force when it changed with this batch, else None.
    """

    source: str
    events: tuple[ObjectEvent, ...] = ()
    complete: bool = True
    problems: tuple[Problem, ...] = ()
    config: Config | None = None
    listed: bool = False


class Sink(Protocol):
    """Where a source puts its batches: an asyncio.Queue does."""

    async def put(self, item: SourceBatch, /) -> None:
        """Take one batch; may wait (back-pressure)."""


class Source(Protocol):
    """Something that yields batches until it is cancelled."""

    async def run(self, sink: Sink) -> None:
        """Put a first batch (even an empty one), then one a change. Returns only by cancellation."""

    def reload(self) -> None:
        """Look again now, whatever the file's times say (SIGHUP)."""

    def locate(self, position: Position, field: str) -> tuple[str, int]:
        """The file and line of a field ("spec.rules[0].host", or an annotation's key) of an object read from there."""
