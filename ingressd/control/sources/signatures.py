"""Signatures of everything that is watched, and when a difference between two of them is worth reading.

Looking (a few `stat` calls) instead of inotify: a symlink swapped anywhere on the way to a file, a folder replaced,
a mount, a network file system all look the same from here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from typing import Final

SUFFIXES: Final = (".yaml", ".yml", ".json")
SETTLE_S: Final = 0.1
"""How long a file that is not replaced by rename must stay the same before it is read."""
PATIENCE_S: Final = 1.0
"""How long we wait for that at most."""

Signature = tuple[int, ...]
Signatures = dict[str, Signature]
"""By path. A folder has (device, inode, 0), a file (device, inode, mtime, ctime, size); what is missing is left out."""


def look(files: Iterable[str], roots: Iterable[str]) -> Signatures:
    """The signatures of single files, and of manifest roots (each a file, or a folder with what counts in it)."""
    out: Signatures = {}
    for file in files:
        _add(out, file)
    for root in roots:
        if _add(out, root):
            try:
                names = os.listdir(root)
            except OSError:
                continue
            for name in names:
                if name.endswith(SUFFIXES) and not name.startswith("."):
                    _add(out, os.path.join(root, name), only_files=True)
    return out


def files_in(root: str, signatures: Mapping[str, Signature]) -> list[str]:
    """The manifest files of a root in order of name."""
    own = signatures.get(root)
    if own is None:
        return []
    if len(own) == 5:
        return [root]
    return sorted(path for path, found in signatures.items() if os.path.dirname(path) == root and len(found) == 5)


def must_settle(before: Signatures, after: Signatures, *, paired: frozenset[str] = frozenset()) -> bool:
    """Whether a difference may be half of a change.

    A rename over an existing file, or a folder swapped as a whole, is complete when it is seen. A file written in
    place, a new one, one that is gone, and one of a pair (certificate and key) may be followed by more.
    """
    for path in before.keys() | after.keys():
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        if path in paired:
            return True
        if old is not None and new is not None and old[:2] != new[:2]:
            continue
        folder = os.path.dirname(path)
        if folder in before and folder in after and before[folder] != after[folder]:
            continue
        return True
    return False


def _add(out: Signatures, path: str, *, only_files: bool = False) -> bool:
    """Add the signature of what is at a path; whether it is a folder."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return False
    if stat.S_ISDIR(found.st_mode):
        if not only_files:
            out[path] = (found.st_dev, found.st_ino, 0)
        return not only_files
    if stat.S_ISREG(found.st_mode):
        out[path] = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
    return False
