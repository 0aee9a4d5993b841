"""An object that is in a file and in the cluster: which of the two counts.

The file's, as for everything that whoever runs ingressd writes himself. It is said, and the cluster's version takes its
place as soon as the file no longer has it.
"""

from __future__ import annotations

from collections.abc import Iterator

from ingressd.control.objects.decode import KINDS
from ingressd.control.objects.event import AnyObject, ObjectEvent, ObjectKey
from ingressd.control.sources.batch import CLUSTER, LOCAL, SourceBatch
from ingressd.control.store.store import Store
from ingressd.model.problem import Origin, Problem


class Precedence:
    """Stands before the store. `hidden` are the cluster's versions of objects that a file has too."""

    def __init__(self, store: Store) -> None:
        self.hidden: dict[ObjectKey, AnyObject] = {}
        self._store = store
        self._in_files: set[ObjectKey] = set()

    def events(self, batch: SourceBatch) -> Iterator[ObjectEvent]:
        """Those of a batch that count, to be applied as they come."""
        for event in batch.events:
            if event.key.kind not in KINDS:
                yield event
            elif batch.source == LOCAL:
                yield from self._from_file(event)
            elif batch.source != CLUSTER or event.key not in self._in_files:
                yield event
            elif event.object is None:
                self.hidden.pop(event.key, None)
            else:
                self.hidden[event.key] = event.object

    def problems(self) -> list[Problem]:
        """One for each object that is hidden."""
        found = []
        for key in self.hidden:
            position = self._store.position(key)
            file, line = (position.file, position.line) if position is not None else ("", 0)
            message = "is in the cluster too: the version of the file counts, that of the cluster has no effect"
            found.append(Problem("warning", Origin(*key), "DuplicateObject", "", message, file, line))
        return found

    def _from_file(self, event: ObjectEvent) -> Iterator[ObjectEvent]:
        key = event.key
        if event.object is None:
            self._in_files.discard(key)
            yield event
            hidden = self.hidden.pop(key, None)
            if hidden is not None:
                yield ObjectEvent(key, hidden)
            return
        if key not in self._in_files:
            self._in_files.add(key)
            of_cluster = self._store.get(key)
            if of_cluster is not None:
                self.hidden[key] = of_cluster
        yield event
