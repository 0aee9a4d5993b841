"""The snapshot on a memory file system: with it a container that starts while the API server is away serves at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import stat
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, NamedTuple

from ingressd.control.objects.decode import KINDS
from ingressd.control.objects.event import ObjectKey
from ingressd.control.objects.kubernetes import KubernetesObject
from ingressd.control.sources.cluster.memory_folder import why_not_in_memory
from ingressd.control.sources.cluster.snapshot_format import (
    HEADER_BYTES,
    Packer,
    Preamble,
    SnapshotError,
    check,
    unpack,
)
from ingressd.control.store.store import StoreView
from ingressd.model.problem import Origin, Problem
from ingressd.settings.config import KubernetesConfig
from ingressd.version import __version__

FILE: Final = "objects"
KEY: Final = "kubernetes.snapshotDir"
SLICE: Final = 200
"""So many objects are encoded between two turns of the loop: less than two milliseconds."""

log = logging.getLogger("ingressd.snapshot")


class Restored(NamedTuple):
    """What a snapshot holds, all of it readable: `objects` are decoded one by one as they are asked for, once.

    `confirmed_at_s` is the wall clock when it was last known to be what the cluster has.
    """

    objects: Iterator[tuple[ObjectKey, KubernetesObject]]
    number: int
    good: tuple[tuple[ObjectKey, KubernetesObject], ...]
    confirmed_at_s: float


class Snapshot:
    """One file, `objects`, in the folder `kubernetes.snapshotDir`. Without a folder, or with one that is not in
    memory, nothing is written and nothing found; `problems` says so."""

    def __init__(self, config: KubernetesConfig) -> None:
        self._folder = config.snapshot_dir
        self._path = os.path.join(self._folder, FILE) if self._folder else ""
        self._scope = scope_of(config)
        self._unusable = self._examine() if self._folder else ""
        self._unwritable = self._unreadable = ""

    @property
    def usable(self) -> bool:
        """Is there a folder in memory?"""
        return bool(self._folder) and not self._unusable

    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the folder or the file."""
        found = (
            ("error", "SnapshotUnusable", self._unusable),
            ("error", "SnapshotNotWritten", self._unwritable),
            ("warning", "SnapshotIgnored", self._unreadable),
        )
        origin = Origin("Config", "", "kubernetes")
        return tuple(
            Problem("error" if severity == "error" else "warning", origin, reason, KEY, message)
            for severity, reason, message in found
            if message
        )

    # ------------------------------------------------------------------ reading
    async def restore(self) -> Restored | None:
        """Everything in the file; None without one, or when it cannot be used (a problem then)."""
        content = self._content()
        if content is None:
            return None
        count = 0
        good: list[tuple[ObjectKey, KubernetesObject]] = []
        try:
            # All of it once, so that nobody begins with half of what was there.
            for entries in unpack(content[0], scope=self._scope):
                good += [(entry.key, entry.object) for entry in entries if entry.good]
                count += sum(not entry.good for entry in entries)
                await asyncio.sleep(0)
        except SnapshotError as error:
            self._ignore(error)
            return None
        return Restored(self._objects(content[0]), count, tuple(good), content[1])

    def _objects(self, content: bytes) -> Iterator[tuple[ObjectKey, KubernetesObject]]:
        for entries in unpack(content, scope=self._scope):
            yield from ((entry.key, entry.object) for entry in entries if not entry.good)

    def last_good(self) -> tuple[tuple[ObjectKey, KubernetesObject], ...]:
        """The last good versions of the objects that were refused when the file was written; they come first in it,
        so this is quick."""
        content = self._content()
        if content is None:
            return ()
        try:
            pieces = unpack(content[0], scope=self._scope, good_only=True)
            return tuple((entry.key, entry.object) for entries in pieces for entry in entries)
        except SnapshotError as error:
            self._ignore(error)
            return ()

    def _content(self) -> tuple[bytes, float] | None:
        self._unreadable = ""
        if not self.usable:
            return None
        try:
            with open(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
                status = os.fstat(file.fileno())
                _check_owner(status)
                content = file.read()
            check(content)
        except FileNotFoundError:
            return None
        except OSError as exc:
            self._ignore(SnapshotError(exc.strerror or str(exc)))
            return None
        except SnapshotError as error:
            self._ignore(error)
            return None
        return content, status.st_mtime

    def _ignore(self, error: SnapshotError) -> None:
        self._unreadable = f"{self._path} is ignored: {error}"

    # ------------------------------------------------------------------ writing
    async def write(self, view: StoreView, *, ours: Callable[[ObjectKey], bool], confirmed_at_s: float) -> bool:
        """Replace the file with the objects of a view that are `ours`, slice by slice; whether it was possible."""
        if not self.usable:
            return False
        pending = f"{self._path}.{os.getpid()}"
        try:
            with _created(pending) as file:
                file.write(bytes(HEADER_BYTES))
                packer = Packer(Preamble(self._scope, __version__))
                for entry in _entries(view, ours):
                    if entry is None:
                        await asyncio.sleep(0)
                    else:
                        key, value, good = entry
                        file.write(packer.add(key.kind, value, good=good))
                file.write(packer.finish())
                file.seek(0)
                file.write(packer.header())
            os.utime(pending, (confirmed_at_s, confirmed_at_s))
            os.replace(pending, self._path)
        except OSError as exc:
            self._unwritable = f"{self._path} cannot be written: {exc.strerror or exc}"
            return False
        finally:
            with contextlib.suppress(OSError):
                os.unlink(pending)
        self._unwritable = self._unreadable = ""
        return True

    def confirm(self, confirmed_at_s: float) -> None:
        """What the file holds is what the cluster had then: its time of change says how old that knowledge is."""
        with contextlib.suppress(OSError):
            os.utime(self._path, (confirmed_at_s, confirmed_at_s), follow_symlinks=False)

    def _examine(self) -> str:
        """What is wrong with the folder; it is made when it is missing. Also clears away what a killed writer left."""
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            why = why_not_in_memory(self._folder)
            if why:
                return f"{why}: no snapshot is kept, because private keys are never written to a disk"
            for name in os.listdir(self._folder):
                if name.startswith(f"{FILE}."):
                    os.unlink(os.path.join(self._folder, name))
        except OSError as exc:
            return f"{self._folder} cannot be used: {exc.strerror or exc}"
        return ""


def _created(path: str) -> BinaryIO:
    """A new file that nobody else may read; never one that somebody put there before."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return open(os.open(path, flags, 0o600), "wb")


def scope_of(config: KubernetesConfig) -> str:
    """Of which cluster, and which part of it, objects are: those of another are not served."""
    where = "in cluster" if config.in_cluster else config.kubeconfig
    return json.dumps([where, list(config.namespaces), config.label_selector])


def _check_owner(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise SnapshotError("it is no regular file")
    if status.st_uid != os.geteuid():
        raise SnapshotError(f"it belongs to user {status.st_uid}, not to us")
    if status.st_mode & 0o022:
        raise SnapshotError("others may write to it")


def _entries(
    view: StoreView, ours: Callable[[ObjectKey], bool]
) -> Iterator[tuple[ObjectKey, KubernetesObject, bool] | None]:
    """Everything to be written, last good versions first; None when it is time to let the loop turn."""
    for good in (True, False):
        for kind in KINDS.values():
            for number, (key, value) in enumerate(view.unordered(kind.type)):
                if number % SLICE == 0:
                    yield None
                if not ours(key):
                    continue
                if not good:
                    yield key, value, False
                    continue
                last = view.other_good(key)
                if isinstance(last, kind.type):
                    yield key, last, True
