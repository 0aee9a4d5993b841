"""The webhook over real TLS connections: limits, deadlines, certificates that change."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop
from stage.certificates import Pair, names_of, selfsigned

from ingressd.control.admission import listener as limits
from ingressd.control.admission.listener import MAX_BODY_BYTES, PATH, AdmissionListener
from ingressd.control.objects.kubernetes import Ingress
from ingressd.model.problem import Origin, Problem
from ingressd.model.secret import PrivateBytes
from ingressd.proxy.tls.contexts import webhook_context
from ingressd.supervise.sockets import open_listener

REVIEW = {
    "apiVersion": "admission.k8s.io/v1",
    "kind": "AdmissionReview",
    "request": {
        "uid": "u",
        "operation": "CREATE",
        "kind": {"group": "networking.k8s.io", "version": "v1", "kind": "Ingress"},
        "object": {"metadata": {"name": "good", "namespace": "default"}, "spec": {}},
    },
}


def review_of(name: str) -> bytes:
    request = {**REVIEW["request"], "object": {"metadata": {"name": name, "namespace": "default"}, "spec": {}}}  # type: ignore[dict-item]
    return json.dumps({**REVIEW, "request": request}).encode()


def check(ingress: Ingress) -> tuple[Problem, ...]:
    name = ingress.metadata.name
    return (Problem("error", Origin("Ingress", "default", name), "Wrong", "spec", "no"),) if name == "bad" else ()


def context_of(pair: Pair) -> ssl.SSLContext:
    return webhook_context(pair.cert, PrivateBytes(pair.key))


class Stage:
    """A listener on a real socket."""

    def __init__(self, timeout_s: float) -> None:
        self.answers: list[str] = []
        self.listener = AdmissionListener(
            check, answered=lambda answer, _: self.answers.append(answer), clock=lambda: 0.0, timeout_s=timeout_s
        )
        self.socket = open_listener("127.0.0.1", 0)
        self.port = self.socket.getsockname()[1]

    async def connect(self, **options: Any) -> Client:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for name, value in options.items():
            setattr(context, name, value)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        return Client(reader, writer)


class Client:
    """One connection of an API server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def names(self) -> list[str]:
        found: ssl.SSLObject = self.writer.get_extra_info("ssl_object")
        return names_of(found.getpeercert(binary_form=True))[1]

    async def ask(self, body: bytes, *, path: str = PATH, method: str = "POST") -> tuple[int, Any]:
        self.writer.write(b"%b %b HTTP/1.1\r\nHost: x\r\n" % (method.encode(), path.encode()))
        self.writer.write(b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        return await self.answer()

    async def answer(self) -> tuple[int, Any]:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 30)
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        body = await asyncio.wait_for(self.reader.readexactly(int(fields[b"content-length"])), 30)
        json_type = b"application/json" in fields[b"content-type"]
        return int(head.split(b" ")[1]), json.loads(body) if json_type else body

    async def ended(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(1), 30) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.writer.transport.abort()


Scene = Callable[[Stage], Awaitable[None]]


def play(scene: Scene, *, timeout_s: float = 60.0) -> Stage:
    async def run() -> Stage:
        stage = Stage(timeout_s)
        try:
            await stage.listener.serve(stage.socket, context_of(selfsigned("one.test")))
            await scene(stage)
        finally:
            await stage.listener.close()
            stage.socket.close()
            await asyncio.sleep(0)
        return stage

    return uvloop.run(run())


def test_reviews_are_answered_one_after_the_other_on_one_connection() -> None:
    async def scene(stage: Stage) -> None:
        client = await stage.connect()
        for name, allowed in (("good", True), ("bad", False), ("good", True)):
            status, answered = await client.ask(review_of(name))
            assert (status, answered["response"]["allowed"]) == (200, allowed)
        client.close()

    assert play(scene).answers == ["allowed", "denied", "allowed"]


def test_what_is_no_review_gets_400_and_other_places_404() -> None:
    async def scene(stage: Stage) -> None:
        for body, path, method, expected in (
            (b"{}", PATH, "POST", 400),
            (b"{}", "/", "POST", 404),
            (b"{}", PATH + "/x", "POST", 404),
            (b"", PATH, "GET", 405),
        ):
            client = await stage.connect()
            assert (await client.ask(body, path=path, method=method))[0] == expected
            client.close()

    assert play(scene).answers == ["failed"]


@pytest.mark.parametrize(("size", "status"), [(MAX_BODY_BYTES, 400), (MAX_BODY_BYTES + 1, 413), (9 << 20, 413)])
def test_a_body_at_and_above_the_limit(size: int, status: int) -> None:
    async def scene(stage: Stage) -> None:
        client = await stage.connect()
        assert (await client.ask(b"x" * size))[0] == status
        client.close()

    play(scene)


