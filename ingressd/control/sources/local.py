"""The source of a standalone proxy: configuration file, manifests, certificate files and static host names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ingressd.control.objects.event import Position
from ingressd.control.sources.batch import Sink, SourceBatch
from ingressd.control.sources.resolver import Resolver


class LocalSource:
    """Reads the configuration file and everything it names, and watches all of it. See `batch.Source`."""

    def __init__(
        self,
        config_path: str,
        *,
        environ: Mapping[str, str],
        flags: Mapping[str, str],
        resolver: Resolver | None = None,
    ) -> None:
        raise NotImplementedError

    async def run(self, sink: Sink) -> None:
        """Put a first batch, then one a change. Returns only by cancellation."""
        raise NotImplementedError

    def reload(self) -> None:
        """Look again now (SIGHUP)."""
        raise NotImplementedError

    def locate(self, position: Position, field: str) -> tuple[str, int]:
        """The file and line of a field of an object read from there."""
        raise NotImplementedError


def read_config(config_path: str, *, environ: Mapping[str, str], flags: Mapping[str, str]) -> SourceBatch:
    """Read the file and all it names once, offline: host names stay unresolved. For `check` and `explain`."""
    raise NotImplementedError


def read_manifests(paths: Sequence[str]) -> SourceBatch:
    """Read manifest files and folders once, without a configuration file. For `check PATH…`."""
    raise NotImplementedError
