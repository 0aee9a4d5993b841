"""Asking a step's request and comparing what came back with what the step expects."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from typing import Any

from cases.world import World, parse_ask
from stage import certificates
from stage.echo import Echo
from stage.running import Ingressd
from stage.wire import Client, Reply, ask, client_tls, request_bytes

ASK_KEYS = {
    "ask", "headers", "lines", "body_bytes", "body", "chunked", "version", "server_name", "raw", "after_100",
    "websocket", "times", "one_connection", "expect", "wait_s",
}  # fmt: skip
EXPECT_KEYS = {
    "status", "from", "echo", "upstream_headers", "headers", "body", "empty", "certificate", "common_name", "statuses",
    "endpoints", "share", "tolerance", "distinct_endpoints", "seen", "only", "reached", "never", "frames",
}  # fmt: skip

Step = dict[str, Any]


class Asking:
    """The request of one step, ready to be sent."""

    def __init__(self, step: Step, ingressd: Ingressd) -> None:
        unknown = set(step) - ASK_KEYS | set(step.get("expect", {})) - EXPECT_KEYS
        assert not unknown, f"unknown keys of a step: {sorted(unknown)}"
        self.step = step
        self.method, self.tls, host, self.target = parse_ask(step.get("ask", "GET http://-/"))
        self.address = ingressd.https if self.tls else ingressd.http
        self.host = host or self.address[0]
        self.server_name = step.get("server_name", host.split(":")[0]) if self.tls else ""

    def _bytes(self, *, keep_alive: bool = False) -> bytes:
        step = self.step
        if "raw" in step:
            return step["raw"].encode("latin-1")
        body = b"x" * step["body_bytes"] if "body_bytes" in step else None
        data = request_bytes(
            self.target, host=None if self.host == "-" else self.host, method=self.method,
            version=step.get("version", "1.1"), headers=step.get("headers"), lines=step.get("lines", ()),
            body=body, chunked=step.get("chunked", False), keep_alive=keep_alive,
        )  # fmt: skip
        return data + step.get("body", "").encode("latin-1")

    def replies(self) -> list[Reply]:
        """Send it as often as the step says."""
        times = self.step.get("times", 1)
        tls = client_tls() if self.tls else None
        if self.step.get("one_connection"):
            with Client(self.address, tls=tls, server_name=self.server_name) as client:
                found = []
                for _ in range(times):
                    client.send(self._bytes(keep_alive=True))
                    found.append(client.reply(self.method))
                return found
        if "websocket" in self.step or "after_100" in self.step:
            with Client(self.address, tls=tls, server_name=self.server_name) as client:
                return [self._websocket(client) if "websocket" in self.step else self._after_100(client)]
        method = self.step["raw"].split(" ")[0] if "raw" in self.step else self.method
        return [
            ask(
                self.address, tls=tls, server_name=self.server_name, raw=self._bytes(), method=method,
                timeout_s=self.step.get("wait_s", 10.0),
            )
            for _ in range(times)
        ]  # fmt: skip

    def _after_100(self, client: Client) -> Reply:
        """Send the body only when 100 (Continue) came, or a final answer instead of it."""
        client.send(self._bytes())
        client.wait_for(b"\r\n\r\n")
        client.send(self.step["after_100"].encode("latin-1"))
        return client.reply(self.method)

    def _websocket(self, client: Client) -> Reply:
        """Upgrade and send texts; what came back becomes the body, one line each."""
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        lines = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", key]
        client.send(request_bytes(self.target, host=self.host, lines=lines, headers=self.step.get("headers")))
        reply = client.reply()
        frames = []
        for text in self.step["websocket"] if reply.status == 101 else []:
            mask = os.urandom(4)
            masked = bytes(byte ^ mask[i & 3] for i, byte in enumerate(text.encode()))
            client.send(bytes([0x81, 0x80 | len(masked)]) + mask + masked)
            head = client.take(2)
            frames.append(client.take(head[1]).decode())
        reply.body = "\n".join(frames).encode()
        return reply


def _agrees(wanted: Any, got: str | None) -> bool:
    if wanted is None or got is None:
        return wanted is got
    text = str(wanted)
    return re.search(text[1:], got) is not None if text.startswith("~") else got == text


def _echoed(reply: Reply) -> dict[str, Any]:
    try:
        value = json.loads(reply.body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) and "service" in value else {}


def wrong_with(expect: Step, reply: Reply) -> list[str]:
    """Every difference between what is expected of each reply and this one."""
    wrong: list[str] = []

    def compare(what: str, wanted: Any, got: Any, *, good: bool) -> None:
        if not good:
            wrong.append(f"{what}: expected {wanted!r}, got {got!r}")

    status = expect.get("status")
    if status is not None:
        allowed = status if isinstance(status, list) else [status]
        shown = f"{reply.status} {reply.detail or reply.text[:200]}"
        compare("status", status, shown, good=reply.status in allowed)
    for name, wanted in expect.get("headers", {}).items():
        got = reply.all(name)
        compare(f"header {name}", wanted, got, good=_agrees(wanted, ",".join(got) if got else None))
    echoed = _echoed(reply)
    if "from" in expect:
        compare("from", expect["from"], echoed.get("service"), good=echoed.get("service") == expect["from"])
    for key, wanted in expect.get("echo", {}).items():
        compare(f"echo {key}", wanted, echoed.get(key), good=echoed.get(key) == wanted)
    for name, wanted in expect.get("upstream_headers", {}).items():
        got = echoed.get("headers", {}).get(name.lower())
        compare(
            f"upstream saw {name}", wanted, got, good=bool(echoed) and _agrees(wanted, ",".join(got) if got else None)
        )
    if "body" in expect:
        compare("body", f"…{expect['body']}…", reply.text[:300], good=expect["body"] in reply.text)
    if expect.get("empty"):
        compare("body", "none", reply.text[:80], good=not reply.body)
    if "frames" in expect:
        compare("frames", expect["frames"], reply.text, good=reply.text.split("\n") == expect["frames"])
    common_name, names = certificates.names_of(reply.certificate)
    if "certificate" in expect:
        compare("certificate", expect["certificate"], names, good=certificates.covers(names, expect["certificate"]))
    if "common_name" in expect:
        compare("common name", expect["common_name"], common_name, good=common_name == expect["common_name"])
    return wrong


def wrong_together(expect: Step, replies: list[Reply]) -> list[str]:
    """What is wrong with the replies as a whole."""
    wrong: list[str] = []
    endpoints = Counter(str(_echoed(reply).get("endpoint")) for reply in replies if _echoed(reply))
    statuses = Counter(str(reply.status) for reply in replies)
    for key, counts in (("statuses", statuses), ("endpoints", endpoints)):
        for value, (least, most) in expect.get(key, {}).items():
            if not least <= counts[str(value)] <= most:
                wrong.append(f"{key} {value}: expected {least} to {most}, got {dict(counts)}")
    for endpoint, share in expect.get("share", {}).items():
        if abs(endpoints[endpoint] / len(replies) - share) > expect.get("tolerance", 0.1):
            wrong.append(f"share of {endpoint}: expected {share}, got {dict(endpoints)}")
    if not set(expect.get("seen", [])) <= set(endpoints):
        wrong.append(f"endpoints: expected to see {expect['seen']}, got {dict(endpoints)}")
    if "only" in expect and (not endpoints or set(endpoints) - set(expect["only"])):
        wrong.append(f"endpoints: expected only {expect['only']}, got {dict(endpoints)}")
    least, most = expect.get("distinct_endpoints", (0, len(endpoints)))
    if not least <= len(endpoints) <= most:
        wrong.append(f"distinct endpoints: expected {least} to {most}, got {dict(endpoints)}")
    return wrong


def wrong_at(expect: Step, echoes: list[Echo], marks: list[int]) -> list[str]:
    """What the echoes saw since `marks` that they should not have, or did not see."""
    if not {"reached", "never"} & set(expect):
        return []
    time.sleep(0.05)  # A request that must not arrive is given the time to arrive.
    new = [seen for echo, mark in zip(echoes, marks, strict=True) for seen in echo.seen[mark:]]
    reached = Counter(seen.service for seen in new)
    wrong = [
        f"requests at {service}: expected {count}, got {dict(reached)}"
        for service, count in expect.get("reached", {}).items()
        if (sum(reached.values()) if service == "*" else reached[service]) != count
    ]
    return wrong + [f"{seen.path} reached {seen.endpoint}" for seen in new if seen.path in expect.get("never", [])]


def judge(world: World, ingressd: Ingressd) -> list[str]:
    """Run the steps of a case; everything that is wrong."""
    wrong: list[str] = []
    for number, step in enumerate(world.case["steps"], 1):
        expect = step.get("expect", {})
        marks = [len(echo.seen) for echo in world.echoes]
        replies = Asking(step, ingressd).replies()
        each = [line for reply in replies for line in wrong_with(expect, reply)][:4]
        found = each + wrong_together(expect, replies) + wrong_at(expect, world.echoes, marks)
        wrong += [f"step {number}, {step.get('ask') or step['raw'][:60]!r}: {line}" for line in found]
    for service, most in world.case.get("upstream_connections", {}).items():
        accepted = sum(echo.accepted for echo in world.echoes if echo.service == service)
        if accepted > most:
            wrong.append(f"connections at {service}: expected at most {most}, got {accepted}")
    return wrong
