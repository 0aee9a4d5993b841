"""Loopback addresses and ports that nobody else uses."""

from __future__ import annotations

import itertools
import os
import random
import socket

Address = tuple[str, int]

_WORKERS = 8
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
"""Which of several test processes we are: each has ports and hosts of its own."""
_PORTS = range(20500 + _worker, 32000, _WORKERS)
"""Below the kernel's ephemeral range, so that no outgoing connection can take a port between choice and use."""
_cursor = itertools.cycle(_PORTS)
_given: set[int] = set()
for _ in range(random.randrange(len(_PORTS))):
    next(_cursor)

_hosts = (f"127.{77 + _worker}.{second}.{third}" for second in range(1, 255) for third in range(1, 255))


def free_port() -> int:
    """A port that nobody listens on and that this process has not handed out before."""
    for port in itertools.islice(_cursor, len(_PORTS)):
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise OSError("no free port")


def free_address() -> Address:
    """127.0.0.1 and a port of its own."""
    return "127.0.0.1", free_port()


def new_host() -> str:
    """A loopback host not handed out before: as every pod has an address of its own, so has every echo."""
    return next(_hosts)


def listening(hosts: list[str]) -> list[socket.socket]:
    """One listening socket for each host, all on one port, as the endpoints of one Service port are."""
    for _ in range(50):
        opened: list[socket.socket] = []
        port = 0
        try:
            for host in hosts:
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                sock = socket.socket(family, socket.SOCK_STREAM)
                opened.append(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((host, port))
                sock.listen(512)
                port = sock.getsockname()[1]
            return opened
        except OSError:
            for sock in opened:
                sock.close()
    raise OSError(f"no common port for {hosts}")


def spelled(address: Address) -> str:
    """host:port, with the brackets of an IPv6 literal."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
