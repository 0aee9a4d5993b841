"""One of two endpoints is dead: nobody notices, whatever the method and the body."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from stage.ports import Address, free_address
from stage.running import route_to, running
from stage.scripted import OK, Played, scripted
from stage.wire import Client, request_bytes

pytestmark = pytest.mark.process

BODIES = {"none": None, "small": b"x" * 100, "replayable": b"x" * 60_000, "long": b"x" * 300_000}
METHODS = ("GET", "HEAD", "OPTIONS", "DELETE", "PUT", "POST", "PATCH")
ASKED = [
    (method, size, chunked)
    for method in METHODS
    for size in BODIES
    for chunked in (False, True)
    if not (size == "none" and chunked) and (size == "none" or method in ("PUT", "POST", "PATCH"))
]
ROUNDS = 3


@contextlib.contextmanager
def refusing() -> Iterator[Address]:
    """Nobody listens."""
    yield free_address()


@contextlib.contextmanager
def black_hole() -> Iterator[Address]:
    """A listener whose queue is full: the kernel drops every further SYN, as a dead node does."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(20):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        probe = stack.enter_context(socket.socket())
        probe.settimeout(0.3)
        with pytest.raises(TimeoutError):
            probe.connect(address)
        yield address


def living(connection: Played) -> None:
    """Takes any body, and answers."""
    while head := connection.head():
        if b"Transfer-Encoding: chunked" in head:
            while size := int(connection.line(), 16):
                connection.body(size + 2)
            connection.line()
        else:
            _, _, length = head.partition(b"Content-Length: ")
            connection.body(int(length.split(b"\r\n")[0] or 0))
        connection.send(OK if not head.startswith(b"HEAD") else OK.removesuffix(b"ok"))


@pytest.mark.parametrize("dead", [refusing, black_hole])
def test_every_request_is_answered_and_comes_once(tmp_path, dead):
    statuses: Counter[tuple[str, str, int]] = Counter()
    with scripted(living) as upstream, dead() as nobody:
        config = route_to({"api": [nobody, upstream.address]}, settings={"proxy-connect-timeout": "3"}, workers=2)
        with running(tmp_path, **config) as ingressd:
            number = 0
            until_s = time.monotonic() + 4.0  # Ejections end meanwhile, and the dead one is tried again.
            while number < ROUNDS * len(ASKED) or time.monotonic() < until_s:
                method, size, chunked = ASKED[number % len(ASKED)]
                request = request_bytes(
                    f"/{number}", host="api.test", method=method, body=BODIES[size], chunked=chunked
                )
                number += 1
                with Client(ingressd.http, timeout_s=60) as client:
                    client.send(request)
                    statuses[method, size, client.reply(method).status] += 1
    assert {key: count for key, count in statuses.items() if key[2] != 200} == {}
    targets = Counter(line.split()[1] for line in upstream.received.split(b"\r\n") if line.endswith(b" HTTP/1.1"))
    assert (len(targets), set(targets.values())) == (number, {1})
