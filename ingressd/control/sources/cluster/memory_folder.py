"""Is a folder in memory? Private keys are never written to a disk."""

from __future__ import annotations

import os
from typing import Final

MEMORY: Final = frozenset({"tmpfs", "ramfs"})
"""File systems whose files are nowhere but in memory (proc(5), "Filesystem type" of mountinfo)."""
MOUNTS: Final = "/proc/self/mountinfo"


def why_not_in_memory(folder: str, *, mounts: str = MOUNTS) -> str:
    """ "" when a folder is in a memory file system, else what is wrong. What cannot be told counts as a disk."""
    try:
        device = os.stat(folder).st_dev
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            found = file_system(file.read(), device)
    except OSError as exc:
        return f"{folder} cannot be examined: {exc.strerror or exc}"
    if found in MEMORY:
        return ""
    return f"{folder} is not in memory but on {found or 'a file system of unknown type'}"


def file_system(mountinfo: str, device: int) -> str:
    """The type of the file system with a device number, "" when none of the mounts has it."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if dash and len(fields) > 2 and fields[2] == wanted:
            return after.split(" ", 1)[0]
    return ""