def test_a_body_above_the_limit_that_does_not_say_how_long_it_is() -> None:
    async def scene(stage: Stage) -> None:
        client = await stage.connect()
        client.writer.write(b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % PATH.encode())
        client.writer.write((b"100000\r\n" + b"x" * (1 << 20) + b"\r\n") * 4 + b"0\r\n\r\n")
        assert (await client.answer())[0] == 413
        client.close()

    play(scene)


def test_a_body_that_does_not_come_is_given_up_and_the_next_review_is_answered() -> None:
    async def scene(stage: Stage) -> None:
        slow = await stage.connect()
        stage.listener._timeout_s = 0.2  # Nobody but the slow one is measured by it, however slow we are.
        slow.writer.write(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{" % PATH.encode())
        assert (await slow.answer())[0] == 408
        assert await slow.ended()
        stage.listener._timeout_s = 60.0
        client = await stage.connect()
        assert (await client.ask(review_of("good")))[0] == 200
        slow.close()
        client.close()

    assert play(scene).answers == ["failed", "allowed"]


@pytest.mark.parametrize("sent", [b"", b"POST /netw", b"POST / HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_does_not_come_costs_a_connection_no_longer_than_the_deadline(sent: bytes) -> None:
    async def scene(stage: Stage) -> None:
        stage.listener._connections._patience_s = 0.2
        client = await stage.connect()
        client.writer.write(sent)
        assert await client.ended()
        assert len(stage.listener._connections) == 0
        client.close()

    play(scene)


def test_a_handshake_that_does_not_come_is_given_up() -> None:
    async def scene(stage: Stage) -> None:
        with socket.create_connection(("127.0.0.1", stage.port)) as silent:
            silent.setblocking(False)
            assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(silent, 1), 30) == b""

    play(scene, timeout_s=0.2)


def test_an_answered_connection_may_wait_longer_than_the_deadline() -> None:
    async def scene(stage: Stage) -> None:
        client = await stage.connect()
        stage.listener._connections._patience_s = 0.2  # Of the first head 60 s are left.
        assert (await client.ask(review_of("good")))[0] == 200
        await asyncio.sleep(0.4)
        assert (await client.ask(review_of("good")))[0] == 200
        client.close()

    play(scene)


def test_more_reviews_at_once_than_there_is_room_for_are_refused_and_the_others_answered() -> None:
    async def scene(stage: Stage) -> None:
        waiting = [await stage.connect() for _ in range(limits.AT_ONCE)]
        body = review_of("good")
        for client in waiting:
            client.writer.write(
                b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (PATH.encode(), len(body))
            )
        while stage.listener._running < limits.AT_ONCE:
            await asyncio.sleep(0.005)
        extra = await stage.connect()
        assert (await extra.ask(body))[0] == 503
        assert await extra.ended()
        for client in waiting:
            client.writer.write(body)
            assert (await client.answer())[0] == 200
            client.close()
        again = await stage.connect()
        assert (await again.ask(body))[0] == 200
        for client in (extra, again):
            client.close()

    play(scene)


def test_connections_are_limited_and_one_that_goes_makes_room() -> None:
    async def scene(stage: Stage) -> None:
        stage.listener._connections._most = 2
        first, second = await stage.connect(), await stage.connect()
        try:
            third = await stage.connect()
        except ConnectionError:
            pass
        else:
            assert await third.ended()
            third.close()
        first.close()
        while len(stage.listener._connections) > 1:
            await asyncio.sleep(0.005)
        fourth = await stage.connect()
        assert (await fourth.ask(review_of("good")))[0] == 200
        for client in (second, fourth):
            client.close()

    play(scene)


def test_a_new_certificate_serves_new_connections_and_the_old_ones_live_on() -> None:
    async def scene(stage: Stage) -> None:
        old = await stage.connect()
        assert old.names() == ["one.test"]
        await stage.listener.serve(stage.socket, context_of(selfsigned("two.test")))
        new = await stage.connect()
        assert new.names() == ["two.test"]
        for client in (old, new):
            assert (await client.ask(review_of("good")))[0] == 200
            client.close()

    play(scene)


def test_stopped_it_accepts_no_more_and_begins_again_on_the_same_socket() -> None:
    async def scene(stage: Stage) -> None:
        stage.listener.stop()
        connecting = asyncio.create_task(stage.connect())
        await asyncio.sleep(0.1)
        assert not connecting.done(), "whoever connects waits in the socket that the supervisor keeps"
        await stage.listener.serve(stage.socket, context_of(selfsigned("two.test")))
        client = await connecting
        assert (await client.ask(review_of("good")))[0] == 200
        client.close()

    play(scene)


def test_old_versions_of_tls_are_refused() -> None:
    async def scene(stage: Stage) -> None:
        with pytest.warns(DeprecationWarning), pytest.raises((ssl.SSLError, ConnectionError)):
            await stage.connect(maximum_version=ssl.TLSVersion.TLSv1_1)
        client = await stage.connect(maximum_version=ssl.TLSVersion.TLSv1_2)
        assert (await client.ask(review_of("good")))[0] == 200
        client.close()

    play(scene)
