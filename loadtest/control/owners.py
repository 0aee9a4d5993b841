"""Which process accepted a connection: workers share one listening socket, so only the kernel knows."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def inodes_by_peer_port(table: str, local_port: int) -> dict[int, int]:
    """From the text of /proc/net/tcp: of every connection of a local port its remote port, and its socket's inode."""
    found = {}
    for line in table.splitlines()[1:]:
        fields = line.split()
        local, remote, inode = fields[1], fields[2], int(fields[9])
        if int(local.rpartition(":")[2], 16) == local_port and inode:
            found[int(remote.rpartition(":")[2], 16)] = inode
    return found


def sockets_of(pid: int) -> set[int]:
    """The inodes of the sockets that a process has open."""
    found = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(entry.path)
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return found


def owners(server_port: int, client_ports: Iterable[int], pids: Iterable[int]) -> dict[int, int]:
    """Which of these processes has the other end of each of these connections (by our port), where one has."""
    inodes = inodes_by_peer_port(Path("/proc/net/tcp").read_text(), server_port)
    by_inode = {inode: pid for pid in pids for inode in sockets_of(pid)}
    return {port: by_inode[inodes[port]] for port in client_ports if inodes.get(port) in by_inode}
