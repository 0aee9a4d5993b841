"""A short run of the fuzz targets, and the inputs over which longer runs stumbled."""

import pytest
from fuzz.run import TARGETS, checker_of, fuzz

UPGRADE = b"Host: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
CHUNKED_START = b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_promises_hold_for_mutated_messages(target: str) -> None:
    checker = fuzz(target, 600 if target in ("exchange", "answer") else 1500, seed=20)
    assert checker.accepted > 100, "the mutations are too wild to reach anything"
    assert checker.refused > 100, "the mutations are too tame to break anything"


@pytest.mark.parametrize(
    ("target", "data"),
    [
        ("request", b"\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n"),
        ("request", b"POST / HTTP/1.1\r\nHost: a.example\r\n" + CHUNKED_START + b"Content-Length: upgrade\r\n\r\n"),
        ("request", b"GET / HTTP/1.1\r\nHost: a.example:8080" + b"a" * 2100 + b"\r\nA: b"),
        ("response", b"HTTP/1.1 200 OK\r\n" + CHUNKED_START + b"Transfer-Encoding: close\r\n\r\n"),
        ("response", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\t\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ("response", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n"),
        ("response", b"HTTP/1.0 404 Not Found\r\nConnection: keep-alive\r\nContent-ength: 0\r\n\r\n"),
        ("response", b"HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nX-B : 3\r\nContent-Length: 2\r\n\r\nok"),
        ("chunked", b"0\r\nContent-Length: a.example\r\n\r\n"),
        (
            "exchange",
            b"PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi\r\nGET / HTTP/1.1\r\nHost: b.a\r\n\r\n",
        ),
        (
            "exchange",
            b"GET /ws HTTP/1.1\r\nUpgrade: close\r\n" + UPGRADE + b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        ),
        ("answer", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\nok"),
    ],
)
def test_promises_hold_where_a_run_once_stopped(target: str, data: bytes) -> None:
    for seed in range(5):
        checker = checker_of(target, seed=seed)
        getattr(checker, target)(data)
        checker.close()
